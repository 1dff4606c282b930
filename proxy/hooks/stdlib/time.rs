//! The native half of `std.time`: the wall clock, and sleeping.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mlua::{Lua, Table};

use super::super::context::Context;
use super::argument::wrong;
use super::reach::waiting;

/// The longest sleep, in seconds.
const MAX_SLEEP: f64 = 60.0;

/// Fills the native half.
pub(super) fn install(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.raw_set("now", lua.create_function(now)?)?;
    let sleep = waiting(lua, "time.sleep", |lua, meter, seconds: f64| async move {
        if !(0.0..=MAX_SLEEP).contains(&seconds) {
            return Err(wrong("time.sleep", format_args!("the span must be from 0 to {MAX_SLEEP} seconds")));
        }
        // A test's clock that stands is moved on instead.
        if let Some(clock) = lua.app_data_mut::<Context>().as_mut().and_then(|context| context.trial.as_mut()?.clock.as_mut()) {
            *clock += seconds;
            return Ok(());
        }
        meter.wait(tokio::time::sleep(Duration::from_secs_f64(seconds))).await;
        Ok(())
    })?;
    native.raw_set("sleep", sleep)
}

/// Seconds since 1970, with their fraction.
fn now(lua: &Lua, (): ()) -> mlua::Result<f64> {
    if let Some(clock) = lua.app_data_ref::<Context>().and_then(|context| context.trial.as_ref()?.clock) {
        return Ok(clock);
    }
    // A clock before 1970 is wrong anyway.
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
}
