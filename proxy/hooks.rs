//! Hooks as the rest of the gateway sees them: which points there are, what a script decided. No Lua in here.

mod api;
mod change;
mod context;
mod convert;
mod failure;
mod gate;
mod guard;
mod homeward;
mod live;
mod meter;
mod point;
mod pool;
mod script;
mod stdlib;
mod subject;
pub mod testing;
mod vm;
mod waits;
mod watch;
mod world;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use self::api::Decision;
use self::failure::Failure;
use self::live::{Done, Live, Moment};
pub use self::point::Point;
use self::pool::{Permit, Pool};
use self::script::Script;
pub use self::stdlib::sources as library;
use self::subject::Subject;
pub use self::subject::{CallView, ChunkView, FailureView, Head, ReplyView, ResultView};
pub use self::world::{Nowhere, Reach, World};
use crate::chat::{Message, Object, Prompt};
use crate::config::{Fault, HookEntry, OnError};
use crate::error::Result;

/// What a hook decided. Carrying on is the absence of a verdict.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict<T> {
    /// Nothing: go on with the (perhaps changed) value.
    Continue,
    /// `run:answer(x)`.
    Answer(T),
    /// `run:reject(message)`.
    Reject(String),
    /// `run:abort(status, message)`.
    Abort(u16, String),
}

/// The compiled scripts of one agent, in the order of the configuration.
pub struct Hooks {
    scripts: Vec<Script>,
    pool: Arc<Pool>,
}

/// What a field of a hook's argument may become; `Err` is in words for the script's author.
type Check<'a> = dyn Fn(&str, Option<&Value>) -> std::result::Result<(), String> + Sync + 'a;

/// Whether a tool takes these arguments; `Err` says what is wrong with them.
pub type Fits<'a> = dyn Fn(&Object) -> std::result::Result<(), String> + Sync + 'a;

/// A request's headers, names in lower case, credentials left out.
pub type Headers = Vec<(String, String)>;

/// What `run` shows to scripts.
#[derive(Debug, Clone, Default)]
pub struct RunView {
    /// The run's id.
    pub id: String,
    /// The agent's name.
    pub agent: String,
    /// The model that the client asked for.
    pub model: String,
    /// The client's headers.
    pub headers: Arc<Headers>,
    /// The key's id.
    pub key: Option<String>,
    /// Who the client says its user is.
    pub user: Option<String>,
    /// The session's id.
    pub session: Option<String>,
    /// How many runs this one is inside of: 0 for a client's own, 1 for an agent that one calls as a tool.
    /// Runs wait for VMs by depth, so that a run never waits for the runs that wait for it.
    pub depth: usize,
}

impl Hooks {
    /// Compiles the scripts, paths relative to `root`, and runs each once. Every fault of a script names file, line and what would
    /// be right; a fault of an entry has no place and a key that is relative to `entries`: `[1].config.limit`.
    pub fn load(entries: &[HookEntry], root: &Path) -> std::result::Result<Hooks, Vec<Fault>> {
        Ok(Hooks { scripts: script::load(entries, root)?, pool: Pool::global() })
    }

    /// Whether any script defines `point`: if none does, nothing is converted and no VM is taken.
    pub fn has(&self, point: Point) -> bool {
        self.scripts.iter().any(|script| script.defines(point))
    }

    /// Whether the text of a streamed reply is held back until `post_response` has returned.
    pub fn hold(&self) -> bool {
        self.scripts.iter().any(|script| script.hold && script.defines(Point::PostResponse))
    }

    /// The hooks of one run, which reach what `world` offers.
    pub fn begin(self: &Arc<Self>, view: RunView, world: Arc<dyn World>) -> HookRun {
        let (hooks, run) = (Arc::clone(self), view.id.as_str().into());
        HookRun { hooks, run, view: Arc::new(view), world, vm: tokio::sync::Mutex::default() }
    }
}

/// One run's hooks: a VM from the first hook to the end, taken only when a script defines a point that fires.
/// Calls of one run take turns on it, in the order they came.
pub struct HookRun {
    hooks: Arc<Hooks>,
    run: Arc<str>,
    view: Arc<RunView>,
    world: Arc<dyn World>,
    vm: tokio::sync::Mutex<Held>,
}

/// What a run holds from its first hook on. The VM goes back before the permit does.
#[derive(Default)]
struct Held {
    live: Option<Live>,
    permit: Option<Permit>,
}

impl HookRun {
    /// The headers that scripts see from now on.
    pub fn set_headers(&mut self, headers: Arc<Headers>) {
        Arc::make_mut(&mut self.view).headers = headers;
    }

    /// Whom the request is for, and which conversation it belongs to, as scripts see it from now on.
    pub fn set_client(&mut self, user: Option<String>, session: Option<String>) {
        let view = Arc::make_mut(&mut self.view);
        (view.user, view.session) = (user, session);
    }

    /// Before the messages of a client's request are decoded.
    pub async fn on_request(&self, head: &mut Head) -> Result<Verdict<Infallible>> {
        self.fire(head).await
    }

