//! One Luau VM: what scripts find in it, what was taken out, and its caps. It knows no run and no script.

use std::sync::Arc;

use mlua::chunk::ChunkMode;
use mlua::{Function, Lua, LuaOptions, LuaSerdeExt, MultiValue, StdLib, Table, Thread, Value, Variadic};

use super::api::Api;
use super::meter::Meter;
use super::{guard, stdlib, watch};

/// The most memory that scripts may use in one VM, in bytes. What the gateway hands them (`prompt.messages`) is not counted.
pub(super) const MEMORY_CAP: usize = 16 << 20;

/// A VM that holds more than this after a run is not used again, in bytes.
const RECYCLED_MAX: usize = 2 << 20;

/// Globals of Luau that reach files, compile code, reach into other functions, or steer the collector.
/// `_G` is each script's own environment.
const REMOVED: [&str; 10] = ["_G", "require", "loadstring", "collectgarbage", "gcinfo", "getfenv", "setfenv", "newproxy", "io", "os"];

/// The registry's name for the metatable of environments.
const ENVIRONMENT: &str = "moongate.environment";

/// A sandboxed VM.
pub(super) struct Vm {
    pub lua: Lua,
    pub meter: Arc<Meter>,
    pub api: Api,
    /// Runs one function after the other.
    thread: Thread,
    /// `math.randomseed`.
    seed: Function,
}

impl Vm {
    /// A new VM, ready for any script.
    pub(super) fn new() -> mlua::Result<Vm> {
        let libraries = StdLib::COROUTINE
            | StdLib::TABLE
            | StdLib::STRING
            | StdLib::UTF8
            | StdLib::BIT
            | StdLib::MATH
            | StdLib::BUFFER
            | StdLib::OS
            | StdLib::DEBUG;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        let globals = lua.globals();
        reduce(&lua, &globals)?;
        let meter = Arc::new(Meter::new());
        guard::install(&lua, &globals, &meter)?;
        let seed = globals.raw_get::<Table>("math")?.raw_get("randomseed")?;
        // Scripts may copy a list, and may not change what all lists have in common.
        let lists = lua.array_metatable();
        lists.raw_set("__metatable", Value::Nil)?;
        lists.set_readonly(true);
        let api = Api::new(&lua)?;
        stdlib::install(&lua, &globals)?;
        let environment = lua.create_table()?;
        environment.raw_set("__index", &globals)?;
        environment.raw_set("__metatable", false)?;
        environment.set_readonly(true);
        lua.set_named_registry_value(ENVIRONMENT, environment)?;
        lua.sandbox(true)?;
        let thread = lua.create_thread(lua.create_function(|_, ()| Ok(()))?)?;
        guard::own(&lua, &thread)?;
        watch::install(&lua, &globals, &meter)?;
        meter.arm(&lua);
        Ok(Vm { lua, meter, api, thread, seed })
    }

    /// A compiled chunk as a function with a fresh environment: what it makes global, nobody else sees.
    pub(super) fn function(&self, name: &str, bytecode: &[u8]) -> mlua::Result<Function> {
        load(&self.lua, name, bytecode)
    }

    /// A Lua thread that will run `function`. Whatever became of the function that it had before, is forgotten.
    pub(super) fn thread(&self, function: Function) -> mlua::Result<&Thread> {
        self.thread.reset(function)?;
        Ok(&self.thread)
    }

    /// Makes room for a call: what earlier calls left behind does not count against this one.
    pub(super) fn tidy(&self) -> mlua::Result<()> {
        if self.lua.used_memory() > MEMORY_CAP / 4 { self.lua.gc_collect() } else { Ok(()) }
    }

    /// Caps what scripts may use; `handed` bytes of it the gateway has put there for them. While a cap is set, all that the gateway
    /// itself does in the VM costs more: it has to be ready for an allocation that fails.
    pub(super) fn cap(&self, handed: usize) -> mlua::Result<()> {
        self.lua.set_memory_limit(MEMORY_CAP + handed)?;
        Ok(())
    }

