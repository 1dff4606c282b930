//! One request worked on by one agent: the verbs `ask_model`, `call_tools`, `finish`, and every limit of a run.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use super::ledger::Ledger;
use super::turns::{Half, Turns};
use super::{Agent, Directory};
use crate::access::Caller;
use crate::chat::request::ChatRequest;
use crate::chat::wire::{Envelope, mint_call_id};
use crate::chat::{CallDelta, Choice, Delta, Message, Object, Prompt, Reply, ToolCall, Usage, tool_name};
use crate::config::{ClientTools, OnLimit};
use crate::error::{Error, Kind, Result};
use crate::hooks::{HookRun, Point, ReplyView, RunView, Verdict};
use crate::model;
use crate::tools::Offer;

/// How many pieces of a reply may wait for a slow client before the model has to.
pub const EVENTS: usize = 64;

/// What a run is begun with.
pub struct Start {
    /// The agent at work.
    pub agent: Arc<Agent>,
    /// Every agent of the snapshot, for those that are used as tools.
    pub directory: Arc<Directory>,
    /// Who is asking.
    pub caller: Caller,
    /// The request's headers, names in lower case, credentials left out.
    pub headers: Vec<(String, String)>,
    /// What is asked.
    pub request: ChatRequest,
    /// Where turns wait for the client's half.
    pub turns: Arc<Turns>,
    /// Where the run's use is written.
    pub ledger: Arc<Ledger>,
    /// Where the pieces of the reply go.
    pub events: mpsc::Sender<Delta>,
}

/// One request worked on by one agent.
pub struct Run {
    /// What stands in every chunk: one id and one time for the run.
    pub envelope: Envelope,
    /// What the run has used so far.
    pub ledger: Arc<Ledger>,
    pub(super) agent: Arc<Agent>,
    pub(super) directory: Arc<Directory>,
    pub(super) caller: Caller,
    pub(super) headers: Vec<(String, String)>,
    pub(super) offer: Offer,
    pub(super) hooks: HookRun,
    pub(super) turns: Arc<Turns>,
    pub(super) depth: u32,
    request: ChatRequest,
    client_tools: HashSet<String>,
    events: mpsc::Sender<Delta>,
    /// The text so far, kept back for `post_response` when the client has not read it yet.
    held: Option<String>,
    said: String,
    tool_hops: u32,
    last_call: bool,
}

/// What a reply of the model asks for.
pub enum Step {
    /// Nothing more: it is the answer.
    Final(Choice),
    /// Tools of the gateway; then the model is asked again.
    Tools(Turn),
    /// Tools of the client, perhaps beside some of ours: the client goes on.
    HandBack(Turn),
}

/// A reply that asks for tools.
pub struct Turn {
    /// The reply.
    pub reply: Choice,
    /// Calls that the gateway executes.
    pub ours: Vec<ToolCall>,
    /// Calls that the client executes.
    pub theirs: Vec<ToolCall>,
}

impl Turn {
    /// Gives the client's calls ids of ours: a model's own may be the same in every conversation, and our half of this turn is found by them.
    fn rename_theirs(&mut self) {
        for call in &mut self.theirs {
            let id = mint_call_id();
            let twin = self.reply.calls.iter_mut().find(|(_, twin)| twin.id == call.id);
            if let Some((_, twin)) = twin {
                twin.id.clone_from(&id);
            }
            call.id = id;
        }
    }
}

impl Run {
    /// Begins a run: the tools of this moment are its tools to the end.
    pub fn begin(start: Start) -> Result<Run> {
        if start.request.n() > 1 {
            let message = format!("The agent '{}' gives one choice: 'n' must be 1.", start.agent.name);
            return Err(Error::new(Kind::UnsupportedValue, message).param("n"));
        }
        Ok(Run::at_depth(start, 0))
    }

