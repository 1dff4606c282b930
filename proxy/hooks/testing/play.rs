//! Lets the test play the part that somebody asked for.

use std::sync::Arc;

use mlua::{Function, Lua, Value as Lv};

use super::super::meter::Meter;
use super::super::{convert, guard};
use super::{Part, Question};

/// Calls `play(kind, name, request)` of `std.test` and sends on what it returns: an answer, or nil and a sentence.
/// `Err` is an error of the test's own, which ends it.
pub(super) async fn answer(lua: &Lua, meter: &Arc<Meter>, play: &Function, question: Question) -> mlua::Result<()> {
    let Question { part, request, reply } = question;
    let (kind, name) = match &part {
        Part::Model => ("model", ""),
        Part::Tool(name) => ("tool", name.as_str()),
        Part::Reach(reach) => ("reach", reach.module()),
    };
    let request = convert::to_lua(lua, &request)?;
    let thread = lua.create_thread(play.clone())?;
    guard::own(lua, &thread)?;
    let future = thread.clone().into_async::<(Lv, Option<String>)>((kind, name, request))?;
    let (answer, why) = meter.branch(&thread, future).await?;
    let answer = match (answer, why) {
        (Lv::Nil, Some(why)) => Err(why),
        (answer, _) => {
            let answer = convert::from_lua(lua, &answer);
            Ok(answer.map_err(|misfit| mlua::Error::runtime(format!("what the test plays for {kind} {name}{misfit}")))?)
        }
    };
    // Whoever asked may have given up.
    let _ = reply.send(answer);
    Ok(())
}