    /// Lifts the cap while no script runs.
    pub(super) fn lift_cap(&self) -> mlua::Result<()> {
        self.lua.set_memory_limit(0)?;
        Ok(())
    }

    /// Makes the VM ready for another run, which sees nothing of the random numbers of those before.
    pub(super) fn begin(&self) -> mlua::Result<()> {
        let (seed, _) = uuid::Uuid::new_v4().as_u64_pair();
        // Luau takes it for a signed number of 32 bits.
        self.seed.call(f64::from((seed >> 33) as u32))
    }

    /// Whether another run may have the VM.
    pub(super) fn is_clean(&self) -> bool {
        !self.meter.is_spoilt() && self.lua.used_memory() <= RECYCLED_MAX
    }
}

/// Runs `f`, which hands a value of the gateway's to scripts: neither its memory nor its time is the script's.
pub(super) fn unmetered<R>(lua: &Lua, meter: &Meter, f: impl FnOnce() -> mlua::Result<R>) -> mlua::Result<R> {
    let before = lua.used_memory();
    let cap = lua.set_memory_limit(0)?;
    let result = meter.free(f);
    lua.set_memory_limit(cap + lua.used_memory().saturating_sub(before))?;
    result
}

/// A chunk as a function whose globals are its own.
pub(super) fn load(lua: &Lua, name: &str, bytecode: &[u8]) -> mlua::Result<Function> {
    let environment = lua.create_table()?;
    environment.raw_set("_G", &environment)?;
    environment.set_metatable(Some(lua.named_registry_value(ENVIRONMENT)?))?;
    environment.set_safeenv(true);
    lua.load(bytecode).set_name(format!("={name}")).set_mode(ChunkMode::Binary).set_environment(environment).into_function()
}

/// Takes out what a script must not have, and replaces what it may have only in part.
fn reduce(lua: &Lua, globals: &Table) -> mlua::Result<()> {
    let clock = lua.create_table()?;
    let os: Table = globals.get("os")?;
    for name in ["clock", "date", "difftime", "time"] {
        clock.raw_set(name, os.get::<Value>(name)?)?;
    }
    let traceback = lua.create_table()?;
    traceback.raw_set("traceback", globals.get::<Table>("debug")?.get::<Value>("traceback")?)?;
    for name in REMOVED {
        globals.raw_set(name, Value::Nil)?;
    }
    globals.raw_set("os", clock)?;
    globals.raw_set("debug", traceback)?;
    let string: Table = globals.get("string")?;
    let find: Function = string.get("find")?;
    string.raw_set("find", lua.create_function(move |lua, arguments| find_text(lua, &find, arguments))?)?;
    Ok(())
}

/// `string.find`. Luau's own search for plain text takes time in proportion to the product of both lengths, and asks no interrupt.
fn find_text(lua: &Lua, native: &Function, arguments: Variadic<Value>) -> mlua::Result<MultiValue> {
    if let (Some(Value::String(text)), Some(Value::String(wanted))) = (arguments.first(), arguments.get(1)) {
        let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
        let plain = arguments.get(3).is_some_and(|flag| flag.as_boolean().unwrap_or(!flag.is_nil()));
        if plain || !wanted.iter().any(|byte| b"^$*+?.([%-".contains(byte)) {
            let from = match arguments.get(2) {
                None | Some(Value::Nil) => 1,
                Some(from) => lua.coerce_integer(from.clone())?.ok_or_else(|| mlua::Error::runtime("`init` of string.find is a number"))?,
            };
            let length = text.len() as i64;
            let from = if from < 0 { (length + from + 1).max(1) } else { from.max(1) };
            let found = usize::try_from(from - 1).ok().and_then(|from| {
                let place = memchr::memmem::find(text.get(from..)?, &wanted)?;
                Some((from + place + 1, from + place + wanted.len()))
            });
            return Ok(match found {
                Some((first, last)) => MultiValue::from_vec(vec![Value::Number(first as f64), Value::Number(last as f64)]),
                None => MultiValue::from_vec(vec![Value::Nil]),
            });
        }
    }
    native.call(arguments)
}