    pub(super) fn at_depth(start: Start, depth: u32) -> Run {
        let Start { agent, directory, caller, headers, mut request, turns, ledger, events } = start;
        let envelope = Envelope {
            id: format!("chatcmpl-{}", uuid::Uuid::now_v7().simple()),
            created: std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
            model: request.model.clone(),
            include_usage: request.stream && request.include_usage,
        };
        let offer = agent.tools.offer();
        let hooks = agent.hooks.begin(RunView {
            id: envelope.id.clone(),
            agent: agent.name.clone(),
            model: request.model.clone(),
            headers: headers.clone(),
            key: caller.key_id().map(str::to_owned),
            depth: depth as usize,
            ..RunView::default()
        });
        if agent.client_tools == ClientTools::Ignore {
            request.tools.clear();
        }
        let names = request.tools.iter().filter_map(tool_name);
        let client_tools = names.filter(|name| offer.find(name).is_none()).map(str::to_owned).collect();
        let holds = agent.hooks.has(Point::PostResponse) && (!request.stream || agent.hooks.hold());
        Run {
            envelope,
            ledger,
            agent,
            directory,
            caller,
            headers,
            offer,
            hooks,
            turns,
            depth,
            request,
            client_tools,
            events,
            held: holds.then(String::new),
            said: String::new(),
            tool_hops: 0,
            last_call: false,
        }
    }

    /// The prompt that the first hop begins with: instructions, the conversation, all tools.
    pub fn opening_prompt(&mut self) -> Prompt {
        let history = std::mem::take(&mut self.request.messages);
        let mut messages = self.turns.restore(self.caller.scope(), history);
        if let Some(instructions) = &self.agent.instructions {
            instruct(&mut messages, instructions);
        }
        let mut tools = self.offer.definitions();
        let theirs = self.request.tools.iter().filter(|tool| tool_name(tool).is_none_or(|name| self.client_tools.contains(name)));
        tools.extend(theirs.cloned());
        let mut rest = self.request.rest.clone();
        for (name, value) in &self.agent.parameters {
            rest.entry(name.clone()).or_insert_with(|| value.clone());
        }
        rest.shift_remove("n");
        let chosen = rest.get("tool_choice").and_then(tool_name);
        if chosen.is_some_and(|name| !tools.iter().any(|tool| tool_name(tool) == Some(name))) {
            rest.shift_remove("tool_choice");
        }
        if tools.is_empty() {
            forget_tools(&mut rest);
        }
        if !self.agent.policies.parallel_tool_calls && !tools.is_empty() {
            rest.entry("parallel_tool_calls").or_insert(false.into());
        }
        Prompt { model: self.agent.model.clone(), messages, tools, rest }
    }

    /// One hop: asks the model and lets its text leave piece by piece. Returns the reply as a whole.
    pub async fn ask_model(&mut self, prompt: &Prompt) -> Result<Choice> {
        let hop = self.ledger.totals().hops + 1;
        self.ledger.record(|totals| totals.hops = hop);
        let mut prompt = Cow::Borrowed(prompt);
        if self.agent.hooks.has(Point::PrePrompt) {
            self.hooks.advance(hop, &self.ledger.totals().usage);
            match self.hooks.pre_prompt(prompt.to_mut()).await? {
                Verdict::Continue => {}
                Verdict::Answer(message) => return self.answer(&message).await,
                Verdict::Reject(message) => return Err(rejected(message)),
                Verdict::Abort(status, message) => return Err(aborted(status, message)),
            }
        }
        let upstream = self.agent.upstream.clone();
        let mut stream = model::ask(&upstream, &prompt).await?;
        let (mut reply, mut usage) = (Reply::default(), None);
        while let Some(frame) = stream.next().await? {
            usage = frame.usage.or(usage);
            for delta in frame.deltas.into_iter().filter(|delta| delta.choice == 0) {
                reply.push(&delta);
                // Calls and the end are the loop's to decide on; text, reasoning and the rest leave now.
                self.say(Delta { calls: Vec::new(), finish: None, ..delta }).await?;
            }
        }
        if let Some(usage) = usage {
            self.ledger.spend(&usage);
        }
        let mut reply = reply.choices.into_iter().next().unwrap_or_default();
        if self.last_call {
            reply.calls.clear();
        }
        if reply.is_empty() {
            return Err(Error::new(Kind::UpstreamEmpty, "The model ended its answer without a word."));
        }
        Ok(reply)
    }

