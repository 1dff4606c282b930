//! JSON to Lua and back, so that a value that a script only reads comes back as it was.
//!
//! What JSON tells apart and Lua does not, is remembered by the table's identity: the order of keys, null fields, `1.0` and `1`.
//! A null field reads as `nil`; in a list, where a `nil` would be a hole, null is `std.json.null`.

use std::collections::HashMap;
use std::fmt;

use mlua::{Lua, LuaSerdeExt, Table, Value as Lv};
use serde_json::{Map, Number, Value};

/// The deepest nesting that leaves a script, as for JSON itself.
const MAX_DEPTH: usize = 128;

/// The most values in one on its way back: a few small tables, each with the one before in it twice, are a tree without end.
const MAX_NODES: usize = 250_000;

/// The most text in one value on its way back, in bytes.
const MAX_TEXT: usize = 64 << 20;

/// Which table stands for which part of the original.
#[derive(Default)]
pub(super) struct Origins {
    /// The table's address, and the number of the original's part in the order of `parts`.
    by_table: HashMap<usize, usize>,
    /// Holds the tables, so that no address is used twice.
    anchors: Option<Table>,
}

/// A value that cannot leave the script, and where it stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    path: String,
    problem: String,
}

impl Misfit {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Misfit { path: String::new(), problem: problem.into() }
    }

    pub(super) fn under(mut self, part: &str) -> Self {
        self.path.insert_str(0, part);
        self
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path, self.problem)
    }
}

/// A table or value for scripts. A null field of an object is `json.null`.
pub(super) fn to_lua(lua: &Lua, value: &Value) -> mlua::Result<Lv> {
    Outward { lua, origins: None, n_parts: 0 }.value(value)
}

/// The same for a hook's argument: null fields read as `nil`, and `origins` learns which table stands for what.
pub(super) fn to_lua_traced(lua: &Lua, value: &Value, origins: &mut Origins) -> mlua::Result<Lv> {
    Outward { lua, origins: Some(origins), n_parts: 0 }.value(value)
}

struct Outward<'a> {
    lua: &'a Lua,
    origins: Option<&'a mut Origins>,
    n_parts: usize,
}

impl Outward<'_> {
    fn value(&mut self, value: &Value) -> mlua::Result<Lv> {
        Ok(match value {
            Value::Null => Lv::NULL,
            Value::Bool(flag) => Lv::Boolean(*flag),
            Value::Number(number) => Lv::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => Lv::String(self.lua.create_string(text)?),
            Value::Array(items) => {
                let table = self.lua.create_table_with_capacity(items.len(), 0)?;
                self.trace(&table)?;
                for (index, item) in items.iter().enumerate() {
                    table.raw_seti(index + 1, self.value(item)?)?;
                }
                table.set_metatable(Some(self.lua.array_metatable()))?;
                Lv::Table(table)
            }
            Value::Object(fields) => {
                let table = self.lua.create_table_with_capacity(0, fields.len())?;
                self.trace(&table)?;
                for (name, field) in fields {
                    if !field.is_null() || self.origins.is_none() {
                        table.raw_set(name.as_str(), self.value(field)?)?;
                    }
                }
                Lv::Table(table)
            }
        })
    }

    /// Numbers the tables in the order in which `parts` numbers the originals.
    fn trace(&mut self, table: &Table) -> mlua::Result<()> {
        if let Some(origins) = &mut self.origins {
            let anchors = match &mut origins.anchors {
                Some(anchors) => anchors,
                none => none.insert(self.lua.create_table()?),
            };
            anchors.raw_push(table)?;
            origins.by_table.insert(table.to_pointer() as usize, self.n_parts);
            self.n_parts += 1;
        }
        Ok(())
    }
}

/// The value that a script made.
pub(super) fn from_lua(lua: &Lua, value: &Lv) -> Result<Value, Misfit> {
    Homeward::new(lua, &HashMap::new(), None).value(value, None)
}

