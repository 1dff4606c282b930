//! `require`: the modules called `std.*`, which are part of the program, and the files beside a script.

mod argument;
mod crypto;
mod json;
mod log;
mod parallel;
mod reach;
mod redact;
mod regex;
mod time;

use std::sync::{Arc, LazyLock};

use mlua::chunk::Compiler;
use mlua::{Function, Lua, Table, Value};

pub(super) use self::argument::keep_time;
pub(super) use self::reach::waiting;
use super::context::Context;
use super::world::Reach;
use super::{point, vm};

/// A module of the program: a Lua half, which scripts see, on a native half.
struct Module {
    name: &'static str,
    /// The Lua half. It is called with the table of the native half.
    source: &'static str,
    /// Fills the table of the native half.
    native: fn(&Lua, &Table) -> mlua::Result<()>,
}

macro_rules! module {
    ($name:literal, $native:expr) => {
        Module { name: concat!("std.", $name), source: include_str!(concat!("../../lua-stdlib/std/", $name, ".lua")), native: $native }
    };
}

/// Every module, in the order of the alphabet.
static MODULES: [Module; 18] = [
    module!("agent", |lua, native| reach::install(lua, native, Reach::Agent)),
    module!("cache", pure),
    module!("crypto", crypto::install),
    module!("http", |lua, native| reach::install(lua, native, Reach::Http)),
    module!("json", json::install),
    module!("limit", pure),
    module!("llm", |lua, native| reach::install(lua, native, Reach::Llm)),
    module!("log", log::install),
    module!("mcp", |lua, native| reach::install(lua, native, Reach::Mcp)),
    module!("parallel", parallel::install),
    module!("python", |lua, native| reach::install(lua, native, Reach::Python)),
    module!("redact", redact::install),
    module!("regex", regex::install),
    module!("store", |lua, native| reach::install(lua, native, Reach::Store)),
    module!("template", pure),
    module!("text", pure),
    module!("time", time::install),
    module!("tools", |lua, native| reach::install(lua, native, Reach::Tools)),
];

/// The native half of a module that is all Lua.
fn pure(_: &Lua, _: &Table) -> mlua::Result<()> {
    Ok(())
}

/// The registry's names for what `require` needs.
const LOADED: &str = "moongate.std";
const GLOBALS: &str = "moongate.globals";

/// The registry's name for the `control` table of tests.
const CONTROL: &str = "moongate.control";

/// Bytecode of the modules' Lua halves, in the order of `MODULES`.
static COMPILED: LazyLock<Vec<mlua::Result<Vec<u8>>>> = LazyLock::new(|| MODULES.iter().map(|module| compile(module.source)).collect());

/// Bytecode of a source text.
pub(super) fn compile(source: &str) -> mlua::Result<Vec<u8>> {
    Compiler::new().set_optimization_level(1).set_debug_level(1).compile(source)
}

/// Puts `print` and what `require` needs into a VM.
pub(super) fn install(lua: &Lua, globals: &Table) -> mlua::Result<()> {
    globals.raw_set("print", lua.create_function(log::print)?)?;
    lua.set_named_registry_value(LOADED, lua.create_table()?)?;
    lua.set_named_registry_value(GLOBALS, globals)?;
    globals.raw_set("require", lua.create_function(require)?)
}

/// The module that only tests have.
const TEST: &str = "std.test";
const TEST_SOURCE: &str = include_str!("../../lua-stdlib/std/test.lua");

/// Name and Lua half of every module, the one of tests last.
pub fn sources() -> impl Iterator<Item = (&'static str, &'static str)> {
    MODULES.iter().map(|module| (module.name, module.source)).chain([(TEST, TEST_SOURCE)])
}

