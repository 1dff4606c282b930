//! The native half of `std.parallel`: functions of a script side by side, each on a Lua thread of its own.

use futures_util::future::try_join_all;
use mlua::{Function, Lua, MultiValue, Table, Value, Variadic};

use super::super::guard;
use super::reach::waiting;

/// The most functions in one call.
const MAX_BRANCHES: usize = 32;

/// Fills the native half.
pub(super) fn install(lua: &Lua, native: &Table) -> mlua::Result<()> {
    let all = waiting(lua, "std.parallel", |lua, meter, functions: Variadic<Function>| async move {
        if functions.len() > MAX_BRANCHES {
            return Err(mlua::Error::runtime(format!("parallel.all takes at most {MAX_BRANCHES} functions, not {}", functions.len())));
        }
        let branches = functions.iter().map(|function| {
            let (lua, meter) = (&lua, &meter);
            async move {
                let thread = lua.create_thread(function.clone())?;
                guard::own(lua, &thread)?;
                let future = thread.clone().into_async::<Value>(())?;
                meter.branch(&thread, future).await
            }
        });
        // An error of one drops the others, and with them what they wait for.
        Ok(MultiValue::from_vec(try_join_all(branches).await?))
    })?;
    native.raw_set("all", all)
}