/// The value of a hook's argument after the hook; `original` is what `to_lua_traced` made with `origins`.
pub(super) fn from_lua_traced(lua: &Lua, value: &Lv, original: &Value, origins: &Origins) -> Result<Value, Misfit> {
    Homeward::new(lua, &origins.by_table, Some(original)).value(value, Some(original))
}

struct Homeward<'a> {
    array: Table,
    by_table: &'a HashMap<usize, usize>,
    parts: Vec<&'a Value>,
    /// The tables that the current one stands in.
    above: Vec<usize>,
    n_nodes: usize,
    text_bytes: usize,
}

impl<'a> Homeward<'a> {
    fn new(lua: &Lua, by_table: &'a HashMap<usize, usize>, original: Option<&'a Value>) -> Self {
        let mut found = Vec::new();
        if let Some(original) = original
            && !by_table.is_empty()
        {
            parts(original, &mut found);
        }
        Homeward { array: lua.array_metatable(), by_table, parts: found, above: Vec::new(), n_nodes: 0, text_bytes: 0 }
    }

    /// `likely` is what stood at the same place; a table that is known by identity overrules it.
    fn value(&mut self, value: &Lv, likely: Option<&'a Value>) -> Result<Value, Misfit> {
        self.n_nodes += 1;
        if self.n_nodes > MAX_NODES + self.parts.len() {
            return Err(Misfit::new("is too large"));
        }
        match value {
            Lv::Nil => Ok(Value::Null),
            Lv::LightUserData(pointer) if pointer.0.is_null() => Ok(Value::Null),
            Lv::Boolean(flag) => Ok(Value::Bool(*flag)),
            Lv::Integer(number) => Ok(as_it_was(*number as f64, likely).unwrap_or_else(|| Value::from(*number))),
            Lv::Number(number) => as_it_was(*number, likely)
                .or_else(|| Number::from_f64(*number).map(Value::Number))
                .ok_or_else(|| Misfit::new(format!("is {number}, which JSON cannot say"))),
            Lv::String(text) => Ok(Value::String(self.text(text, "is text that is not UTF-8")?)),
            Lv::Table(table) => {
                let address = table.to_pointer() as usize;
                if self.above.contains(&address) {
                    return Err(Misfit::new("is a table that contains itself"));
                }
                if self.above.len() == MAX_DEPTH {
                    return Err(Misfit::new(format!("is nested more than {MAX_DEPTH} tables deep")));
                }
                self.above.push(address);
                let known = self.by_table.get(&address).and_then(|part| self.parts.get(*part).copied());
                let result = self.table(table, known, known.or(likely));
                self.above.pop();
                result
            }
            other => Err(Misfit::new(format!("is a {}, which JSON cannot say", other.type_name()))),
        }
    }

    fn table(&mut self, table: &Table, known: Option<&'a Value>, likely: Option<&'a Value>) -> Result<Value, Misfit> {
        let length = table.raw_len();
        if length > 0 || table.metatable().is_some_and(|found| found == self.array) {
            return self.list(table, length, likely);
        }
        if table.is_empty() && likely.is_some_and(Value::is_array) {
            return Ok(Value::Array(Vec::new()));
        }
        self.object(table, known, likely.and_then(Value::as_object))
    }

    fn list(&mut self, table: &Table, length: usize, likely: Option<&'a Value>) -> Result<Value, Misfit> {
        let likely = likely.and_then(Value::as_array);
        let mut items = vec![None; length];
        for pair in table.pairs::<Lv, Lv>() {
            let (key, item) = pair.map_err(unreadable)?;
            let index = match key {
                Lv::Integer(index) => index,
                other => return Err(Misfit::new(format!("is a list with the field {}", shown(&other)))),
            };
            let place = usize::try_from(index).ok().and_then(|index| index.checked_sub(1)).filter(|place| *place < length);
            let Some(place) = place else {
                return Err(Misfit::new(format!("is a list with holes: it has {length} items and one at [{index}]")));
            };
            let likely = likely.and_then(|before| before.get(place));
            items[place] = Some(self.value(&item, likely).map_err(|misfit| misfit.under(&format!("[{index}]")))?);
        }
        match items.iter().position(Option::is_none) {
            Some(place) => Err(Misfit::new(format!("is a list with holes: [{}] is missing", place + 1))),
            None => Ok(Value::Array(items.into_iter().flatten().collect())),
        }
    }

