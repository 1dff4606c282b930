//! The native half of every module that reaches out: one function that waits for what the run's world answers.

use std::future::Future;
use std::sync::Arc;

use mlua::{FromLuaMulti, Function, IntoLuaMulti, Lua, MultiValue, Table, Value as Lv};

use super::super::context::Context;
use super::super::convert;
use super::super::meter::Meter;
use super::super::world::Reach;
use crate::chat::Object;

/// Fills the native half with `call(request)`, which returns the answer, or nil and why there is none.
pub(super) fn install(lua: &Lua, native: &Table, reach: Reach) -> mlua::Result<()> {
    let call = waiting(lua, reach.module(), move |lua, meter, request: Table| {
        let module = reach.module();
        let asked = convert::from_lua(&lua, &Lv::Table(request));
        let world = lua.app_data_ref::<Context>().map(|context| Arc::clone(&context.world));
        async move {
            let request = match asked.map_err(|misfit| mlua::Error::runtime(format!("{module}: the request{misfit}")))? {
                serde_json::Value::Object(request) => request,
                _ => Object::new(),
            };
            let Some(world) = world else { return Err(mlua::Error::runtime(format!("{module} is there for scripts only"))) };
            answer(&lua, meter.wait(world.reach(reach, request)).await)
        }
    })?;
    native.raw_set("call", call)
}

/// A value as a module's Lua half gets it: JSON's null is nil; a failure is nil and a sentence.
fn answer(lua: &Lua, answer: Result<serde_json::Value, String>) -> mlua::Result<MultiValue> {
    match answer {
        Ok(serde_json::Value::Null) => Lv::Nil.into_lua_multi(lua),
        Ok(value) => convert::to_lua(lua, &value)?.into_lua_multi(lua),
        Err(why) => (Lv::Nil, why).into_lua_multi(lua),
    }
}

/// A function that waits, a plain call to scripts. `begin` runs at once, its future while the other tasks have their turns.
/// Refused where nobody could wait: while a script is loaded, and in a coroutine of the script's own.
pub(in crate::hooks) fn waiting<A, F, R>(
    lua: &Lua,
    name: &'static str,
    begin: impl Fn(Lua, Arc<Meter>, A) -> F + Send + 'static,
) -> mlua::Result<Function>
where
    A: FromLuaMulti,
    F: Future<Output = mlua::Result<R>> + Send + 'static,
    R: IntoLuaMulti,
{
    lua.create_async_function(move |lua, arguments: A| {
        let meter = meter(&lua, name);
        let held = meter.map(|meter| meter.hold(begin(lua, Arc::clone(&meter), arguments)));
        async move { held?.await }
    })
}

/// The meter of the call that is under way, if the calling code may wait.
fn meter(lua: &Lua, name: &str) -> mlua::Result<Arc<Meter>> {
    let context = lua.app_data_ref::<Context>();
    let Some(context) = context else { return Err(mlua::Error::runtime(format!("{name} is there for scripts only"))) };
    if context.meter.may_wait(lua) {
        return Ok(Arc::clone(&context.meter));
    }
    let why = if context.meter.is_driving() {
        "has to wait, which a coroutine of the script's own cannot; `std.parallel` runs functions side by side"
    } else {
        "has to wait, which a script cannot while it is loaded; call it in a hook"
    };
    Err(mlua::Error::runtime(format!("{name} {why}")))
}
