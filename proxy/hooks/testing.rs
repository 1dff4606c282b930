//! Runs a test of scripts: a file called `x_test.lua`, in the VM and sandbox that scripts have, with a world that the test plays.

mod diff;
mod natives;
mod play;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use mlua::{Function, Table, Thread, Value as Lv};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::context::{Context, Trial};
use super::failure::{self, Failure};
use super::script::{self, Folder};
use super::vm::Vm;
use super::world::{Reach, World};
use super::{guard, stdlib};
use crate::chat::Object;
use crate::store::Store;

/// What a case may use of the CPU before it counts as one that never ends.
const BUDGET: Duration = Duration::from_secs(5);

/// How long a case may take, waiting included.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What came of one file.
#[derive(Debug, Default)]
pub struct Report {
    /// The file, as it was named.
    pub file: String,
    /// Its cases in their order.
    pub cases: Vec<Case>,
    /// Why the file itself could not be run.
    pub fault: Option<String>,
}

/// What came of one case.
#[derive(Debug)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// Why it failed: `file:line: what`, then perhaps a diff.
    pub failure: Option<String>,
    /// The lines that scripts logged in it.
    pub lines: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// Where whole runs of the configuration's agents are rehearsed.
#[async_trait]
pub trait Stage: Send + Sync {
    /// Runs an agent on a request (`{ messages, stream, headers, ... }`) and tells what a client would have got of it. All that the
    /// run asks of its model, its tools and the world goes to `asked`. `Err` says why there is no such run.
    async fn rehearse(&self, agent: &str, request: Object, props: Props, asked: Asked) -> Result<Value, String>;
}

/// What a rehearsed run finds on the stage.
pub struct Props {
    /// The names of the tools that the test plays.
    pub tools: Vec<String>,
    /// What scripts keep: the case's own.
    pub store: Arc<Store>,
}

/// Where questions go.
pub type Asked = mpsc::Sender<Question>;

/// What a run or a script asks of whoever plays the world. Dropping it unanswered is a failure for whoever asked.
pub struct Question {
    /// What is asked for.
    pub part: Part,
    /// What is asked.
    pub request: Value,
    /// Where the answer goes; `Err` is a sentence.
    pub reply: oneshot::Sender<Result<Value, String>>,
}

/// Which part is to be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The model, asked with a prompt.
    Model,
    /// The tool of this name, called with arguments.
    Tool(String),
    /// What a script reaches.
    Reach(Reach),
}

/// Asks whoever plays the world.
pub async fn ask(asked: &Asked, part: Part, request: Value) -> Result<Value, String> {
    let (reply, answer) = oneshot::channel();
    let gone = || "the test has ended".to_owned();
    asked.send(Question { part, request, reply }).await.map_err(|_| gone())?;
    answer.await.unwrap_or_else(|_| Err(gone()))
}

/// The world of a script that a test calls: values are kept for real, everything else the test plays.
struct Played {
    asked: Asked,
    store: Arc<Store>,
}

#[async_trait]
impl World for Played {
    async fn reach(&self, reach: Reach, request: Object) -> Result<Value, String> {
        match reach {
            Reach::Store => self.store.operate(request),
            _ => ask(&self.asked, Part::Reach(reach), Value::Object(request)).await,
        }
    }
}

/// Runs the file at `path` below `root`, each case with a store and fakes of its own.
pub async fn run_file(root: &Path, path: &Path, stage: Arc<dyn Stage>) -> Report {
    let file = path.display().to_string();
    match Trialled::begin(root, path, &file, stage).await {
        Ok(mut trialled) => {
            let mut cases = Vec::new();
            for (name, function) in std::mem::take(&mut trialled.cases) {
                cases.push(trialled.case(name, function).await);
            }
            Report { file, cases, fault: None }
        }
        Err(failure) => Report { file, cases: Vec::new(), fault: Some(failure.text) },
    }
}

/// A test file whose cases are known.
struct Trialled {
    vm: Vm,
    /// The file's name, for errors without a place.
    name: Arc<str>,
    folder: Arc<Folder>,
    modules: Table,
    /// The Lua half of `std.test`: resets itself, and plays the world.
    test: Table,
    stage: Arc<dyn Stage>,
    cases: Vec<(String, Function)>,
}

