//! Lua to JSON: what a script made, or made of what it was given. What is wrong with a value is said with its place.

use std::fmt;

use mlua::{Lua, LuaSerdeExt, Table, Value as Lv};
use serde_json::{Map, Number, Value};

use super::change::{Item, Now};
use super::convert::Origins;
use super::stdlib::keep_time;

/// The deepest nesting that leaves a script, as for JSON itself.
const MAX_DEPTH: usize = 128;

/// The most values in one on its way back: a few small tables, each with the one before in it twice, are a tree without end.
const MAX_NODES: usize = 250_000;

/// The most text in one value on its way back, in bytes.
const MAX_TEXT: usize = 64 << 20;

/// How many values are read between two looks at the clock.
const STRIDE: usize = 4096;

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

/// The value that a script made.
pub(super) fn from_lua(lua: &Lua, value: &Lv) -> Result<Value, Misfit> {
    from_lua_within(lua, value, MAX_TEXT)
}

/// The same with at most so many bytes of text.
pub(super) fn from_lua_within(lua: &Lua, value: &Lv, max_text: usize) -> Result<Value, Misfit> {
    Homeward { max_text, ..Homeward::new(lua, &Origins::default(), &[], None) }.value(value, None)
}

/// The value of a hook's argument after the hook, or none if it is as before; `original` is what `to_lua_traced` made with `origins`,
/// which say what has `changed`.
pub(super) fn from_lua_traced(
    lua: &Lua,
    value: &Lv,
    original: &Value,
    origins: &Origins,
    changed: &[usize],
) -> Result<Option<Now>, Misfit> {
    let now = Homeward::new(lua, origins, changed, Some(original)).now(value, original)?;
    Ok((!now.is(original)).then_some(now))
}

struct Homeward<'a> {
    lua: Lua,
    max_text: usize,
    array: Table,
    parts: Vec<Part<'a>>,
    /// The tables' addresses and the numbers of their parts, sorted.
    known: Vec<(usize, usize)>,
    /// The numbers of the parts whose tables are different now, ascending.
    changed: &'a [usize],
    /// The tables that the current one stands in.
    above: Vec<usize>,
    n_nodes: usize,
    text_bytes: usize,
}

/// An array or object of the original.
#[derive(Clone, Copy)]
struct Part<'a> {
    value: &'a Value,
    /// The number of the first part in it.
    first: usize,
}

impl<'a> Homeward<'a> {
    fn new(lua: &Lua, origins: &Origins, changed: &'a [usize], original: Option<&'a Value>) -> Self {
        let mut found = Vec::with_capacity(origins.addresses.len());
        if let Some(original) = original
            && !origins.addresses.is_empty()
        {
            parts(original, &mut found);
        }
        let mut known: Vec<_> = origins.addresses.iter().enumerate().map(|(part, address)| (*address, part)).collect();
        known.sort_unstable();
        Homeward {
            lua: lua.clone(),
            max_text: MAX_TEXT,
            array: lua.array_metatable(),
            parts: found,
            known,
            changed,
            above: Vec::new(),
            n_nodes: 0,
            text_bytes: 0,
        }
    }

    /// The value itself. Of a list that was one, the items that nobody touched stay where they are.
    fn now(&mut self, value: &Lv, original: &'a Value) -> Result<Now, Misfit> {
        if let (Lv::Table(table), Value::Array(before)) = (value, original)
            && !self.parts.is_empty()
            && table.raw_len() > 0
        {
            let mut unused = self.items_of(before);
            let address = table.to_pointer() as usize;
            let likely = self.part(address).map_or(original, |(_, part)| part.value);
            self.above.push(address);
            let items = self.list(table, table.raw_len(), Some(likely), |home, item, likely| {
                let number = item.as_table().and_then(|table| home.untouched(table.to_pointer() as usize)).map(|(number, _)| number);
                let place = number.and_then(|number| unused.binary_search_by_key(&number, |(number, _)| *number).ok());
                match place.and_then(|place| unused[place].1.take()) {
                    Some(from) => Ok(Item::Kept(from)),
                    None => home.value(item, likely).map(Item::Made),
                }
            })?;
            return Ok(Now::List(items));
        }
        self.value(value, Some(original)).map(Now::Whole)
    }

