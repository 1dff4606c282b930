//! What native halves have in common: a script's arguments checked in words that name the function, and the script's clock heeded.

use std::sync::Arc;

use mlua::{BorrowedBytes, BorrowedStr, Lua, Table, Value};

use super::super::context::Context;
use super::super::point;

/// The most text that one call searches or makes, in bytes.
pub(super) const MAX_TEXT: usize = 8 << 20;

/// The error `function: problem`.
pub(super) fn wrong(function: &str, problem: impl std::fmt::Display) -> mlua::Error {
    mlua::Error::runtime(format!("{function}: {problem}"))
}

/// Text that must be UTF-8 and no longer than `MAX_TEXT`. `what` is "the text", "the pattern".
pub(super) fn text(function: &str, what: &str, value: &Value) -> mlua::Result<BorrowedStr> {
    let Value::String(text) = value else { return Err(mistyped(function, what, "string", value)) };
    if text.as_bytes().len() > MAX_TEXT {
        return Err(wrong(function, format_args!("{what} is longer than {} MiB", MAX_TEXT >> 20)));
    }
    text.to_str().map_err(|_| wrong(function, format_args!("{what} is not UTF-8")))
}

/// Text of any bytes, no longer than `MAX_TEXT`.
pub(super) fn bytes(function: &str, what: &str, value: &Value) -> mlua::Result<BorrowedBytes> {
    match value {
        Value::String(text) if text.as_bytes().len() > MAX_TEXT => {
            Err(wrong(function, format_args!("{what} is longer than {} MiB", MAX_TEXT >> 20)))
        }
        Value::String(text) => Ok(text.as_bytes()),
        other => Err(mistyped(function, what, "string", other)),
    }
}

/// A table, or none where the script gave nothing.
pub(super) fn optional_table<'a>(function: &str, what: &str, value: &'a Value) -> mlua::Result<Option<&'a Table>> {
    match value {
        Value::Nil => Ok(None),
        Value::Table(table) => Ok(Some(table)),
        other => Err(mistyped(function, what, "table", other)),
    }
}

/// Refuses options that do not exist: a misspelt one would have no effect, and nobody would know.
pub(super) fn known<S: AsRef<str>>(function: &str, options: &Table, names: &[S]) -> mlua::Result<()> {
    for pair in options.pairs::<Value, Value>() {
        let (key, _) = pair?;
        let key = key.to_string()?;
        let names = || names.iter().map(AsRef::as_ref);
        if !names().any(|name| name == key) {
            let all = || format!("; there are {}", names().collect::<Vec<&str>>().join(", "));
            let hint = point::suggest(&key, names()).map_or_else(all, |near| format!(": did you mean `{near}`?"));
            return Err(wrong(function, format_args!("there is no option `{key}`{hint}")));
        }
    }
    Ok(())
}

/// What every module's Lua half has: `known(function, options, names)` and `near(name, names)`.
pub(super) fn install(lua: &Lua, native: &Table) -> mlua::Result<()> {
    let known = |_: &Lua, (function, options, names): (String, Value, Vec<String>)| {
        optional_table(&function, "the options", &options)?.map_or(Ok(()), |options| known(&function, options, &names))
    };
    native.raw_set("known", lua.create_function(known)?)?;
    let near =
        |_: &Lua, (name, names): (String, Vec<String>)| Ok(point::suggest(&name, names.iter().map(String::as_str)).map(str::to_owned));
    native.raw_set("near", lua.create_function(near)?)
}

/// A whole number.
pub(super) fn whole(function: &str, what: &str, value: &Value) -> mlua::Result<i64> {
    match value {
        Value::Integer(number) => Ok(*number),
        Value::Number(number) if number.fract() == 0.0 && number.abs() < 9e15 => Ok(*number as i64),
        Value::Number(_) => Err(wrong(function, format_args!("{what} must be a whole number"))),
        other => Err(mistyped(function, what, "number", other)),
    }
}

/// The error for a value of another type.
pub(super) fn mistyped(function: &str, what: &str, wanted: &str, value: &Value) -> mlua::Error {
    let found = match value {
        Value::Integer(_) => "number",
        other => other.type_name(),
    };
    wrong(function, format_args!("{what} must be a {wanted}, not {}", if value.is_nil() { "nil".into() } else { format!("a {found}") }))
}

/// A place in a text, as Lua counts: from 1.
pub(super) fn number(number: usize) -> Value {
    Value::Number(number as f64)
}

/// Ends native work that goes on after the hook's budget is used up. Work of more than about a millisecond asks between its parts.
pub(in crate::hooks) fn keep_time(lua: &Lua) -> mlua::Result<()> {
    let meter = lua.app_data_ref::<Context>().map(|context| Arc::clone(&context.meter));
    meter.map_or(Ok(()), |meter| meter.interrupt(lua).map(|_| ()))
}
