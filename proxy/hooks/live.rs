//! A run's VM while the run has it: the run's own instance of each script, and the call of one hook.

use std::sync::Arc;

use mlua::{Function, Table, Value as Lv};

use super::RunView;
use super::api::Decision;
use super::change::Change;
use super::context::{Argument, Context};
use super::failure::Failure;
use super::point::{self, Point};
use super::pool::Pool;
use super::script::Script;
use super::vm::Vm;
use super::world::World;
use crate::chat::Object;

/// The VM of one run. It goes back to the pool when it is dropped, unless a script spoiled it.
pub(super) struct Live {
    /// There until the drop.
    loan: Option<Loan>,
    pool: Arc<Pool>,
    /// A call was begun and not ended (its future was dropped), or it spoiled the VM.
    is_spoiled: bool,
}

/// A VM and the run's tables in it.
struct Loan {
    vm: Vm,
    state: Table,
    instances: Vec<Instance>,
}

/// A script in one run.
struct Instance {
    /// The files that it has required.
    modules: Table,
    /// Its table of hooks, and its `run`; there from its first hook on.
    ready: Option<(Table, Table)>,
}

/// What is the same for all calls of a moment.
pub(super) struct Moment {
    pub run: Arc<str>,
    pub view: Arc<RunView>,
    pub world: Arc<dyn World>,
}

/// What a hook did.
pub(super) enum Done {
    /// It returned nothing; these fields of its argument are different now.
    Changed(Vec<Change>),
    /// It returned a verdict.
    Decided(Decision),
}

impl Live {
    /// A VM of the pool for a run with `n_scripts` scripts.
    pub(super) fn new(pool: &Arc<Pool>, n_scripts: usize) -> Result<Live, Failure> {
        let failed = |error: mlua::Error| Failure::raised("a new VM", &error);
        let vm = pool.take().map_err(failed)?;
        vm.begin().map_err(failed)?;
        let state = vm.lua.create_table().map_err(failed)?;
        let new = |_| Ok(Instance { modules: vm.lua.create_table()?, ready: None });
        let instances = (0..n_scripts).map(new).collect::<mlua::Result<_>>().map_err(failed)?;
        Ok(Live { loan: Some(Loan { vm, state, instances }), pool: Arc::clone(pool), is_spoiled: false })
    }

    /// Whether the next call needs another VM.
    pub(super) fn is_spoiled(&self) -> bool {
        self.is_spoiled
    }

    /// Calls the hook for `point` of the script at `index` with `fields`, and returns these as they were before.
    pub(super) async fn call(
        &mut self,
        index: usize,
        script: &Script,
        point: Point,
        moment: &Moment,
        fields: Object,
    ) -> (Object, Result<Done, Failure>) {
        let Some(Loan { vm, state, instances }) = &mut self.loan else {
            return (fields, Err(Failure::misuse(&script.name, "the VM is gone")));
        };
        self.is_spoiled = true;
        vm.lua.set_app_data(Context {
            script: Arc::clone(&script.name),
            run: Arc::clone(&moment.run),
            folder: Arc::clone(&script.folder),
            modules: instances[index].modules.clone(),
            meter: Arc::clone(&vm.meter),
            view: Arc::clone(&moment.view),
            world: Arc::clone(&moment.world),
            n_lines: 0,
            n_verdicts: 0,
            argument: Some(Argument::new(point.row().argument.0, fields)),
            trial: None,
        });
        vm.meter.start(script.budget);
        let result = attempt(vm, &mut instances[index], state, script, point, moment).await;
        // A script that caught the error at its deadline is as late as one that did not.
        let late = || Failure::late(&vm.meter.place().unwrap_or_else(|| script.place(point)));
        let result = if vm.meter.is_overdue() { Err(late()) } else { result };
        let argument = vm.lua.remove_app_data::<Context>().and_then(|context| context.argument);
        self.is_spoiled = result.as_ref().is_err_and(Failure::spoils_vm);
        (argument.map(Argument::into_fields).unwrap_or_default(), result)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let Some(Loan { vm, state, instances }) = self.loan.take() else { return };
        drop((state, instances));
        if !self.is_spoiled {
            self.pool.give_back(vm);
        }
    }
}

async fn attempt(vm: &Vm, instance: &mut Instance, state: &Table, script: &Script, point: Point, moment: &Moment) -> Result<Done, Failure> {
    let failed = |error: mlua::Error| Failure::raised(&script.place(point), &error);
    let misuse = |problem: String| Failure::misuse(&script.place(point), format!("`{}` {problem}", point.name()));
    vm.tidy().map_err(failed)?;
    let (hooks, this_run) = match &instance.ready {
        Some(ready) => ready,
        None => instance.ready.insert(start(vm, state, script, moment).await?),
    };
    let function = match hooks.raw_get::<Lv>(point.name()).map_err(failed)? {
        Lv::Function(function) => function,
        other => return Err(misuse(format!("is {} in this run and was a function when the script was loaded", other.type_name()))),
    };
    let used = vm.lua.used_memory();
    let argument = {
        let context = vm.lua.app_data_mut::<Context>();
        let opened = context.and_then(|mut context| context.argument.as_mut().map(|argument| argument.open(&vm.lua, &vm.api.argument)));
        opened.ok_or_else(|| misuse("was called without an argument".into()))?.map_err(failed)?
    };
    let handed = vm.lua.used_memory().saturating_sub(used);
    let returned = run(vm, function, (&argument, this_run), handed).await.map_err(failed)?;
    let context = vm.lua.app_data_ref::<Context>();
    let n_verdicts = context.as_ref().map_or(0, |context| context.n_verdicts);
    if let Some(decision) = vm.api.decision(&vm.lua, &returned, n_verdicts).map_err(&misuse)? {
        point::check(point.row(), decision.name()).map_err(|problem| Failure::misuse(&script.place(point), problem))?;
        return Ok(Done::Decided(decision));
    }
    let changes = context.and_then(|context| context.argument.as_ref().map(|before| before.changes(&vm.lua, &argument)));
    match changes {
        Some(Ok(changes)) => Ok(Done::Changed(changes)),
        Some(Err(misfit)) => Err(Failure::misuse(&script.place(point), misfit)),
        None => Ok(Done::Changed(Vec::new())),
    }
}

/// Runs the script for this run: what it keeps in its own variables, no other run sees.
async fn start(vm: &Vm, state: &Table, script: &Script, moment: &Moment) -> Result<(Table, Table), Failure> {
    let failed = |error: mlua::Error| Failure::raised(&script.name, &error);
    let chunk = vm.function(&script.name, &script.bytecode).map_err(failed)?;
    let Lv::Table(hooks) = run(vm, chunk, (), 0).await.map_err(failed)? else {
        return Err(Failure::misuse(&script.name, "the script returned no table in this run, and did when it was loaded"));
    };
    let run = vm.api.run(&vm.lua, &moment.view, &script.config, state).map_err(failed)?;
    Ok((hooks, run))
}

/// Runs a function on the budget, as a Lua thread that may yield to the other tasks. `handed` is the size of its arguments.
async fn run(vm: &Vm, function: Function, arguments: impl mlua::IntoLuaMulti, handed: usize) -> mlua::Result<Lv> {
    let thread = vm.thread(function)?;
    let future = thread.clone().into_async::<Lv>(arguments)?;
    vm.cap(handed)?;
    let returned = vm.meter.drive(thread, future).await;
    vm.lift_cap()?;
    returned
}
