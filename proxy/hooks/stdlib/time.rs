//! The native half of `std.time`: the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use mlua::{Lua, Table};

/// Fills the native half.
pub(super) fn install(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.raw_set("now", lua.create_function(now)?)
}

/// Seconds since 1970, with their fraction.
fn now(_: &Lua, (): ()) -> mlua::Result<f64> {
    // A clock before 1970 is wrong anyway.
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
}
