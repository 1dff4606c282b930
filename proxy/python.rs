//! Python agents and tools. They run in worker processes, so that no fault of theirs is the gateway's: there is no Python in here.
//!
//! ```text
//! Python       what a snapshot holds: its agents and functions, in workers that have imported them
//!   fleet        keeps N workers; one that is lost is replaced
//!     nursery      has a spare ready, the SDK already imported
//!     worker       one process: frames over a socket pair, a heartbeat, limits
//!   call         one run or function in a worker: events come out, answers go in, dropping it cancels it
//! ```
//! The other side of the socket is `moongate-python`, a program of its own in `worker/`.

pub mod call;
mod fleet;
pub mod frames;
pub mod modules;
mod nursery;
mod settings;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::call::{Call, Event, Outcome};
use self::fleet::{Fleet, State};
use self::frames::{AgentTarget, RunOrder, TroubleKind};
use self::modules::Modules;
use self::nursery::Nursery;
pub use self::settings::Settings;
use crate::chat::Object;

/// How long a call waits for a worker while one is being replaced.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the workers of one configuration import, and how they are started.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How they are started.
    pub settings: Settings,
    /// The agents.
    pub agents: Vec<AgentTarget>,
    /// The functions: `module:function`.
    pub tools: Vec<String>,
}

/// What a function returned.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Returned {
    /// As the model reads it: text as it is, everything else as JSON.
    pub content: String,
    /// As scripts see it.
    pub value: Value,
}

/// The code of one configuration, in workers that have imported it. Dropping it ends them: calls in flight hold it.
pub struct Python {
    plan: Arc<Plan>,
    state: watch::Sender<State>,
    nursery: Arc<Nursery>,
    control: Handle,
    cancel: CancellationToken,
    is_started: AtomicBool,
}

impl Python {
    /// Nothing is started yet. `control` is the runtime that shall own the workers. The spare is shared with `old`, which it
    /// replaces; `old` itself is returned where it has imported the same files with the same settings, and all went well.
    pub fn new(plan: Plan, old: Option<&Arc<Python>>, control: &Handle) -> Arc<Python> {
        if let Some(old) = old.filter(|old| *old.plan == plan && old.is_current()) {
            return old.clone();
        }
        Arc::new(Python {
            plan: Arc::new(plan),
            state: watch::Sender::new(State::default()),
            nursery: old.map(|old| old.nursery.clone()).unwrap_or_default(),
            control: control.clone(),
            cancel: CancellationToken::new(),
            is_started: AtomicBool::new(false),
        })
    }

