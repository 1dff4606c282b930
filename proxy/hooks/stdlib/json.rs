//! The native half of `std.json`.

use mlua::{Lua, LuaSerdeExt, Table, Value};

use super::super::convert;

/// Fills the native half.
pub(super) fn install(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.raw_set("null", Value::NULL)?;
    native.raw_set("array_metatable", lua.array_metatable())?;
    native.raw_set("encode", lua.create_function(encode)?)?;
    native.raw_set("decode", lua.create_function(decode)?)
}

fn encode(lua: &Lua, value: Value) -> mlua::Result<String> {
    let value = convert::from_lua(lua, &value).map_err(|misfit| mlua::Error::runtime(format!("json.encode: the value{misfit}")))?;
    serde_json::to_string(&value).map_err(mlua::Error::external)
}

fn decode(lua: &Lua, text: mlua::LuaString) -> mlua::Result<Value> {
    let value: serde_json::Value =
        serde_json::from_slice(&text.as_bytes()).map_err(|error| mlua::Error::runtime(format!("json.decode: {error}")))?;
    convert::to_lua(lua, &value)
}
