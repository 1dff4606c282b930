//! JSON to Lua and back, so that a value that a script only reads comes back as it was.
//!
//! What JSON tells apart and Lua does not, is remembered by the table's identity: the order of keys, null fields, `1.0` and `1`.
//! A null field reads as `nil`; in a list, where a `nil` would be a hole, null is `std.json.null`.

use mlua::{Either, IntoLua, Lua, LuaSerdeExt, Table, Value as Lv};
use serde_json::{Map, Value};

pub(super) use super::homeward::{Misfit, from_lua, from_lua_traced, from_lua_within, unreadable};
use super::watch::Watched;

/// Which table stands for which part of the original, in the order of `parts`.
#[derive(Default)]
pub(super) struct Origins {
    /// The tables' addresses.
    pub addresses: Vec<usize>,
    /// The tables. It holds them, so that no address is used twice.
    watched: Option<Watched>,
}

impl Origins {
    /// The numbers of the tables that a script has changed, ascending.
    pub(super) fn changed(&self, lua: &Lua) -> mlua::Result<Vec<usize>> {
        self.watched.as_ref().map_or_else(|| Ok(Vec::new()), |watched| watched.changed(lua))
    }
}

/// A table or value for scripts. A null field of an object is `json.null`.
pub(super) fn to_lua(lua: &Lua, value: &Value) -> mlua::Result<Lv> {
    Outward { lua, array: None, trace: None }.value(value).into_lua(lua)
}

/// The same for a hook's argument: null fields read as `nil`, and `origins` learns which table stands for what.
pub(super) fn to_lua_traced(lua: &Lua, value: &Value, origins: &mut Origins) -> mlua::Result<Lv> {
    let mut outward = Outward { lua, array: None, trace: Some((lua.create_table()?, &mut origins.addresses)) };
    let made = outward.value(value).into_lua(lua)?;
    if let Some((tables, _)) = outward.trace {
        origins.watched = Some(Watched::new(lua, tables)?);
    }
    Ok(made)
}

/// The same for a value that is neither list nor object.
pub(super) fn scalar(value: &Value) -> Made<'_> {
    Either::Right(Whole(Ok(match value {
        Value::String(text) => return Either::Left(text),
        Value::Bool(flag) => Lv::Boolean(*flag),
        Value::Number(number) => Lv::Number(number.as_f64().unwrap_or(f64::NAN)),
        _ => Lv::NULL,
    })))
}

struct Outward<'a> {
    lua: &'a Lua,
    /// The metatable of lists, once there is one.
    array: Option<Table>,
    /// The tables made and their addresses.
    trace: Option<(Table, &'a mut Vec<usize>)>,
}

/// A value on its way into a table. Text goes there directly: a `Lv` of it would be a reference, made and dropped at some cost.
pub(super) type Made<'a> = Either<&'a str, Whole>;

/// A value that is not text, or why it could not be made.
pub(super) struct Whole(mlua::Result<Lv>);

impl IntoLua for Whole {
    fn into_lua(self, _: &Lua) -> mlua::Result<Lv> {
        self.0
    }
}

impl Outward<'_> {
    fn value<'v>(&mut self, value: &'v Value) -> Made<'v> {
        match value {
            Value::Array(items) => Either::Right(Whole(self.list(items).map(Lv::Table))),
            Value::Object(fields) => Either::Right(Whole(self.object(fields).map(Lv::Table))),
            other => scalar(other),
        }
    }

    fn list(&mut self, items: &[Value]) -> mlua::Result<Table> {
        let table = self.lua.create_sequence_from(items.iter().map(|item| self.value(item)))?;
        table.set_metatable(Some(self.array.get_or_insert_with(|| self.lua.array_metatable()).clone()))?;
        self.traced(table)
    }

    fn object(&mut self, fields: &Map<String, Value>) -> mlua::Result<Table> {
        let lua = self.lua;
        let drops_null = self.trace.is_some();
        let kept = fields.iter().filter(|(_, field)| !(drops_null && field.is_null()));
        let table = lua.create_table_from(Sized(kept.map(|(name, field)| (name.as_str(), self.value(field))), fields.len()))?;
        self.traced(table)
    }

    /// Numbers the tables in the order in which `parts` numbers the originals.
    fn traced(&mut self, table: Table) -> mlua::Result<Table> {
        if let Some((tables, addresses)) = &mut self.trace {
            addresses.push(table.to_pointer() as usize);
            tables.raw_seti(addresses.len(), &table)?;
        }
        Ok(table)
    }
}

