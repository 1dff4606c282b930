//! What one run works for and with: the agent, the caller, the book; and the runs within it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::Agent;
use super::ledger::Ledger;
use super::opening::Opening;
use super::run::{Run, require_words};
use super::surroundings::{Route, Surroundings, Target};
use super::turns::Turns;
use super::voice::{Heard, Voice};
use crate::access::Caller;
use crate::chat::request::ChatRequest;
use crate::chat::wire::mint_completion_id;
use crate::chat::{Message, Object, Prompt, Reply, ToolResult};
use crate::config::OnLimit;
use crate::error::{Error, Kind, Result};
use crate::hooks::Headers;
use crate::metrics::METRICS;
use crate::tools::{self, Offer, Tool};

/// How deep agents may use agents.
const MAX_DEPTH: u32 = 4;

/// The circumstances of one run. Shared by the run and by what its scripts reach.
pub struct Scene {
    /// The agent at work.
    pub agent: Arc<Agent>,
    /// What it finds around it.
    pub around: Arc<Surroundings>,
    /// Who is asking.
    pub caller: Caller,
    /// Where turns wait for the client's half.
    pub turns: Arc<Turns>,
    /// What the run uses.
    pub ledger: Arc<Ledger>,
    /// The tools of this moment, which are the run's to its end.
    pub offer: Offer,
    /// How many runs this one is within.
    pub depth: u32,
    headers: Mutex<Arc<Headers>>,
    /// The session that the client names is away.
    has_no_session: AtomicBool,
}

impl Scene {
    /// The circumstances of a client's run, or of one within another.
    pub fn new(
        agent: Arc<Agent>,
        around: Arc<Surroundings>,
        caller: Caller,
        turns: Arc<Turns>,
        ledger: Arc<Ledger>,
        headers: Arc<Headers>,
    ) -> Scene {
        let offer = agent.tools.offer();
        Scene {
            agent,
            around,
            caller,
            turns,
            ledger,
            offer,
            depth: 0,
            headers: Mutex::new(headers),
            has_no_session: AtomicBool::new(false),
        }
    }

