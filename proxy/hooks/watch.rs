//! Tells which tables a hook has changed, so that only these are read back. The comparison is done in Lua: there it costs a
//! tenth of what it costs to bring each field over.

use std::sync::{Arc, LazyLock};

use mlua::chunk::{ChunkMode, Compiler};
use mlua::{FromLuaMulti, Function, IntoLuaMulti, Lua, LuaSerdeExt, Table};

use super::meter::Meter;

static COMPILED: LazyLock<mlua::Result<Vec<u8>>> =
    LazyLock::new(|| Compiler::new().set_optimization_level(2).compile(include_str!("watch.lua")));

/// The functions of `watch.lua` in one VM, which has them as application data.
struct Watch {
    copies: Function,
    same: Function,
    changed: Function,
    meter: Arc<Meter>,
}

/// Puts the functions into a VM that is sandboxed already: then they run at full speed.
pub(super) fn install(lua: &Lua, globals: &Table, meter: &Arc<Meter>) -> mlua::Result<()> {
    let bytecode = COMPILED.as_ref().map_err(mlua::Error::clone)?;
    let chunk = lua.load(bytecode).set_name("=watch").set_mode(ChunkMode::Binary).set_environment(globals.clone());
    let (copies, same, changed) = chunk.call(lua.array_metatable())?;
    lua.set_app_data(Watch { copies, same, changed, meter: Arc::clone(meter) });
    Ok(())
}

/// Tables and what was in them when a hook got them.
pub(super) struct Watched {
    tables: Table,
    copies: Table,
}

impl Watched {
    /// Watches a list of tables, none of which has been in a script's hands.
    pub(super) fn new(lua: &Lua, tables: Table) -> mlua::Result<Watched> {
        let copies = call(lua, |watch| &watch.copies, &tables)?;
        Ok(Watched { tables, copies })
    }

    /// Which tables are different now, as indices of the list, ascending.
    pub(super) fn changed(&self, lua: &Lua) -> mlua::Result<Vec<usize>> {
        let numbers: Option<Vec<usize>> = call(lua, |watch| &watch.changed, (&self.tables, &self.copies))?;
        Ok(numbers.into_iter().flatten().map(|number| number - 1).collect())
    }
}

/// Whether two tables have the same fields.
pub(super) fn same(lua: &Lua, table: &Table, other: &Table) -> mlua::Result<bool> {
    call(lua, |watch| &watch.same, (table, other))
}

/// Calls one of the functions. Without an interrupt, which would take more time than the loops that it interrupts.
fn call<R: FromLuaMulti>(lua: &Lua, function: impl FnOnce(&Watch) -> &Function, arguments: impl IntoLuaMulti) -> mlua::Result<R> {
    let watch = lua.app_data_ref::<Watch>().ok_or_else(|| mlua::Error::runtime("the VM has no watch"))?;
    lua.remove_interrupt();
    let result = function(&watch).call(arguments);
    watch.meter.arm(lua);
    result
}
