//! The native half of `std.test`: the cases of a file, the `run` that a hook gets, rehearsals of whole runs.

use std::path::Path;
use std::sync::Arc;

use mlua::{Function, Lua, Table, Value as Lv};
use serde_json::Value;
use tokio::sync::mpsc;

use super::super::context::Context;
use super::super::point::{self, ROWS};
use super::super::stdlib::{self, waiting};
use super::super::vm::Vm;
use super::super::{RunView, convert};
use super::{Props, Stage, diff, play};
use crate::chat::Object;
use crate::store::Store;

/// The registry's name for the list of cases.
const CASES: &str = "moongate.cases";

/// What a case's rehearsals need; the VM has it as application data.
pub(super) struct Theatre {
    pub stage: Arc<dyn Stage>,
    pub store: Arc<Store>,
}

/// Puts `std.test` into a VM, and returns its Lua half.
pub(super) fn install(vm: &Vm, path: &Path) -> mlua::Result<Table> {
    let lua = &vm.lua;
    lua.set_named_registry_value(CASES, lua.create_table()?)?;
    let native = lua.create_table()?;
    let subject = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.strip_suffix("_test"));
    native.raw_set("subject", subject)?;
    native.raw_set("case", lua.create_function(case)?)?;
    native.raw_set("diff", lua.create_function(|lua, (got, want): (Lv, Lv)| Ok(diff::show(lua, &got, &want)))?)?;
    native.raw_set("lines", lua.create_function(lines)?)?;
    native.raw_set("clock", lua.create_function(clock)?)?;
    native.raw_set("made", lua.create_function(|lua, ()| Ok(lua.app_data_ref::<Context>().map_or(0, |context| context.n_verdicts)))?)?;
    let api = vm.api.clone();
    let problem = move |lua: &Lua, (name, verdict, n_made): (String, Lv, u32)| {
        let Some(row) = ROWS.iter().find(|row| row.name == name) else { return Ok(None) };
        let decided = api.decision(lua, &verdict, n_made).map_err(|problem| format!("`{name}` {problem}"));
        Ok(decided.and_then(|decision| decision.map_or(Ok(()), |decision| point::check(row, decision.name()))).err())
    };
    native.raw_set("problem", lua.create_function(problem)?)?;
    let api = vm.api.clone();
    native.raw_set(
        "run",
        lua.create_function(move |lua, (fields, config, state): (Lv, Lv, Table)| {
            let read = |value: &Lv, what: &str| {
                convert::from_lua(lua, value).map_err(|misfit| mlua::Error::runtime(format!("test.run: {what}{misfit}")))
            };
            let fields = read(&fields, "a field")?;
            let run = api.run(lua, &view(&fields), &read(&config, "the config")?, &state)?;
            // What a gateway's run looks up, a test's has in itself, so that one test may have several.
            run.set_readonly(false);
            for name in ["hop", "headers", "usage", "user", "session"] {
                let field = &fields[name];
                run.raw_set(name, if field.is_null() { Lv::Nil } else { convert::to_lua(lua, field)? })?;
            }
            run.set_readonly(true);
            Ok(run)
        })?,
    )?;
    native.raw_set("rehearse", waiting(lua, "agent:chat", rehearse)?)?;
    stdlib::install_test(lua, native)
}

/// The cases that the file has named, in their order.
pub(super) fn cases(vm: &Vm) -> mlua::Result<Vec<(String, Function)>> {
    let cases: Table = vm.lua.named_registry_value(CASES)?;
    let cases = cases.sequence_values::<Table>().map(|case| case.and_then(|case| Ok((case.raw_get(1)?, case.raw_get(2)?))));
    cases.collect()
}

fn case(lua: &Lua, (name, function): (String, Function)) -> mlua::Result<()> {
    let cases: Table = lua.named_registry_value(CASES)?;
    cases.raw_push(lua.create_sequence_from([Lv::String(lua.create_string(name)?), Lv::Function(function)])?)
}

fn lines(lua: &Lua, (): ()) -> mlua::Result<Vec<String>> {
    let context = lua.app_data_ref::<Context>();
    Ok(context.and_then(|context| Some(context.trial.as_ref()?.lines.clone())).unwrap_or_default())
}

fn clock(lua: &Lua, seconds: Option<f64>) -> mlua::Result<()> {
    if let Some(trial) = lua.app_data_mut::<Context>().as_mut().and_then(|context| context.trial.as_mut()) {
        trial.clock = seconds;
    }
    Ok(())
}

fn view(fields: &Value) -> RunView {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
    RunView {
        id: text("id").unwrap_or_default(),
        agent: text("agent").unwrap_or_default(),
        model: text("model").unwrap_or_default(),
        key: text("key"),
        user: text("user"),
        session: text("session"),
        ..RunView::default()
    }
}

/// `rehearse(agent, request, tools, play)`: the outcome of a whole run, which asks `play` for its model, its tools and the world.
fn rehearse(
    lua: Lua,
    meter: Arc<super::super::meter::Meter>,
    (agent, request, tools, part): (String, Lv, Vec<String>, Function),
) -> impl Future<Output = mlua::Result<Lv>> + Send {
    let theatre = lua.app_data_ref::<Theatre>().map(|theatre| (Arc::clone(&theatre.stage), Arc::clone(&theatre.store)));
    let request = convert::from_lua(&lua, &request);
    async move {
        let raised = |why: String| mlua::Error::runtime(format!("agent:chat: {why}"));
        let request = match request.map_err(|misfit| raised(format!("the request{misfit}")))? {
            Value::Object(request) => request,
            _ => Object::new(),
        };
        let (stage, store) = theatre.ok_or_else(|| raised("there is no stage here".into()))?;
        let (asked, mut questions) = mpsc::channel(1);
        let mut running = std::pin::pin!(meter.wait(stage.rehearse(&agent, request, Props { tools, store }, asked)));
        let outcome = loop {
            tokio::select! {
                biased;
                ended = &mut running => break ended.map_err(raised)?,
                Some(question) = questions.recv() => play::answer(&lua, &meter, &part, question).await?,
            }
        };
        convert::to_lua(&lua, &outcome)
    }
}