    fn object(&mut self, table: &Table, known: Option<&'a Value>, likely: Option<&'a Map<String, Value>>) -> Result<Value, Misfit> {
        let mut fields = Map::new();
        for pair in table.pairs::<Lv, Lv>() {
            let (key, field) = pair.map_err(unreadable)?;
            let Lv::String(name) = &key else {
                return Err(Misfit::new(format!("has the key {}; keys are text, or 1, 2, 3, ... in a list", shown(&key))));
            };
            let name = self.text(name, "has a key that is not UTF-8")?;
            let likely = likely.and_then(|fields| fields.get(&name));
            let field = self.value(&field, likely).map_err(|misfit| misfit.under(&format!(".{name}")))?;
            fields.insert(name, field);
        }
        Ok(Value::Object(in_order(fields, known.is_some(), likely)))
    }

    fn text(&mut self, text: &mlua::LuaString, problem: &str) -> Result<String, Misfit> {
        self.text_bytes = self.text_bytes.saturating_add(text.as_bytes().len());
        if self.text_bytes > MAX_TEXT {
            return Err(Misfit::new("is too large"));
        }
        text.to_str().map(|text| text.to_owned()).map_err(|_| Misfit::new(problem))
    }
}

/// The fields of the original in their order, the new ones behind, sorted. Of a table that is the original's own, null fields are kept.
fn in_order(mut fields: Map<String, Value>, is_own: bool, likely: Option<&Map<String, Value>>) -> Map<String, Value> {
    let mut ordered = Map::with_capacity(fields.len());
    for (name, before) in likely.into_iter().flatten() {
        match fields.remove(name) {
            Some(field) => _ = ordered.insert(name.clone(), field),
            None if is_own && before.is_null() => _ = ordered.insert(name.clone(), Value::Null),
            None => {}
        }
    }
    fields.sort_keys();
    ordered.extend(fields);
    ordered
}

/// The original number when the script did not change it: Lua has no integers above 2^53 and no `1.0`.
fn as_it_was(number: f64, likely: Option<&Value>) -> Option<Value> {
    likely.filter(|before| before.is_number() && before.as_f64() == Some(number)).cloned()
}

/// The arrays and objects of a value, in the order in which they are made into tables.
fn parts<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => {
            found.push(value);
            items.iter().for_each(|item| parts(item, found));
        }
        Value::Object(fields) => {
            found.push(value);
            fields.values().for_each(|field| parts(field, found));
        }
        _ => {}
    }
}

fn shown(key: &Lv) -> String {
    match key {
        Lv::String(text) => format!("`{}`", text.to_string_lossy()),
        Lv::Integer(number) => number.to_string(),
        Lv::Number(number) => number.to_string(),
        other => format!("of type {}", other.type_name()),
    }
}