/// An iterator that says how many items are to be expected: a table of that size is made at once.
pub(super) struct Sized<I>(pub I, pub usize);

impl<I: Iterator> Iterator for Sized<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.1, None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::super::meter::Meter;
    use super::super::{change, watch};
    use super::*;

    /// What comes back of `before` after `script` has had it as `it`.
    fn through(before: &Value, script: &str) -> Result<Value, String> {
        let lua = Lua::new();
        watch::install(&lua, &lua.globals(), &Arc::new(Meter::new())).unwrap();
        let mut origins = Origins::default();
        let it = to_lua_traced(&lua, before, &mut origins).unwrap();
        lua.globals().set("it", it).unwrap();
        lua.globals().set("null", Lv::NULL).unwrap();
        lua.globals().set("array_mt", lua.array_metatable()).unwrap();
        lua.load(script).exec().unwrap();
        let changed = origins.changed(&lua).unwrap();
        let now = from_lua_traced(&lua, &lua.globals().get("it").unwrap(), before, &origins, &changed);
        let mut fields = Map::from_iter([("it".to_owned(), before.clone())]);
        let changes = now.map_err(|misfit| misfit.to_string())?.map(|now| ("it".to_owned(), Some(now)));
        change::apply(&mut fields, changes.into_iter().collect(), |_, _| Ok(()), true).unwrap();
        Ok(fields["it"].clone())
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
    fn what_is_deep_inside_changes_alone() {
        let before = json!([{ "z": 1.0, "a": [{ "n": null, "x": 2.0 }, 3.0] }, { "big": 12345678901234567890_u64, "n": null }]);
        let after = through(&before, "it[1].a[1].x = 'new'").unwrap();
        let expected = r#"[{"z":1.0,"a":[{"n":null,"x":"new"},3.0]},{"big":12345678901234567890,"n":null}]"#;
        assert_eq!(after.to_string(), expected);
    }

    #[test]
    fn an_item_may_stand_in_many_places() {
        let before = json!([{ "a": 1.0, "n": null }, { "b": [2.0] }]);
        let after = through(&before, "it[3] = it[1]; it[4] = { inner = it[2], list = it[2].b }; table.remove(it, 1)").unwrap();
        assert_eq!(after.to_string(), r#"[{"b":[2.0]},{"a":1.0,"n":null},{"inner":{"b":[2.0]},"list":[2.0]}]"#);
        let after = through(&json!({ "list": [{ "a": 1.0 }] }), "it.list, it.first = { it.list[1], it.list[1] }, it.list[1]").unwrap();
        assert_eq!(after.to_string(), r#"{"list":[{"a":1.0},{"a":1.0}],"first":{"a":1.0}}"#);
    }

    #[test]
    fn metatables_of_scripts_have_no_say() {
        let trap = "local function trap() error('called') end
            local trapped = { __eq = trap, __iter = trap, __index = trap, __newindex = trap, __len = trap, __call = trap }
            setmetatable(trapped, trapped) setmetatable(it[1], trapped)";
        let before = json!([{ "a": 1.0 }, { "b": 2.0 }]);
        assert_eq!(through(&before, trap).unwrap().to_string(), before.to_string());
        let after = through(&before, &format!("{trap} rawset(it[1], 'c', 3) it[2] = nil")).unwrap();
        assert_eq!(after.to_string(), r#"[{"a":1.0,"c":3}]"#);
        assert_eq!(through(&json!([{}]), "setmetatable(it[1], array_mt)").unwrap(), json!([[]]));
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
