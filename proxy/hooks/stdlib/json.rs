//! The native half of `std.json`.

mod path;

use std::io::{self, Write};

use mlua::{Lua, LuaSerdeExt, LuaString, Table, Value};

use super::super::convert;
use super::argument::{self, MAX_TEXT, keep_time, wrong};

/// The most values in one text: in memory each takes many times its JSON.
const MAX_VALUES: usize = 250_000;

/// Fills the native half.
pub(super) fn install(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.raw_set("null", Value::NULL)?;
    native.raw_set("array_metatable", lua.array_metatable())?;
    native.raw_set("encode", lua.create_function(encode)?)?;
    native.raw_set("pretty", lua.create_function(pretty)?)?;
    native.raw_set("decode", lua.create_function(decode)?)?;
    native.raw_set("query", lua.create_function(query)?)
}

fn encode(lua: &Lua, value: Value) -> mlua::Result<LuaString> {
    const NAME: &str = "json.encode";
    let value = plain(lua, NAME, &value)?;
    written(lua, NAME, |out| serde_json::to_writer(out, &value))
}

fn pretty(lua: &Lua, value: Value) -> mlua::Result<LuaString> {
    const NAME: &str = "json.pretty";
    let mut value = plain(lua, NAME, &value)?;
    // Lua's tables have no order of their own; a reader wants one that stays.
    value.sort_all_objects();
    written(lua, NAME, |out| serde_json::to_writer_pretty(out, &value))
}

/// Text under way: it takes no more than `MAX_TEXT` bytes.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_TEXT {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(lua: &Lua, function: &str, write: impl FnOnce(&mut Bounded) -> serde_json::Result<()>) -> mlua::Result<LuaString> {
    let mut out = Bounded(Vec::new());
    let result = write(&mut out);
    keep_time(lua)?;
    result.map_err(|_| wrong(function, format_args!("the text would be longer than {} MiB", MAX_TEXT >> 20)))?;
    lua.create_string(&out.0)
}

fn decode(lua: &Lua, text: Value) -> mlua::Result<Value> {
    let value = parsed("json.decode", &text)?;
    keep_time(lua)?;
    convert::to_lua(lua, &value)
}

fn query(lua: &Lua, (value, path): (Value, Value)) -> mlua::Result<Table> {
    const NAME: &str = "json.query";
    let path = path::Path::parse(&argument::text(NAME, "the path", &path)?).map_err(|problem| wrong(NAME, problem))?;
    let value = if value.is_string() { parsed(NAME, &value)? } else { plain(lua, NAME, &value)? };
    let found = path.find(&value).map_err(|problem| wrong(NAME, problem))?;
    let matches = lua.create_table_with_capacity(found.len(), 0)?;
    for found in found {
        matches.raw_push(convert::to_lua(lua, found)?)?;
    }
    matches.set_metatable(Some(lua.array_metatable()))?;
    Ok(matches)
}

fn plain(lua: &Lua, function: &str, value: &Value) -> mlua::Result<serde_json::Value> {
    convert::from_lua_within(lua, value, MAX_TEXT).map_err(|misfit| wrong(function, format_args!("the value{misfit}")))
}

fn parsed(function: &str, text: &Value) -> mlua::Result<serde_json::Value> {
    let text = argument::text(function, "the text", text)?;
    if has_too_many(text.as_bytes()) {
        return Err(wrong(function, format_args!("the text has more than {MAX_VALUES} values")));
    }
    serde_json::from_str(&text).map_err(|error| wrong(function, error))
}

/// Whether there are more than `MAX_VALUES` values: each but the first stands behind a comma or a bracket.
fn has_too_many(text: &[u8]) -> bool {
    if memchr::memchr3_iter(b',', b'[', b'{', text).nth(MAX_VALUES).is_none() {
        return false;
    }
    // Those in strings do not count.
    let (mut n_values, mut is_string, mut bytes) = (0, false, text.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => is_string = !is_string,
            b'\\' => _ = bytes.next(),
            b',' | b'[' | b'{' if !is_string => n_values += 1,
            _ => {}
        }
    }
    n_values > MAX_VALUES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_not_the_commas_of_texts() {
        let list = |item: &str, n: usize| format!("[{}1]", format!("{item},").repeat(n));
        assert!(!has_too_many(list("1", MAX_VALUES - 1).as_bytes()));
        assert!(has_too_many(list("1", MAX_VALUES).as_bytes()));
        assert!(has_too_many(list("[]", MAX_VALUES / 2).as_bytes()));
        assert!(!has_too_many(format!("[\"{}\"]", ",\\\",[{".repeat(MAX_VALUES)).as_bytes()));
    }
}