    /// Which part each item of the whole original is, if it is one, ascending.
    fn items_of(&self, original: &[Value]) -> Vec<(usize, Option<usize>)> {
        let mut end = self.parts.len().saturating_sub(1);
        let tables = original.iter().enumerate().rev().filter(|(_, item)| item.is_array() || item.is_object());
        let mut items: Vec<_> = tables
            .map_while(|(index, _)| {
                let number = end.checked_sub(1)?;
                end = self.parts.get(number)?.first;
                Some((number, Some(index)))
            })
            .collect();
        items.reverse();
        items
    }

    /// `likely` is what stood at the same place; a table that is known by identity overrules it.
    fn value(&mut self, value: &Lv, likely: Option<&'a Value>) -> Result<Value, Misfit> {
        match value {
            Lv::Table(table) => {
                let address = table.to_pointer() as usize;
                if let Some((_, part)) = self.untouched(address) {
                    self.weigh(part.value, self.above.len())?;
                    return Ok(part.value.clone());
                }
                self.count(0)?;
                if self.above.contains(&address) {
                    return Err(Misfit::new("is a table that contains itself"));
                }
                if self.above.len() == MAX_DEPTH {
                    return Err(too_deep());
                }
                self.above.push(address);
                let known = self.part(address).map(|(_, part)| part.value);
                let result = self.table(table, known, known.or(likely));
                self.above.pop();
                return result;
            }
            _ => self.count(0)?,
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
            other => Err(Misfit::new(format!("is a {}, which JSON cannot say", other.type_name()))),
        }
    }

    /// The part that the table at an address was made of, and its number.
    fn part(&self, address: usize) -> Option<(usize, Part<'a>)> {
        let place = self.known.binary_search_by_key(&address, |(address, _)| *address).ok()?;
        let number = self.known.get(place)?.1;
        Some((number, *self.parts.get(number)?))
    }

    /// The same, if neither the table nor any that was made for something in it is different now.
    fn untouched(&self, address: usize) -> Option<(usize, Part<'a>)> {
        let (number, part) = self.part(address)?;
        let next = self.changed.partition_point(|changed| *changed < part.first);
        self.changed.get(next).is_none_or(|changed| *changed > number).then_some((number, part))
    }

