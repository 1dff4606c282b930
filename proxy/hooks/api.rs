//! What Lua sees: `run` and its verdicts, and the lazy table that is a hook's argument.

use mlua::{IntoLua, Lua, Table, Value as Lv};
use serde_json::{Map, Value};

use super::context::Context;
use super::{RunView, convert, guard, stdlib};

/// The longest message of a verdict, in bytes.
const MAX_WORDS: usize = 4096;

/// The metatables and methods of one VM.
#[derive(Clone)]
pub(super) struct Api {
    /// Of the hook's first argument: reads fields when they are asked for.
    pub argument: Table,
    run: Table,
    verdict: Table,
    methods: Table,
}

/// A verdict as a script returned it.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    Answer(Value),
    Reject(String),
    Abort(u16, String),
}

impl Decision {
    /// The method that makes it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Decision::Answer(_) => "answer",
            Decision::Reject(_) => "reject",
            Decision::Abort(..) => "abort",
        }
    }
}

impl Api {
    pub(super) fn new(lua: &Lua) -> mlua::Result<Api> {
        let argument = locked(lua)?;
        argument.raw_set("__index", lua.create_function(read_argument)?)?;
        argument.raw_set("__newindex", lua.create_function(write_argument)?)?;
        let next: Lv = lua.globals().raw_get("next")?;
        let iterate = move |lua: &Lua, table: Table| {
            guard::fill(lua, table.clone())?;
            Ok((next.clone(), table))
        };
        argument.raw_set("__iter", lua.create_function(iterate)?)?;
        argument.set_readonly(true);
        let run = locked(lua)?;
        run.raw_set("__index", lua.create_function(read_run)?)?;
        run.set_readonly(true);
        let verdict = locked(lua)?;
        verdict.set_readonly(true);

        let methods = lua.create_table()?;
        let metatable = verdict.clone();
        methods.raw_set(
            "answer",
            lua.create_function(move |lua, (run, value): (Lv, Lv)| {
                with_colon("answer", &run)?;
                if value.is_nil() {
                    return Err(mlua::Error::runtime("run:answer(x) needs a value"));
                }
                new_verdict(lua, &metatable, "answer", value, None)
            })?,
        )?;
        let metatable = verdict.clone();
        methods.raw_set(
            "reject",
            lua.create_function(move |lua, (run, message): (Lv, Lv)| {
                with_colon("reject", &run)?;
                new_verdict(lua, &metatable, "reject", words(lua, "run:reject(message)", message)?, None)
            })?,
        )?;
        let metatable = verdict.clone();
        methods.raw_set(
            "abort",
            lua.create_function(move |lua, (run, status, message): (Lv, Lv, Lv)| {
                with_colon("abort", &run)?;
                let status = status.as_integer().filter(|status| (400..600).contains(status));
                let status = status
                    .ok_or_else(|| mlua::Error::runtime("run:abort(status, message): the status is a whole number from 400 to 599"))?;
                new_verdict(lua, &metatable, "abort", words(lua, "run:abort(status, message)", message)?, Some(status))
            })?,
        )?;
        Ok(Api { argument, run, verdict, methods })
    }

    /// The `run` of one script: read-only but for `run.state`, which all scripts of the run share.
    pub(super) fn run(&self, lua: &Lua, view: &RunView, config: &Value, state: &Table) -> mlua::Result<Table> {
        let run = lua.create_table_with_capacity(0, 12)?;
        run.raw_set("id", view.id.as_str())?;
        run.raw_set("agent", view.agent.as_str())?;
        run.raw_set("model", view.model.as_str())?;
        run.raw_set("key", view.key.as_deref())?;
        run.raw_set("state", state)?;
        run.raw_set("log", stdlib::module(lua, "std.log")?)?;
        let config = convert::to_lua(lua, config)?;
        if let Some(config) = config.as_table() {
            config.set_readonly(true);
        }
        run.raw_set("config", config)?;
        for method in ["answer", "reject", "abort"] {
            run.raw_set(method, self.methods.raw_get::<Lv>(method)?)?;
        }
        run.set_metatable(Some(self.run.clone()))?;
        run.set_readonly(true);
        Ok(run)
    }