    /// What the reply asks for. The presence of calls decides, not the `finish_reason`, which upstreams get wrong.
    /// `Err` when it asks for more than the limits allow, and `on_limit` is `error`.
    pub fn step(&self, reply: Choice) -> Result<Step> {
        let (theirs, ours): (Vec<_>, Vec<_>) = reply.calls().cloned().partition(|call| self.client_tools.contains(&call.name));
        let refuses = self.agent.policies.on_limit == OnLimit::Error && !ours.is_empty();
        if let Some(limit) = self.limit_reached().filter(|_| refuses) {
            return Err(Error::new(Kind::LimitExceeded, format!("The agent reached its limit `{limit}`.")));
        }
        Ok(match (ours.is_empty(), theirs.is_empty()) {
            (true, true) => Step::Final(reply),
            (_, false) => Step::HandBack(Turn { reply, ours, theirs }),
            (false, true) => Step::Tools(Turn { reply, ours, theirs }),
        })
    }

    /// Executes the gateway's calls of a turn. Returns the messages that the next hop adds: the model's own, then one for each result.
    pub async fn call_tools(&mut self, turn: &Turn) -> Result<Vec<Message>> {
        self.tool_hops += 1;
        let results = self.execute(&turn.ours).await?;
        let mut messages = vec![Message::asking(turn.reply.content.as_deref().unwrap_or_default(), &turn.ours)];
        messages.extend(results);
        Ok(messages)
    }

    /// Before a hop: at a limit with `on_limit: answer`, this one is the last, and has no tools.
    pub fn check_limits(&mut self, prompt: &mut Prompt) {
        if self.agent.policies.on_limit == OnLimit::Answer && self.limit_reached().is_some() {
            self.last_call = true;
            prompt.tools.clear();
            forget_tools(&mut prompt.rest);
        }
    }

    /// The limit that leaves no room for another turn with tools.
    fn limit_reached(&self) -> Option<&'static str> {
        let (policies, totals) = (&self.agent.policies, self.ledger.totals());
        if self.tool_hops >= policies.max_tool_hops {
            Some("max_tool_hops")
        } else if totals.tool_calls >= policies.max_tool_calls {
            Some("max_tool_calls")
        } else if policies.max_total_tokens.is_some_and(|max| totals.usage.total_tokens >= max) {
            Some("max_total_tokens")
        } else {
            None
        }
    }

    /// The reply is complete: lets `post_response` see it, and ends the answer.
    pub async fn finish(&mut self, reply: Choice) -> Result<()> {
        self.respond().await?;
        // A reply that asks for nothing ends as the model said, and never as if the client were to call something.
        let finish = reply.finish.filter(|finish| finish == "length" || finish == "content_filter");
        self.end(finish.unwrap_or_else(|| "stop".into())).await
    }

    /// The model asks for the client's tools: executes ours, keeps them for the next request, hands back theirs.
    pub async fn hand_back(&mut self, mut turn: Turn) -> Result<()> {
        if !turn.ours.is_empty() {
            turn.rename_theirs();
            let results = self.execute(&turn.ours).await?;
            let calls = turn.reply.calls().cloned().collect();
            self.turns.keep(self.caller.scope(), &turn.theirs, Half { calls, results });
        }
        // Text that comes with the calls is a reply like any other; calls alone are none yet.
        if !self.said.is_empty() {
            self.respond().await?;
        }
        for (index, call) in (0..).zip(turn.theirs) {
            let opening = CallDelta { index, id: Some(call.id), name: Some(call.name), arguments: String::new() };
            let arguments = CallDelta { index, arguments: call.arguments, ..CallDelta::default() };
            for piece in [opening, arguments] {
                self.send(Delta { calls: vec![piece], ..Delta::default() }).await?;
            }
        }
        self.end("tool_calls".into()).await
    }

    /// A hook answered in the model's place.
    async fn answer(&mut self, message: &Message) -> Result<Choice> {
        let delta = Delta::text(message.words());
        let mut reply = Reply::default();
        reply.push(&delta);
        self.say(delta).await?;
        Ok(reply.choices.remove(0))
    }

    async fn respond(&mut self) -> Result<()> {
        if !self.agent.hooks.has(Point::PostResponse) {
            return Ok(());
        }
        let totals = self.ledger.totals();
        self.hooks.advance(totals.hops, &totals.usage);
        let content = std::mem::take(&mut self.said);
        let mut view = ReplyView { content, usage: totals.usage, streamed: self.held.is_none() };
        let text = match self.hooks.post_response(&mut view).await? {
            Verdict::Continue => view.content,
            Verdict::Answer(message) => message.words(),
            Verdict::Reject(message) => return Err(rejected(message)),
            Verdict::Abort(status, message) => return Err(aborted(status, message)),
        };
        if let Some(held) = &mut self.held {
            *held = text;
        }
        self.release_held().await
    }

    /// Lets a piece of the reply leave, or keeps its text back for `post_response`.
    async fn say(&mut self, mut delta: Delta) -> Result<()> {
        delta.content = delta.content.filter(|text| !text.is_empty());
        if let Some(text) = &delta.content {
            if self.agent.hooks.has(Point::PostResponse) {
                self.said.push_str(text);
            }
            if let Some(held) = &mut self.held {
                held.push_str(text);
                delta.content = None;
            }
        }
        if delta == (Delta { choice: delta.choice, ..Delta::default() }) {
            return Ok(());
        }
        self.send(delta).await
    }

    async fn release_held(&mut self) -> Result<()> {
        match self.held.take() {
            Some(text) if !text.is_empty() => self.send(Delta::text(text)).await,
            _ => Ok(()),
        }
    }

    async fn end(&mut self, finish: String) -> Result<()> {
        self.send(Delta { finish: Some(finish), ..Delta::default() }).await
    }

    async fn send(&self, delta: Delta) -> Result<()> {
        let sent = self.events.send(delta).await;
        sent.map_err(|_| Error::new(Kind::ClientGone, "The client left."))
    }

    /// Tokens used so far.
    pub fn usage(&self) -> Usage {
        self.ledger.totals().usage
    }
}