    /// Counts an original value like one that a script made.
    fn weigh(&mut self, value: &Value, depth: usize) -> Result<(), Misfit> {
        let is_table = value.is_array() || value.is_object();
        if is_table && depth == MAX_DEPTH {
            return Err(too_deep());
        }
        self.count(value.as_str().map_or(0, str::len))?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.weigh(item, depth + 1)),
            Value::Object(fields) => fields.iter().try_for_each(|(name, field)| {
                self.text_bytes = self.text_bytes.saturating_add(name.len());
                self.weigh(field, depth + 1)
            }),
            _ => Ok(()),
        }
    }

    /// Counts a value with so much text.
    fn count(&mut self, text_bytes: usize) -> Result<(), Misfit> {
        self.n_nodes += 1;
        self.text_bytes = self.text_bytes.saturating_add(text_bytes);
        if self.n_nodes.is_multiple_of(STRIDE) && keep_time(&self.lua).is_err() {
            return Err(Misfit::new("takes too long to read"));
        }
        let is_small = self.n_nodes <= MAX_NODES + self.parts.len() && self.text_bytes <= self.max_text;
        if is_small { Ok(()) } else { Err(Misfit::new("is too large")) }
    }

    fn table(&mut self, table: &Table, known: Option<&'a Value>, likely: Option<&'a Value>) -> Result<Value, Misfit> {
        let length = table.raw_len();
        if length > 0 || table.metatable().is_some_and(|found| found == self.array) {
            return self.list(table, length, likely, Self::value).map(Value::Array);
        }
        if table.is_empty() && likely.is_some_and(Value::is_array) {
            return Ok(Value::Array(Vec::new()));
        }
        self.object(table, known.is_some(), likely.and_then(Value::as_object))
    }

    fn list<T>(
        &mut self,
        table: &Table,
        length: usize,
        likely: Option<&'a Value>,
        mut read: impl FnMut(&mut Self, &Lv, Option<&'a Value>) -> Result<T, Misfit>,
    ) -> Result<Vec<T>, Misfit> {
        let likely = likely.and_then(Value::as_array);
        let mut items: Vec<Option<T>> = std::iter::repeat_with(|| None).take(length).collect();
        each(table, |key, item| {
            let index = match key {
                Lv::Integer(index) => index,
                other => return Err(Misfit::new(format!("is a list with the field {}", shown(&other)))),
            };
            let place = usize::try_from(index).ok().and_then(|index| index.checked_sub(1)).filter(|place| *place < length);
            let Some(place) = place else {
                return Err(Misfit::new(format!("is a list with holes: it has {length} items and one at [{index}]")));
            };
            let likely = likely.and_then(|before| before.get(place));
            items[place] = Some(read(self, &item, likely).map_err(|misfit| misfit.under(&format!("[{index}]")))?);
            Ok(())
        })?;
        match items.iter().position(Option::is_none) {
            Some(place) => Err(Misfit::new(format!("is a list with holes: [{}] is missing", place + 1))),
            None => Ok(items.into_iter().flatten().collect()),
        }
    }

    fn object(&mut self, table: &Table, is_own: bool, likely: Option<&'a Map<String, Value>>) -> Result<Value, Misfit> {
        let mut fields = Vec::with_capacity(likely.map_or(0, Map::len));
        each(table, |key, field| {
            let Lv::String(name) = &key else {
                return Err(Misfit::new(format!("has the key {}; keys are text, or 1, 2, 3, ... in a list", shown(&key))));
            };
            let name = self.text(name, "has a key that is not UTF-8")?;
            let likely = likely.and_then(|fields| fields.get(&name));
            let field = self.value(&field, likely).map_err(|misfit| misfit.under(&format!(".{name}")))?;
            fields.push((name, Some(field)));
            Ok(())
        })?;
        Ok(Value::Object(in_order(fields, is_own, likely)))
    }

    fn text(&mut self, text: &mlua::LuaString, problem: &str) -> Result<String, Misfit> {
        let bytes = text.as_bytes();
        self.text_bytes = self.text_bytes.saturating_add(bytes.len());
        if self.text_bytes > self.max_text {
            return Err(Misfit::new("is too large"));
        }
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| Misfit::new(problem))
    }
}

/// Calls `f` with each key and value, until it fails. `Table::pairs` costs twice as much.
fn each(table: &Table, mut f: impl FnMut(Lv, Lv) -> Result<(), Misfit>) -> Result<(), Misfit> {
    let mut misfit = None;
    let done = table.for_each(|key: Lv, value: Lv| {
        f(key, value).map_err(|found| {
            misfit = Some(found);
            mlua::Error::runtime("a misfit")
        })
    });
    misfit.map_or_else(|| done.map_err(unreadable), Err)
}

/// The fields of the original in their order, the new ones behind, sorted. Of a table that is the original's own, null fields are kept.
fn in_order(mut fields: Vec<(String, Option<Value>)>, is_own: bool, likely: Option<&Map<String, Value>>) -> Map<String, Value> {
    fields.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut ordered = Map::with_capacity(fields.len());
    for (name, before) in likely.into_iter().flatten() {
        match fields.binary_search_by(|(found, _)| found.cmp(name)) {
            Ok(place) => ordered.extend(fields[place].1.take().map(|field| (name.clone(), field))),
            Err(_) if is_own && before.is_null() => _ = ordered.insert(name.clone(), Value::Null),
            Err(_) => {}
        }
    }
    ordered.extend(fields.into_iter().filter_map(|(name, field)| Some((name, field?))));
    ordered
}

/// The original number when the script did not change it: Lua has no integers above 2^53 and no `1.0`.
fn as_it_was(number: f64, likely: Option<&Value>) -> Option<Value> {
    likely.filter(|before| before.is_number() && before.as_f64() == Some(number)).cloned()
}

/// The arrays and objects of a value, each behind those in it, as they are made into tables.
fn parts<'a>(value: &'a Value, found: &mut Vec<Part<'a>>) {
    let first = found.len();
    match value {
        Value::Array(items) => items.iter().for_each(|item| parts(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| parts(field, found)),
        _ => return,
    }
    found.push(Part { value, first });
}

fn too_deep() -> Misfit {
    Misfit::new(format!("is nested more than {MAX_DEPTH} tables deep"))
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