/// Puts `std.test` into the VM of a test. Returns its `control` table: `check(script)`, `reset()`, `finish()` and `play(kind, name, request)`.
pub(super) fn install_test(lua: &Lua, native: Table) -> mlua::Result<Table> {
    static COMPILED: LazyLock<mlua::Result<Vec<u8>>> = LazyLock::new(|| compile(TEST_SOURCE));
    let control = lua.create_table()?;
    native.raw_set("control", &control)?;
    lua.set_named_registry_value(CONTROL, &control)?;
    argument::install(lua, &native)?;
    native.raw_set("script", lua.create_function(|lua, name: String| Ok(require(lua, name).ok()))?)?;
    begin(lua, TEST, COMPILED.as_ref().map_err(mlua::Error::clone)?, native)?;
    Ok(control)
}

/// The module `name` of the program itself.
pub(super) fn module(lua: &Lua, name: &str) -> mlua::Result<Value> {
    let loaded: Table = lua.named_registry_value(LOADED)?;
    let known: Value = loaded.raw_get(name)?;
    if !known.is_nil() {
        return Ok(known);
    }
    if name == TEST {
        return Err(mlua::Error::runtime("`std.test` is for tests: `moongate test` runs the files called *_test.lua"));
    }
    let Some((module, bytecode)) = MODULES.iter().zip(COMPILED.iter()).find(|(module, _)| module.name == name) else {
        let hint = hint(name, MODULES.iter().map(|module| module.name));
        return Err(mlua::Error::runtime(format!("there is no module `{name}`{hint}")));
    };
    let native = lua.create_table()?;
    argument::install(lua, &native)?;
    (module.native)(lua, &native)?;
    begin(lua, name, bytecode.as_ref().map_err(mlua::Error::clone)?, native)
}

/// Runs a module's Lua half on its native half, and keeps what it returns for whoever requires it.
fn begin(lua: &Lua, name: &str, bytecode: &[u8], native: Table) -> mlua::Result<Value> {
    let globals: Table = lua.named_registry_value(GLOBALS)?;
    let chunk = lua.load(bytecode).set_name(format!("={name}")).set_mode(mlua::chunk::ChunkMode::Binary);
    let module: Table = chunk.set_environment(globals).call(native)?;
    let metatable = lua.create_table()?;
    let of = name.to_owned();
    metatable.raw_set("__index", lua.create_function(move |_, (module, key)| missing(&of, &module, &key))?)?;
    metatable.raw_set("__metatable", false)?;
    metatable.set_readonly(true);
    module.set_metatable(Some(metatable))?;
    module.set_readonly(true);
    lua.named_registry_value::<Table>(LOADED)?.raw_set(name, &module)?;
    Ok(Value::Table(module))
}

/// The error of a script that reads what a module does not have.
fn missing(name: &str, module: &Table, key: &Value) -> mlua::Result<()> {
    let key = key.to_string()?;
    let names: Vec<String> = module.pairs::<String, Value>().flatten().map(|(name, _)| name).collect();
    let hint = hint(&key, names.iter().map(String::as_str));
    Err(mlua::Error::runtime(format!("`{name}` has no `{key}`{hint}")))
}

/// The nearest of the right names, in the words of an error; nothing where none is near.
fn hint<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    point::suggest(name, names).map(|near| format!(": did you mean `{near}`?")).unwrap_or_default()
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
        let meant = MODULES.iter().find(|module| module.name.strip_prefix("std.") == Some(&name));
        let hint = meant.map(|module| format!(": did you mean `{}`?", module.name)).unwrap_or_default();
        return Err(mlua::Error::runtime(format!("there is no `{name}.lua` beside this script{hint}")));
    };
    let bytecode = sibling.bytecode().map_err(|message| mlua::Error::SyntaxError { message, incomplete_input: false })?;
    modules.raw_set(name.as_str(), false)?;
    let result = match vm::load(lua, &sibling.name, bytecode)?.call::<Value>(()) {
        Ok(Value::Nil) => Err(mlua::Error::runtime(format!("`{}` returns nothing", sibling.name))),
        other => other,
    };
    modules.raw_set(name, result.as_ref().ok())?;
    if let (Ok(script @ Value::Table(_)), Value::Table(control)) = (&result, lua.named_registry_value(CONTROL)?) {
        control.raw_get::<Function>("check")?.call::<()>(script)?;
    }
    result
}
