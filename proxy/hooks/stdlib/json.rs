//! The native half of `std.json`.

mod path;

use mlua::{Lua, LuaSerdeExt, Table, Value};

use super::super::convert;
use super::argument::{self, wrong};

/// Fills the native half.
pub(super) fn install(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.raw_set("null", Value::NULL)?;
    native.raw_set("array_metatable", lua.array_metatable())?;
    native.raw_set("encode", lua.create_function(encode)?)?;
    native.raw_set("pretty", lua.create_function(pretty)?)?;
    native.raw_set("decode", lua.create_function(decode)?)?;
    native.raw_set("query", lua.create_function(query)?)
}

fn encode(lua: &Lua, value: Value) -> mlua::Result<String> {
    serde_json::to_string(&plain(lua, "json.encode", &value)?).map_err(mlua::Error::external)
}

fn pretty(lua: &Lua, value: Value) -> mlua::Result<String> {
    let mut value = plain(lua, "json.pretty", &value)?;
    // Lua's tables have no order of their own; a reader wants one that stays.
    value.sort_all_objects();
    serde_json::to_string_pretty(&value).map_err(mlua::Error::external)
}

fn decode(lua: &Lua, text: Value) -> mlua::Result<Value> {
    convert::to_lua(lua, &parsed("json.decode", &text)?)
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
    convert::from_lua(lua, value).map_err(|misfit| wrong(function, format_args!("the value{misfit}")))
}

fn parsed(function: &str, text: &Value) -> mlua::Result<serde_json::Value> {
    let text = argument::bytes(function, "the text", text)?;
    serde_json::from_slice(&text).map_err(|error| wrong(function, error))
}