pub(super) fn unreadable(error: mlua::Error) -> Misfit {
    Misfit::new(format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What comes back of `before` after `script` has had it as `it`.
    fn through(before: &Value, script: &str) -> Result<Value, String> {
        let lua = Lua::new();
        let mut origins = Origins::default();
        let it = to_lua_traced(&lua, before, &mut origins).unwrap();
        lua.globals().set("it", it).unwrap();
        lua.globals().set("null", Lv::NULL).unwrap();
        lua.globals().set("array_mt", lua.array_metatable()).unwrap();
        lua.load(script).exec().unwrap();
        from_lua_traced(&lua, &lua.globals().get("it").unwrap(), before, &origins).map_err(|misfit| misfit.to_string())
    }

    #[test]
    fn a_value_that_is_only_read_comes_back_to_the_byte() {
        let before = json!({
            "z": 1, "a": [], "empty": {}, "null": null, "list": [1, null, 2.0, [[]], {}], "float": 1.0, "half": 0.5,
            "big": 12345678901234567890_u64, "small": i64::MIN, "text": "\u{0}\u{1F319}", "flag": false, "inner": { "y": null, "b": 1 },
        });
        assert_eq!(through(&before, "").unwrap().to_string(), before.to_string());
    }

    #[test]
    fn a_null_field_reads_as_nil_and_may_be_replaced() {
        let before = json!({ "content": null, "role": "assistant" });
        let after = through(&before, "assert(it.content == nil) it.content = 'x'").unwrap();
        assert_eq!(after.to_string(), r#"{"content":"x","role":"assistant"}"#);
    }

    #[test]
    fn identity_survives_a_shift_of_the_list() {
        let before = json!([{ "role": "user", "content": null }, { "role": "tool", "a": [] }]);
        let after = through(&before, "table.insert(it, 1, { content = 'c', role = 'system' })").unwrap();
        assert_eq!(after.to_string(), r#"[{"role":"system","content":"c"},{"role":"user","content":null},{"role":"tool","a":[]}]"#);
    }

    #[test]
    fn a_new_table_in_the_place_of_an_old_one_keeps_the_order_and_no_nulls() {
        let before = json!({ "x": { "b": 1, "n": null, "a": 2 } });
        assert_eq!(through(&before, "it.x = { a = 2, b = 1, c = 3 }").unwrap().to_string(), r#"{"x":{"b":1,"a":2,"c":3}}"#);
    }

    #[test]
    fn removed_fields_are_gone_and_emptied_lists_stay_lists() {
        let before = json!({ "a": 1, "list": [1, 2] });
        assert_eq!(through(&before, "it.a = nil; it.list[2] = nil; it.list[1] = nil").unwrap(), json!({ "list": [] }));
    }

    #[test]
    fn a_list_filled_from_its_end_keeps_its_order() {
        assert_eq!(through(&json!({}), "it = {} for i = 9, 1, -1 do it[i] = i end").unwrap(), json!([1, 2, 3, 4, 5, 6, 7, 8, 9]));
    }

    #[test]
    fn a_new_empty_table_is_an_object_and_a_marked_one_a_list() {
        let after = through(&json!({}), "it = { a = {}, b = setmetatable({}, array_mt), c = null }").unwrap();
        assert_eq!(after, json!({ "a": {}, "b": [], "c": null }));
    }

    #[test]
    fn what_json_cannot_say_is_refused_with_its_place() {
        for (script, expected) in [
            ("it.f = print", ".f is a function, which JSON cannot say"),
            ("it.list = { 1, { n = 0/0 } }", ".list[2].n is NaN, which JSON cannot say"),
            ("it.t = '\\255'", ".t is text that is not UTF-8"),
            ("it['\\255'] = 1", " has a key that is not UTF-8"),
            ("it.self = it", ".self is a table that contains itself"),
            ("it.l = { 1, x = 2 }", ".l is a list with the field `x`"),
            ("it.l = { 1, 2, nil, 4 }", ".l is a list with holes: [3] is missing"),
            ("it.l = setmetatable({ [3] = 1 }, array_mt)", ".l is a list with holes: it has 0 items and one at [3]"),
            ("it.l = { [true] = 1 }", ".l has the key of type boolean; keys are text, or 1, 2, 3, ... in a list"),
            ("it.c = coroutine.create(print)", ".c is a thread, which JSON cannot say"),
            ("local t = it for i = 1, 200 do t.d = {} t = t.d end", "is nested more than 128 tables deep"),
            ("local t = {} for i = 1, 40 do t = { t, t } end it.bomb = t", "is too large"),
        ] {
            let message = through(&json!({}), script).unwrap_err();
            assert!(message.ends_with(expected), "{script}: {message}");
        }
    }
}