    /// The client's headers, as `on_request` left them.
    pub fn headers(&self) -> Arc<Headers> {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the headers.
    pub fn set_headers(&self, headers: Arc<Headers>) {
        *self.headers.lock().unwrap_or_else(PoisonError::into_inner) = headers;
    }

    /// The run goes on without the session that the client names.
    pub fn forget_session(&self) {
        self.has_no_session.store(true, Ordering::Relaxed);
    }

    /// Whether it does.
    pub fn has_no_session(&self) -> bool {
        self.has_no_session.load(Ordering::Relaxed)
    }

    /// Calls a tool with valid arguments, within the agent's `tool_timeout`. A failure is a result.
    pub async fn call(&self, tool: &Tool, arguments: Object) -> ToolResult {
        let result = self.wait_for(self.call_unbounded(tool, arguments)).await.unwrap_or_else(ToolResult::error);
        METRICS.tool_call(tool.provider, !result.is_error);
        result
    }

    /// Waits no longer than the agent's `tool_timeout`. `Err` says so to a model or a script's author.
    pub async fn wait_for<T>(&self, called: impl Future<Output = T>) -> Result<T, String> {
        let limit = self.agent.policies.tool_timeout;
        tokio::time::timeout(limit, called).await.map_err(|_| format!("timed out after {} s", limit.as_secs_f64()))
    }

    async fn call_unbounded(&self, tool: &Tool, arguments: Object) -> ToolResult {
        let tools::Kind::Agent(name) = &tool.kind else { return self.around.call(tool, arguments).await };
        let input = arguments.get("input").and_then(Value::as_str).unwrap_or_default();
        match Box::pin(self.run_agent(name, vec![Message::text("user", input)])).await {
            Ok(reply) => ToolResult::ok(reply.first().and_then(|choice| choice.content.clone()).unwrap_or_default()),
            Err(why) => ToolResult::error(why),
        }
    }

    /// Runs another agent on a conversation, with the rights of the caller. `Err` is a sentence for a model or a script's author.
    pub async fn run_agent(&self, name: &str, messages: Vec<Message>) -> Result<Reply, String> {
        let agent = self.around.agents.get(name).filter(|agent| self.caller.may_use(&agent.name, agent.allow.as_deref()));
        let agent = agent.ok_or_else(|| format!("the agent `{name}` is not available"))?;
        let request = ChatRequest { model: name.into(), messages, ..ChatRequest::default() };
        self.run_within(agent, request).await.map_err(|error| format!("the agent `{name}` failed: {}", error.message))
    }

    /// Asks a model by the name that clients use. Models and aliases are the operator's choice; an agent needs the caller's rights.
    pub async fn ask(&self, mut request: ChatRequest) -> Result<Reply> {
        let max = self.agent.policies.max_total_tokens;
        if max.is_some_and(|max| self.ledger.totals().usage.total_tokens >= max) {
            return Err(Error::new(Kind::LimitExceeded, "The run has reached its limit `max_total_tokens`."));
        }
        let (upstream, fallback, model) = if request.model.is_empty() {
            (self.agent.upstream.clone(), &*self.agent.fallback, self.agent.model.clone())
        } else {
            let Route { target, rename } = self.around.models.find(&request.model, &Caller::operator())?;
            match target {
                Target::Agent(agent) => {
                    if self.around.agents.contains_key(&agent.name) {
                        self.caller.require(&agent.name, agent.allow.as_deref())?;
                    }
                    return self.run_within(&agent, request).await;
                }
                Target::Upstream(upstream) => (upstream, Default::default(), rename.unwrap_or_else(|| std::mem::take(&mut request.model))),
            }
        };
        let prompt = Prompt { model, messages: request.messages, tools: request.tools, rest: request.rest };
        let mut stream = self.around.ask(&upstream, fallback, &prompt, self.caller.key_id(), &self.ledger).await?;
        let mut reply = Reply::default();
        while let Some(frame) = stream.next().await? {
            frame.deltas.iter().for_each(|delta| reply.push(delta));
            if let Some(usage) = frame.usage {
                reply.usage = usage;
            }
        }
        require_words(&reply)?;
        Ok(reply)
    }

    /// A run within this one: the caller's rights, the outer book, the reply folded up.
    async fn run_within(&self, agent: &Arc<Agent>, request: ChatRequest) -> Result<Reply> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::new(Kind::Rejected, format!("agents may use agents {MAX_DEPTH} deep, no deeper")));
        }
        if self.around.stand_in.is_none() {
            agent.check_available()?;
        }
        let book = Ledger::within(&self.ledger);
        let (around, caller, turns) = (self.around.clone(), self.caller.clone(), self.turns.clone());
        let inner = Scene { depth: self.depth + 1, ..Scene::new(agent.clone(), around, caller, turns, book.clone(), self.headers()) };
        let (voice, mut heard) = Voice::new(false);
        let opening = Opening::new(inner, mint_completion_id(), &request.model);
        let mut run = Run::begin(opening, request, voice)?;
        let folding = async {
            let mut reply = Reply::default();
            while let Some(Heard::Piece(delta)) = heard.recv().await {
                reply.push(&delta);
            }
            reply
        };
        let driving = async move { agent.drive(&mut run).await };
        let (outcome, mut reply) = tokio::join!(Box::pin(driving), folding);
        outcome?;
        reply.usage = book.totals().usage;
        Ok(reply)
    }

    /// The limit that leaves no room for another turn with tools.
    fn limit_reached(&self) -> Option<&'static str> {
        let (policies, totals) = (&self.agent.policies, self.ledger.totals());
        if totals.tool_hops >= policies.max_tool_hops {
            Some("max_tool_hops")
        } else if totals.tool_calls >= policies.max_tool_calls {
            Some("max_tool_calls")
        } else if policies.max_total_tokens.is_some_and(|max| totals.usage.total_tokens >= max) {
            Some("max_total_tokens")
        } else {
            None
        }
    }

    /// Whether the next model call is the last: a limit is reached, and `on_limit` is `answer`.
    pub fn is_last_call(&self) -> bool {
        self.agent.policies.on_limit == OnLimit::Answer && self.limit_reached().is_some()
    }

    /// `Err` when a limit leaves no room for the tools that a reply asks for, and `on_limit` is `error`.
    pub fn check_limit(&self) -> Result<()> {
        match self.limit_reached().filter(|_| self.agent.policies.on_limit == OnLimit::Error) {
            Some(limit) => Err(Error::new(Kind::LimitExceeded, format!("The agent reached its limit `{limit}`."))),
            None => Ok(()),
        }
    }

    /// Takes one of the tool calls that the run has left; `false` when there is none.
    pub fn take_tool_call(&self) -> bool {
        let mut left = false;
        self.ledger.record(|totals| {
            left = totals.tool_calls < self.agent.policies.max_tool_calls;
            totals.tool_calls += u32::from(left);
        });
        left
    }
}