    /// What a hook's return value means. `Err` says what is wrong with it, in words for the script's author.
    pub(super) fn decision(&self, lua: &Lua, returned: &Lv, n_made: u32) -> Result<Option<Decision>, String> {
        let verdict = match returned {
            Lv::Nil if n_made == 0 => return Ok(None),
            Lv::Nil => {
                return Err(
                    "made a verdict and did not return it: a verdict has no effect unless returned (`return run:reject(...)`)".into()
                );
            }
            Lv::Table(table) if table.metatable().is_some_and(|found| found == self.verdict) => table,
            Lv::Table(table) if table.metatable().is_some_and(|found| found == self.argument) => {
                return Err("returned its argument: change the table in place and return nothing".into());
            }
            other => {
                return Err(format!(
                    "returned a {}: a hook returns nothing or a verdict (`run:answer`, `run:reject`, `run:abort`)",
                    other.type_name()
                ));
            }
        };
        let read = |name: &str| verdict.raw_get::<Lv>(name).map_err(|error| error.to_string());
        let text = || read("value").map(|value| value.as_string().map(|text| text.to_string_lossy()).unwrap_or_default());
        let kind = read("kind")?;
        Ok(Some(match kind.as_string().map(|kind| kind.to_string_lossy()).as_deref() {
            Some("reject") => Decision::Reject(text()?),
            Some("abort") => {
                Decision::Abort(read("status")?.as_u32().and_then(|status| u16::try_from(status).ok()).unwrap_or(500), text()?)
            }
            _ => Decision::Answer(convert::from_lua(lua, &read("value")?).map_err(|misfit| format!("answered with a value that{misfit}"))?),
        }))
    }
}

/// An empty metatable that scripts cannot get at.
fn locked(lua: &Lua) -> mlua::Result<Table> {
    let metatable = lua.create_table()?;
    metatable.raw_set("__metatable", false)?;
    Ok(metatable)
}

fn new_verdict(lua: &Lua, metatable: &Table, kind: &str, value: Lv, status: Option<i64>) -> mlua::Result<Table> {
    if let Some(mut context) = lua.app_data_mut::<Context>() {
        context.n_verdicts += 1;
    }
    let verdict = lua.create_table()?;
    verdict.raw_set("kind", kind)?;
    verdict.raw_set("value", value)?;
    verdict.raw_set("status", status)?;
    verdict.set_metatable(Some(metatable.clone()))?;
    verdict.set_readonly(true);
    Ok(verdict)
}

fn with_colon(method: &str, run: &Lv) -> mlua::Result<()> {
    if run.is_table() { Ok(()) } else { Err(mlua::Error::runtime(format!("write `run:{method}(...)`, with a colon"))) }
}

/// A message for people: text, cut off where it is longer than anybody reads, or a number.
fn words(lua: &Lua, call: &str, message: Lv) -> mlua::Result<Lv> {
    match &message {
        Lv::String(text) if text.as_bytes().len() <= MAX_WORDS => Ok(message),
        Lv::String(text) => {
            let text = text.to_string_lossy();
            lua.create_string(&text[..text.floor_char_boundary(MAX_WORDS)]).map(Lv::String)
        }
        Lv::Integer(_) | Lv::Number(_) => lua.create_string(message.to_string()?).map(Lv::String),
        other => Err(mlua::Error::runtime(format!("{call}: the message is text, not {}", other.type_name()))),
    }
}

fn read_argument(lua: &Lua, (table, key): (Table, Lv)) -> mlua::Result<Lv> {
    let Some(mut context) = lua.app_data_mut::<Context>() else { return Ok(Lv::Nil) };
    let context = &mut *context;
    match &mut context.argument {
        Some(argument) => argument.read(lua, &context.meter, &table, &key),
        None => Ok(Lv::Nil),
    }
}

fn write_argument(lua: &Lua, (table, key, value): (Table, Lv, Lv)) -> mlua::Result<()> {
    let Some(mut context) = lua.app_data_mut::<Context>() else { return Ok(()) };
    match &mut context.argument {
        Some(argument) => argument.write(&table, &key, &value),
        None => table.raw_set(key, value),
    }
}

/// The fields of `run` that change during the run, and those that cost something.
fn read_run(lua: &Lua, (_, key): (Table, Lv)) -> mlua::Result<Lv> {
    let Some(context) = lua.app_data_ref::<Context>() else { return Ok(Lv::Nil) };
    let Some(name) = key.as_string().and_then(|name| name.to_str().ok()) else { return Ok(Lv::Nil) };
    match &*name {
        "user" => context.view.user.as_deref().into_lua(lua),
        "session" => context.view.session.as_deref().into_lua(lua),
        "hop" => Ok(Lv::Integer(context.world.progress().0.into())),
        "usage" => convert::to_lua(lua, &serde_json::to_value(context.world.progress().1).map_err(mlua::Error::external)?),
        "headers" => {
            let headers: Map<String, Value> =
                context.view.headers.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
            vm_free(lua, &context, &Value::Object(headers))
        }
        _ => Ok(Lv::Nil),
    }
}

fn vm_free(lua: &Lua, context: &Context, value: &Value) -> mlua::Result<Lv> {
    super::vm::unmetered(lua, &context.meter, || convert::to_lua(lua, value))
}