/// Takes out what upstreams refuse in a request without tools.
fn forget_tools(rest: &mut Object) {
    rest.shift_remove("tool_choice");
    rest.shift_remove("parallel_tool_calls");
}

/// Puts the agent's instructions first. A system message of the client's follows in the same message: many chat templates take only one.
fn instruct(messages: &mut Vec<Message>, instructions: &str) {
    let first = messages.first_mut().filter(|message| matches!(message.role(), "system" | "developer"));
    if let Some(Value::String(content)) = first.and_then(|message| message.0.get_mut("content")) {
        *content = format!("{instructions}\n\n{content}");
        return;
    }
    messages.insert(0, Message::text("system", instructions));
}

pub(super) fn rejected(message: String) -> Error {
    Error::new(Kind::Rejected, message)
}

pub(super) fn aborted(status: u16, message: String) -> Error {
    Error::new(Kind::Rejected, message).with_status(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_come_first_and_share_the_system_message() {
        let mut messages = vec![Message::text("user", "hi")];
        instruct(&mut messages, "Be brief.");
        assert_eq!(messages, [Message::text("system", "Be brief."), Message::text("user", "hi")]);
        let mut messages = vec![Message::text("system", "Speak French."), Message::text("user", "hi")];
        instruct(&mut messages, "Be brief.");
        assert_eq!(messages, [Message::text("system", "Be brief.\n\nSpeak French."), Message::text("user", "hi")]);
    }

    #[test]
    fn a_turns_client_calls_get_ids_of_ours() {
        let call = |id: &str| ToolCall { id: id.into(), name: "f".into(), arguments: String::new() };
        let reply = Choice { calls: vec![(0, call("call_0")), (1, call("call_1"))], ..Choice::default() };
        let mut turn = Turn { reply, ours: vec![call("call_0")], theirs: vec![call("call_1")] };
        turn.rename_theirs();
        let ids: Vec<_> = turn.reply.calls().map(|call| call.id.clone()).collect();
        assert_eq!(ids, ["call_0".to_owned(), turn.theirs[0].id.clone()]);
        assert!(turn.theirs[0].id.len() > 20);
    }
}