impl Trialled {
    async fn begin(root: &Path, path: &Path, file: &str, stage: Arc<dyn Stage>) -> Result<Trialled, Failure> {
        let misuse = |problem: String| Failure { kind: crate::error::Kind::HookError, text: problem };
        let source = script::read_source(&root.join(path)).map_err(|problem| misuse(format!("{file}: {problem}")))?;
        let bytecode = stdlib::compile(&source).map_err(|error| {
            let (line, message) = script::syntax(&error);
            misuse(format!("{file}:{line}: {message}"))
        })?;
        let failed = |error: mlua::Error| Failure::raised(file, &error);
        let vm = Vm::new().map_err(failed)?;
        let (modules, test) = natives::install(&vm, path).and_then(|test| Ok((vm.lua.create_table()?, test))).map_err(failed)?;
        let folder = Arc::new(Folder::read(root, path));
        let mut trialled = Trialled { vm, name: file.into(), folder, modules, test, stage, cases: Vec::new() };
        let chunk = trialled.vm.function(file, &bytecode).map_err(failed)?;
        trialled.attempt(chunk).await.1?;
        trialled.cases = natives::cases(&trialled.vm).map_err(failed)?;
        Ok(trialled)
    }

    async fn case(&mut self, name: String, function: Function) -> Case {
        let begun = Instant::now();
        let (lines, outcome) = self.attempt(function).await;
        Case { name, failure: outcome.err().map(|failure| failure.text), lines, took: begun.elapsed() }
    }

    /// Calls a function of the test with a fresh world, and plays this world while it waits.
    async fn attempt(&self, function: Function) -> (Vec<String>, Result<(), Failure>) {
        let (asked, mut questions) = mpsc::channel(1);
        let store = Arc::new(Store::default());
        let context = Context {
            world: Arc::new(Played { asked, store: store.clone() }),
            trial: Some(Trial::default()),
            ..Context::new(self.name.clone(), self.folder.clone(), self.modules.clone(), self.vm.meter.clone())
        };
        self.vm.lua.set_app_data(context);
        self.vm.lua.set_app_data(natives::Theatre { stage: Arc::clone(&self.stage), store });
        self.vm.meter.start(BUDGET);
        let outcome = tokio::time::timeout(TIMEOUT, self.call(function, &mut questions)).await;
        let context = self.vm.lua.remove_app_data::<Context>();
        let lines = context.and_then(|context| context.trial).map(|trial| trial.lines).unwrap_or_default();
        let outcome = match outcome {
            _ if self.vm.meter.is_overdue() => Err(Failure {
                text: format!("{}: it used {BUDGET:?} of CPU", self.vm.meter.place().as_deref().unwrap_or(&self.name)),
                ..Failure::late(&self.name)
            }),
            Ok(outcome) => outcome.map_err(|error| Failure::raised(&self.name, &error)),
            Err(_) => Err(Failure::misuse(&self.name, format!("it did not end within {TIMEOUT:?}"))),
        };
        (lines, outcome)
    }

    async fn call(&self, function: Function, questions: &mut mpsc::Receiver<Question>) -> mlua::Result<()> {
        self.vm.tidy()?;
        self.vm.cap(0)?;
        self.test.raw_get::<Function>("reset")?.call::<()>(())?;
        let play: Function = self.test.raw_get("play")?;
        let thread = self.vm.lua.create_thread(function)?;
        guard::own(&self.vm.lua, &thread)?;
        let calling = thread.clone().into_async::<Lv>(())?;
        let playing = async {
            let mut calling = std::pin::pin!(calling);
            loop {
                tokio::select! {
                    biased;
                    ended = &mut calling => return ended.and_then(|_| self.test.raw_get::<Function>("finish")?.call(())),
                    Some(question) = questions.recv() => {
                        let played = play::answer(&self.vm.lua, &self.vm.meter, &play, question).await;
                        played.map_err(|error| self.placed(&thread, error))?;
                    }
                }
            }
        };
        self.vm.meter.drive(&thread, playing).await
    }

    /// An error that says no place, with that of the script which asked: it waits on this thread.
    fn placed(&self, thread: &Thread, error: mlua::Error) -> mlua::Error {
        let text = failure::described(&error);
        if failure::split_place(&text).is_some() {
            return error;
        }
        let trace = || self.vm.lua.globals().get::<Table>("debug")?.get::<Function>("traceback")?.call::<String>((thread, "stack"));
        match trace().ok().as_deref().and_then(failure::place) {
            Some(place) => mlua::Error::runtime(format!("{place}: {text}")),
            None => error,
        }
    }
}
