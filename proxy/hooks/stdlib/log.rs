//! The native half of `std.log`: lines in the gateway's log, with the script and the run that they come from.

use mlua::{Lua, Table, Value, Variadic};

use super::super::context::Context;
use super::super::convert;

/// The longest text of one line of a script's log, in bytes.
const MAX_LINE: usize = 4096;

/// How many lines one hook call may log.
const MAX_LINES: u32 = 100;

/// Fills the native half.
pub(super) fn install(lua: &Lua, native: &Table) -> mlua::Result<()> {
    native.raw_set("write", lua.create_function(write)?)
}

/// The global `print`: a line of the log.
pub(super) fn print(lua: &Lua, values: Variadic<Value>) -> mlua::Result<()> {
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
    let (message, fields) = (shortened(message), fields.map(shortened));
    if let Some(trial) = &mut context.trial {
        trial.lines.push([level, message, fields.unwrap_or_default()].join(" ").trim_end().to_owned());
        return;
    }
    let (script, run) = (&context.script, &context.run);
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