    /// Before a model call. `Answer` is the reply in place of the model's.
    pub async fn pre_prompt(&self, prompt: &mut Prompt) -> Result<Verdict<Message>> {
        self.fire(prompt).await
    }

    /// For a piece of content.
    pub async fn on_chunk(&self, chunk: &mut ChunkView) -> Result<Verdict<Infallible>> {
        self.fire(chunk).await
    }

    /// Before a tool call; several may be under way at once. `Answer` is the result in place of the tool's. Arguments that do not
    /// fit after a script has changed them are a bug of it.
    pub async fn on_tool_call(&self, call: &mut CallView, fits: &Fits<'_>) -> Result<Verdict<Value>> {
        let check = |name: &str, value: Option<&Value>| {
            CallView::check(name, value)?;
            value
                .and_then(Value::as_object)
                .map_or(Ok(()), |arguments| fits(arguments).map_err(|why| format!("call.arguments are not what the tool takes: {why}")))
        };
        self.fire_checked(call, &check).await
    }

    /// After a tool call. `Reject` is what the model reads instead.
    pub async fn on_tool_result(&self, result: &mut ResultView) -> Result<Verdict<Infallible>> {
        self.fire(result).await
    }

    /// Once, with the final reply. `Answer` replaces it.
    pub async fn post_response(&self, reply: &mut ReplyView) -> Result<Verdict<Message>> {
        self.fire(reply).await
    }

    /// Once, when the run failed. `Answer` is the reply.
    pub async fn on_error(&self, failure: &mut FailureView) -> Result<Verdict<Message>> {
        self.fire(failure).await
    }

    async fn fire<S: Subject>(&self, subject: &mut S) -> Result<Verdict<S::Answer>> {
        self.fire_checked(subject, &S::check).await
    }

    /// Calls the hook of each script in turn, each with the changes of those before; the first verdict ends it.
    /// After an error `subject` is what the failed hook got.
    async fn fire_checked<S: Subject>(&self, subject: &mut S, check: &Check<'_>) -> Result<Verdict<S::Answer>> {
        if !self.hooks.has(S::POINT) {
            return Ok(Verdict::Continue);
        }
        let mut held = self.vm.lock().await;
        if held.permit.is_none() {
            held.permit = Some(self.hooks.pool.permit(self.view.depth).await);
        }
        for (index, script) in self.hooks.scripts.iter().enumerate().filter(|(_, script)| script.defines(S::POINT)) {
            match self.call(&mut held, index, script, subject, check).await {
                Ok(Verdict::Continue) => {}
                Ok(verdict) => return Ok(verdict),
                Err(failure) => {
                    let skips = script.on_error == OnError::Skip;
                    tracing::warn!(
                        script = %script.name, point = S::POINT.name(), run = %self.run, agent = %self.view.agent,
                        kind = failure.kind.code(), error = %failure.text, skipped = skips, "a hook failed"
                    );
                    if !skips {
                        return Err(failure.into_error());
                    }
                }
            }
        }
        Ok(Verdict::Continue)
    }

    /// Calls one hook. After a failure `subject` is as it was.
    async fn call<S: Subject>(
        &self,
        held: &mut Held,
        index: usize,
        script: &Script,
        subject: &mut S,
        check: &Check<'_>,
    ) -> std::result::Result<Verdict<S::Answer>, Failure> {
        if held.live.as_ref().is_some_and(Live::is_spoiled) {
            held.live = None;
        }
        let live = match &mut held.live {
            Some(live) => live,
            none => none.insert(Live::new(&self.hooks.pool, self.hooks.scripts.len())?),
        };
        let moment = self.moment();
        let is_settled = subject.is_settled();
        let (before, done) = live.call(index, script, S::POINT, &moment, std::mem::take(subject).into_fields()).await;
        let misuse = |problem: String| Failure::misuse(&script.place(S::POINT), problem);
        let mut fields = before;
        let verdict = done.and_then(|done| match done {
            Done::Decided(Decision::Answer(_)) if is_settled => {
                self.too_late(script, "an answer");
                Ok(Verdict::Continue)
            }
            Done::Decided(Decision::Answer(value)) => S::answer(value).map(Verdict::Answer).map_err(misuse),
            Done::Decided(Decision::Reject(message)) => Ok(Verdict::Reject(message)),
            Done::Decided(Decision::Abort(status, message)) => Ok(Verdict::Abort(status, message)),
            Done::Changed(changes) => {
                let is_late = is_settled && !changes.is_empty();
                change::apply(&mut fields, changes, check, !is_settled).map_err(misuse)?;
                if is_late {
                    self.too_late(script, "a change");
                }
                Ok(Verdict::Continue)
            }
        });
        *subject = S::from_fields(fields);
        verdict
    }

    fn moment(&self) -> Moment {
        Moment { run: Arc::clone(&self.run), view: Arc::clone(&self.view), world: Arc::clone(&self.world) }
    }

    fn too_late(&self, script: &Script, what: &str) {
        tracing::warn!(
            script = %script.name, run = %self.run,
            "{what} in post_response is ignored: the text has left already (`hold: true` in the hook's entry holds it back)"
        );
    }
}