    /// Code that is never started, for tests of what does not need it.
    #[cfg(test)]
    pub(crate) fn idle() -> Arc<Python> {
        let settings = Settings::new(None, std::path::Path::new("/nowhere"), &[]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Python::new(Plan { settings, agents: Vec::new(), tools: Vec::new() }, None, runtime.handle())
    }

    /// Whether the configuration names any code: without, workers are started when a script first calls a function.
    pub fn is_wanted(&self) -> bool {
        !self.plan.agents.is_empty() || !self.plan.tools.is_empty()
    }

    /// Starts the workers. Further calls do nothing.
    pub fn start(&self) {
        if self.is_started.swap(true, Ordering::Relaxed) {
            return;
        }
        let fleet = Fleet {
            plan: self.plan.clone(),
            state: self.state.clone(),
            nursery: self.nursery.clone(),
            cancel: self.cancel.clone(),
            control: self.control.clone(),
        };
        self.control.spawn(fleet.keep());
    }

    /// Returns when the code has been imported, well or badly, or `limit` is over; at once when nothing was started.
    pub async fn wait_started(&self, limit: Duration) {
        if self.is_started.load(Ordering::Relaxed) {
            let mut state = self.state.subscribe();
            let _ = tokio::time::timeout(limit, state.wait_for(|state| state.attempts > 0)).await;
        }
    }

    /// Ends the workers, whatever they are busy with.
    pub fn stop(&self) {
        self.cancel.cancel();
    }

    /// Why this agent cannot run now, in words for the operator.
    pub fn fault_of_agent(&self, name: &str) -> Option<String> {
        self.fault(|modules| modules.fault_of_agent(name).map(str::to_owned))
    }

    /// Why this function cannot be called now, in words for the operator.
    pub fn fault_of_function(&self, function: &str) -> Option<String> {
        self.fault(|modules| modules.signature(function).err().map(str::to_owned))
    }

    fn fault(&self, find: impl Fn(&Modules) -> Option<String>) -> Option<String> {
        let state = self.state.borrow();
        match (&state.error, &state.modules) {
            (Some(error), _) if state.lines.is_empty() => Some(error.clone()),
            (_, Some(modules)) => find(modules),
            _ => Some("its Python worker is being started".to_owned()),
        }
    }

    /// Imports everything that is named, for `check`. `Err` says why there is no worker for it; `Ok` has what could not be imported.
    pub async fn try_imports(&self) -> Result<Vec<String>, String> {
        self.start();
        let mut state = self.state.subscribe();
        let state = state.wait_for(|state| state.attempts > 0).await.map_err(|_| "it was stopped")?;
        match (&state.error, &state.modules) {
            (None, Some(modules)) => Ok(modules.faults()),
            (error, _) => Err(error.clone().unwrap_or_default()),
        }
    }

    /// What was imported; `None` until it is.
    pub fn modules(&self) -> Option<Arc<Modules>> {
        self.state.borrow().modules.clone()
    }

    /// The files that were imported.
    pub fn files(&self) -> Vec<PathBuf> {
        self.modules().iter().flat_map(|modules| modules.files().cloned().collect::<Vec<_>>()).collect()
    }

    fn is_current(&self) -> bool {
        !self.is_wanted() || self.modules().is_some_and(|modules| modules.is_current())
    }

    /// Begins a run. `Err` says why there is no worker for it.
    pub async fn run(&self, order: &RunOrder) -> Result<Call, String> {
        Ok(self.acquire().await?.run(order))
    }

    /// Calls a function, within the configuration's `call_timeout`. `Err` is a sentence for the model. Dropping the future cancels the call.
    pub async fn call(&self, function: &str, arguments: &Object) -> Result<Returned, String> {
        let limit = self.plan.settings.call_timeout;
        let called = tokio::time::timeout(limit, self.call_unbounded(function, arguments)).await;
        called.unwrap_or_else(|_| Err(format!("timed out after {} s", limit.as_secs_f64())))
    }

    async fn call_unbounded(&self, function: &str, arguments: &Object) -> Result<Returned, String> {
        self.start();
        let mut call = self.acquire().await?.call(function, arguments);
        loop {
            match call.next().await {
                Event::Ended(Outcome::Result(result)) => {
                    return serde_json::from_value(Value::Object(result)).map_err(|error| format!("its result is nothing: {error}"));
                }
                Event::Ended(Outcome::Failed(trouble)) => {
                    if trouble.kind == TroubleKind::Exception {
                        tracing::warn!(function, "{trouble}\n{}", trouble.traceback.as_deref().unwrap_or_default());
                    }
                    return Err(trouble.message);
                }
                Event::Ended(Outcome::Lost(how)) => return Err(format!("the call was cut off: {how}")),
                // A function has nobody to ask, and says all at its end.
                Event::Piece(_) | Event::Ask(..) | Event::Forget(_) => {}
            }
        }
    }

    /// The worker with the fewest calls.
    async fn acquire(&self) -> Result<Arc<worker::Line>, String> {
        let free = |state: &State| {
            let loads = state.lines.iter().filter_map(|line| Some((line.load()?, line)));
            loads.min_by_key(|(load, _)| *load).map(|(_, line)| line.clone())
        };
        let mut state = self.state.subscribe();
        let found = async {
            loop {
                {
                    let state = state.borrow_and_update();
                    match (free(&state), &state.error) {
                        (Some(line), _) => return Ok(line),
                        (None, Some(error)) => return Err(error.clone()),
                        (None, None) => {}
                    }
                }
                if state.changed().await.is_err() {
                    return Err("the gateway is stopping".to_owned());
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, found).await;
        waited.unwrap_or_else(|_| Err(format!("there was no Python worker for {} s", PATIENCE.as_secs())))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        self.stop();
    }
}
