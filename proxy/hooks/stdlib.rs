//! `require`: the modules called `std.*`, which are part of the program, and the files beside a script.

use std::sync::{Arc, LazyLock};

use mlua::chunk::Compiler;
use mlua::{Lua, Table, Value, Variadic};

use super::context::Context;
use super::{convert, point, vm};

/// The Lua side of each module. It is given a table with its native half.
const SOURCES: [(&str, &str); 3] = [
    ("std.json", include_str!("../../lua-stdlib/std/json.lua")),
    ("std.log", include_str!("../../lua-stdlib/std/log.lua")),
    ("std.text", include_str!("../../lua-stdlib/std/text.lua")),
];

/// The longest text of one line of a script's log, in bytes.
const MAX_LINE: usize = 4096;

/// How many lines one hook call may log.
const MAX_LINES: u32 = 100;

/// The registry's names for what `require` needs.
const MODULES: &str = "moongate.std";
const GLOBALS: &str = "moongate.globals";

/// The modules by name, compiled.
type Compiled = Vec<(&'static str, mlua::Result<Vec<u8>>)>;

static COMPILED: LazyLock<Compiled> = LazyLock::new(|| SOURCES.iter().map(|(name, source)| (*name, compile(source))).collect());

/// Bytecode of a source text.
pub(super) fn compile(source: &str) -> mlua::Result<Vec<u8>> {
    Compiler::new().set_optimization_level(1).set_debug_level(1).compile(source)
}

/// Puts `print` and what `require` needs into a VM.
pub(super) fn install(lua: &Lua, globals: &Table) -> mlua::Result<()> {
    globals.raw_set("print", lua.create_function(print)?)?;
    lua.set_named_registry_value(MODULES, lua.create_table()?)?;
    lua.set_named_registry_value(GLOBALS, globals)?;
    globals.raw_set("require", lua.create_function(require)?)
}

/// The module `name` of the program itself, for the gateway's own use (`run.log`).
pub(super) fn module(lua: &Lua, name: &str) -> mlua::Result<Value> {
    let loaded: Table = lua.named_registry_value(MODULES)?;
    let known: Value = loaded.raw_get(name)?;
    if !known.is_nil() {
        return Ok(known);
    }
    let Some((_, bytecode)) = COMPILED.iter().find(|(module, _)| *module == name) else {
        let near = point::suggest(name, SOURCES.iter().map(|(module, _)| *module));
        let hint = near.map(|near| format!(": did you mean `{near}`?")).unwrap_or_default();
        return Err(mlua::Error::runtime(format!("there is no module `{name}`{hint}")));
    };
    let bytecode = bytecode.as_ref().map_err(mlua::Error::clone)?;
    let globals: Table = lua.named_registry_value(GLOBALS)?;
    let chunk = lua.load(bytecode).set_name(format!("={name}")).set_mode(mlua::chunk::ChunkMode::Binary);
    let module: Table = chunk.set_environment(globals).call(native(lua, name)?)?;
    module.set_readonly(true);
    loaded.raw_set(name, &module)?;
    Ok(Value::Table(module))
}

fn require(lua: &Lua, name: String) -> mlua::Result<Value> {
    if name.starts_with("std.") {
        return module(lua, &name);
    }
    let script = lua.app_data_ref::<Context>().map(|context| (Arc::clone(&context.folder), context.modules.clone()));
    let Some((folder, modules)) = script else { return Err(mlua::Error::runtime("only a script can require a file")) };
    match modules.raw_get::<Value>(name.as_str())? {
        Value::Nil => {}
        Value::Boolean(_) => return Err(mlua::Error::runtime(format!("`{name}` requires itself"))),
        known => return Ok(known),
    }
    let Some(sibling) = folder.find(&name) else {
        let meant = SOURCES.iter().find(|(module, _)| module.strip_prefix("std.") == Some(&name));
        let hint = meant.map(|(module, _)| format!(": did you mean `{module}`?")).unwrap_or_default();
        return Err(mlua::Error::runtime(format!("there is no `{name}.lua` beside this script{hint}")));
    };
    let bytecode = sibling.bytecode().map_err(mlua::Error::runtime)?;
    modules.raw_set(name.as_str(), false)?;
    let result = match vm::load(lua, &sibling.name, bytecode)?.call::<Value>(()) {
        Ok(Value::Nil) => Err(mlua::Error::runtime(format!("`{}` returns nothing", sibling.name))),
        other => other,
    };
    modules.raw_set(name, result.as_ref().ok())?;
    result
}

/// The half of a module that is written in Rust.
fn native(lua: &Lua, name: &str) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    match name {
        "std.json" => {
            table.raw_set("null", Value::NULL)?;
            table.raw_set("array_metatable", mlua::LuaSerdeExt::array_metatable(lua))?;
            table.raw_set("encode", lua.create_function(encode)?)?;
            table.raw_set("decode", lua.create_function(decode)?)?;
        }
        "std.log" => table.raw_set("write", lua.create_function(write)?)?,
        _ => {}
    }
    Ok(table)
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

fn print(lua: &Lua, values: Variadic<Value>) -> mlua::Result<()> {
    let texts = values.iter().map(Value::to_string).collect::<mlua::Result<Vec<_>>>()?;
    line(lua, "info", &texts.join("\t"), None);
    Ok(())
}

fn write(lua: &Lua, (level, message, fields): (String, Value, Option<Value>)) -> mlua::Result<()> {
    let fields = match fields {
        None => None,
        Some(fields) => Some(convert::from_lua(lua, &fields).map_err(|misfit| mlua::Error::runtime(format!("log: the fields{misfit}")))?),
    };
    line(lua, &level, &message.to_string()?, fields.map(|fields| fields.to_string()).as_deref());
    Ok(())
}

/// One line of the log, with the script and the run it comes from.
fn line(lua: &Lua, level: &str, message: &str, fields: Option<&str>) {
    let Some(mut context) = lua.app_data_mut::<Context>() else { return };
    context.n_lines += 1;
    if context.n_lines > MAX_LINES {
        if context.n_lines == MAX_LINES + 1 {
            tracing::warn!(target: "script", script = %context.script, run = %context.run, "this hook call logs more than {MAX_LINES} lines; the rest is dropped");
        }
        return;
    }
    let (script, run) = (&context.script, &context.run);
    let (message, fields) = (shortened(message), fields.map(shortened));
    match level {
        "debug" => tracing::debug!(target: "script", %script, %run, fields, "{message}"),
        "warn" => tracing::warn!(target: "script", %script, %run, fields, "{message}"),
        "error" => tracing::error!(target: "script", %script, %run, fields, "{message}"),
        _ => tracing::info!(target: "script", %script, %run, fields, "{message}"),
    }
}

fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_LINE)]
}
