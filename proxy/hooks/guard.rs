//! What scripts find in the place of Luau's own builtins where those hand out the gateway's errors or threads, or ask no interrupt.

use std::sync::{Arc, LazyLock};

use mlua::chunk::{ChunkMode, Compiler};
use mlua::{IntoLua, Lua, LuaString, Table, Thread, Value};

use super::context::Context;
use super::failure;
use super::meter::Meter;
use super::stdlib::keep_time;

static COMPILED: LazyLock<mlua::Result<Vec<u8>>> =
    LazyLock::new(|| Compiler::new().set_optimization_level(2).set_debug_level(0).compile(include_str!("guard.lua")));

/// The registry's name for the gateway's own threads: the keys of a table that does not keep them.
const THREADS: &str = "moongate.threads";

/// How many pieces of a text are made between two looks at the clock.
const STRIDE: usize = 1024;

/// Replaces the builtins, before the VM is sandboxed.
pub(super) fn install(lua: &Lua, globals: &Table, meter: &Arc<Meter>) -> mlua::Result<()> {
    let (threads, weak) = (lua.create_table()?, lua.create_table()?);
    weak.raw_set("__mode", "k")?;
    threads.set_metatable(Some(weak))?;
    lua.set_named_registry_value(THREADS, &threads)?;
    let native = lua.create_table()?;
    let spoilt = Arc::clone(meter);
    native.raw_set("text", lua.create_function(move |_, problem: Value| Ok(text(&problem, &spoilt)))?)?;
    let spoilt = Arc::clone(meter);
    let spoil = move |_: &Lua, ()| {
        spoilt.spoil();
        Ok(())
    };
    native.raw_set("spoil", lua.create_function(spoil)?)?;
    native.raw_set("fill", lua.create_function(fill)?)?;
    let bytecode = COMPILED.as_ref().map_err(mlua::Error::clone)?;
    let chunk = lua.load(bytecode).set_name("=std.guard").set_mode(ChunkMode::Binary).set_environment(globals.clone());
    let guarded: Table = chunk.call((native, threads))?;
    for (library, names) in
        [(None, &["pcall", "xpcall", "pairs"][..]), (Some("coroutine"), &["resume", "close"]), (Some("table"), &["sort"])]
    {
        let library = library.map_or_else(|| Ok(globals.clone()), |name| globals.raw_get::<Table>(name))?;
        for name in names {
            library.raw_set(*name, guarded.raw_get::<Value>(*name)?)?;
        }
    }
    let string: Table = globals.raw_get("string")?;
    string.raw_set("split", lua.create_function(split)?)
}

/// Marks a thread as the gateway's: a script that resumed it would get what only the gateway understands.
pub(super) fn own(lua: &Lua, thread: &Thread) -> mlua::Result<()> {
    lua.named_registry_value::<Table>(THREADS)?.raw_set(thread, true)
}

/// A caught error as scripts read it: `script:line: what`.
fn text(problem: &Value, meter: &Meter) -> String {
    match problem {
        Value::Error(error) => {
            if failure::is_memory(error) {
                meter.spoil();
            }
            failure::placed(error)
        }
        other => other.to_string().unwrap_or_default(),
    }
}

/// Makes all fields of a hook's argument, for whoever walks through them.
pub(super) fn fill(lua: &Lua, table: Table) -> mlua::Result<()> {
    let Some(mut context) = lua.app_data_mut::<Context>() else { return Ok(()) };
    let context = &mut *context;
    context.argument.as_mut().map_or(Ok(()), |argument| argument.read_all(lua, &context.meter, &table))
}

/// A piece of a text on its way into a list; none where the time is up.
struct Piece<'a>(mlua::Result<&'a [u8]>);

impl IntoLua for Piece<'_> {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_string(self.0?).map(Value::String)
    }
}

/// `string.split`. Luau's own takes time in proportion to the product of both lengths, and asks no interrupt.
fn split(lua: &Lua, (text, separator): (LuaString, Option<LuaString>)) -> mlua::Result<Table> {
    let text = text.as_bytes();
    let separator = separator.as_ref().map_or_else(|| b",".to_vec(), |separator| separator.as_bytes().to_vec());
    if separator.is_empty() {
        return list(lua, text.chunks(1));
    }
    let mut from = 0;
    let ends = memchr::memmem::find_iter(&text, &separator).chain([text.len()]);
    list(lua, ends.map(|end| &text[std::mem::replace(&mut from, end + separator.len())..end]))
}

fn list<'a>(lua: &Lua, pieces: impl Iterator<Item = &'a [u8]>) -> mlua::Result<Table> {
    let timed =
        pieces.enumerate().map(|(n, piece)| Piece(if n % STRIDE == STRIDE - 1 { keep_time(lua).map(|()| piece) } else { Ok(piece) }));
    lua.create_sequence_from(timed)
}
