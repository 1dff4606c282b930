//! One request worked on by one agent: the verbs `ask_model`, `call_tools`, `finish`, and every limit of a run.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::Definition;
use super::format::Format;
use super::memory::{End, Memory};
use super::opening::{Client, Opening};
use super::scene::Scene;
use super::tool_calls::ToolCalls;
use super::turns::Half;
use super::voice::Voice;
use crate::chat::incoming;
use crate::chat::progress::{self, Doing};
use crate::chat::request::ChatRequest;
use crate::chat::wire::mint_call_id;
use crate::chat::{CallDelta, Choice, Delta, Message, Object, Prompt, Reply, ToolCall, Usage, forget_tools, tool_name};
use crate::config::ClientTools;
use crate::error::{Error, Kind, Result};
use crate::hooks::{HookRun, Point, Verdict};

/// One request worked on by one agent.
pub struct Run {
    pub(super) id: String,
    pub(super) scene: Arc<Scene>,
    pub(super) hooks: Arc<HookRun>,
    pub(super) request: ChatRequest,
    pub(super) client: Client,
    client_tools: HashSet<String>,
    pub(super) voice: Voice,
    /// The text so far, by choice, for `post_response`.
    pub(super) said: BTreeMap<u32, String>,
    /// The text is kept back until `post_response` has returned.
    pub(super) holds: bool,
    /// Text has left.
    pub(super) has_spoken: bool,
    pub(super) last_call: bool,
    /// The form that the answer must have; its text is kept back while this is here.
    pub(super) format: Option<Box<Format>>,
    /// The session, where the client names one.
    pub(super) memory: Option<Box<Memory>>,
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
    /// Begins the run on its request. It is heard through `voice`.
    pub fn begin(mut opening: Opening, mut request: ChatRequest, voice: Voice) -> Result<Run> {
        let client = opening.identify(&request)?;
        let Opening { scene, hooks, id } = opening;
        let agent = &scene.agent;
        if request.n() > 1 && agent.definition != Definition::Alias {
            let message = format!("The agent '{}' gives one choice: 'n' must be 1.", agent.name);
            return Err(Error::new(Kind::UnsupportedValue, message).param("n"));
        }
        progress::forget(&mut request.messages);
        // Code of the SDK has no way to hand a call back.
        let client_tools = agent.client_tools.unwrap_or(scene.caller.client_tools());
        if client_tools == ClientTools::Ignore || agent.definition == Definition::Sdk {
            request.tools.clear();
        }
        let names = request.tools.iter().filter_map(tool_name);
        let client_tools = names.filter(|name| scene.offer.find(name).is_none()).map(str::to_owned).collect();
        let holds = agent.hooks.has(Point::PostResponse) && (!request.stream || agent.hooks.hold());
        Ok(Run {
            id,
            scene,
            hooks: Arc::new(hooks),
            request,
            client,
            client_tools,
            voice,
            said: BTreeMap::new(),
            holds,
            has_spoken: false,
            last_call: false,
            format: None,
            memory: None,
        })
    }

    /// Reads what the session has of earlier turns, once, and puts it into the conversation.
    pub async fn recall(&mut self) -> Result<()> {
        self.memory = Memory::open(&self.scene, self.client.session.as_deref(), &mut self.request).await?;
        Ok(())
    }

    /// Whether the session that the client names is away, and the run goes on without it.
    pub fn has_no_session(&self) -> bool {
        self.scene.has_no_session()
    }

    /// The turn is over: the session has it before the client reads the end of the answer. `Err` when it could not be kept.
    pub async fn remember(&mut self, end: End) -> Result<()> {
        match self.memory.take() {
            Some(memory) => memory.keep(end).await,
            None => Ok(()),
        }
    }

    /// The prompt that the first hop begins with: instructions, the conversation, all tools. `Err` when the client's form is none.
    pub fn opening_prompt(&mut self) -> Result<Prompt> {
        let history = std::mem::take(&mut self.request.messages);
        let Scene { agent, turns, caller, offer, .. } = &*self.scene;
        let mut messages = turns.restore(caller.scope(), history);
        if let Some(instructions) = &agent.instructions {
            instruct(&mut messages, instructions);
        }
        let mut tools = offer.definitions();
        let theirs = self.request.tools.iter().filter(|tool| tool_name(tool).is_none_or(|name| self.client_tools.contains(name)));
        tools.extend(theirs.cloned());
        let mut rest = self.defaults();
        self.format = Format::read(&rest)?.map(Box::new);
        let chosen = rest.get("tool_choice").and_then(tool_name);
        if chosen.is_some_and(|name| !tools.iter().any(|tool| tool_name(tool) == Some(name))) {
            rest.shift_remove("tool_choice");
        }
        if tools.is_empty() {
            forget_tools(&mut rest);
        }
        if !agent.policies.parallel_tool_calls && !tools.is_empty() {
            rest.entry("parallel_tool_calls").or_insert(false.into());
        }
        Ok(Prompt { model: agent.model.clone(), messages, tools, rest })
    }

    /// The fields that each model call begins with: the client's, then the agent's.
    pub(super) fn defaults(&self) -> Object {
        let mut fields = self.request.rest.clone();
        for (name, value) in &self.scene.agent.parameters {
            fields.entry(name.clone()).or_insert_with(|| value.clone());
        }
        fields.shift_remove("n");
        fields
    }

    /// The prompt of an alias: all that the client sent, under the model's own name.
    pub fn whole_prompt(&mut self) -> Prompt {
        let request = &mut self.request;
        let (messages, tools) = (std::mem::take(&mut request.messages), std::mem::take(&mut request.tools));
        Prompt { model: self.scene.agent.model.clone(), messages, tools, rest: std::mem::take(&mut request.rest) }
    }

    /// One hop: asks the model and lets its text leave piece by piece. Returns the reply as a whole. What `pre_prompt` changes holds for
    /// this hop: a prompt that another may follow is borrowed, and copied where a hook sees it.
    pub async fn ask_model(&mut self, mut prompt: Cow<'_, Prompt>) -> Result<Reply> {
        self.scene.ledger.record(|totals| totals.hops += 1);
        if self.scene.agent.hooks.has(Point::PrePrompt)
            && let Some(message) = consult_prompt(&self.hooks, prompt.to_mut()).await?
        {
            return self.answer(&message).await;
        }
        let scene = self.scene.clone();
        let relays = scene.agent.definition == Definition::Alias;
        let upstream = &scene.agent.upstream;
        let waits = upstream.waiting();
        if let Some(ahead) = waits {
            self.voice.tell(|| Doing::Waits(upstream.name.clone(), ahead)).await;
        }
        let asking = scene.around.ask(upstream, &scene.agent.fallback, &prompt, scene.caller.key_id(), &scene.ledger);
        let mut stream = match upstream.is_cold(&prompt.model) {
            true => Box::pin(self.voice.while_loads(&prompt.model, asking)).await?,
            false => asking.await?,
        };
        if waits.is_some() {
            self.voice.tell(|| Doing::Served(upstream.name.clone())).await;
        }
        let mut reply = Reply::default();
        while let Some(frame) = stream.next().await? {
            for mut delta in frame.deltas.into_iter().filter(|delta| relays || delta.choice == 0) {
                self.read_chunk(&mut delta).await?;
                reply.push(&delta);
                // The end, and an agent's calls, are the loop's to decide on; text, reasoning and the rest leave now.
                let calls = if relays { delta.calls } else { Vec::new() };
                self.say(Delta { calls, finish: None, ..delta }).await?;
            }
        }
        self.read_last_chunks(&mut reply).await?;
        if self.last_call {
            reply.choices.iter_mut().for_each(|choice| choice.calls.clear());
        }
        require_words(&reply)?;
        Ok(reply)
    }

    /// A hook answered in the model's place.
    async fn answer(&mut self, message: &Message) -> Result<Reply> {
        // The hook's words are what they are meant to be.
        self.format = None;
        let mut delta = Delta::text(message.words());
        self.read_chunk(&mut delta).await?;
        let mut reply = Reply::default();
        reply.push(&delta);
        self.say(delta).await?;
        self.read_last_chunks(&mut reply).await?;
        Ok(reply)
    }

    /// What the reply asks for. The presence of calls decides, not the `finish_reason`, which upstreams get wrong.
    /// `Err` when it asks for more than the limits allow, and `on_limit` is `error`.
    pub fn step(&self, reply: Reply) -> Result<Step> {
        let reply = reply.choices.into_iter().next().unwrap_or_default();
        let (theirs, ours): (Vec<_>, Vec<_>) = reply.calls().cloned().partition(|call| self.client_tools.contains(&call.name));
        if !ours.is_empty() {
            self.scene.check_limit()?;
        }
        Ok(match (ours.is_empty(), theirs.is_empty()) {
            (true, true) => Step::Final(reply),
            (_, false) => Step::HandBack(Turn { reply, ours, theirs }),
            (false, true) => Step::Tools(Turn { reply, ours, theirs }),
        })
    }

    /// Executes the gateway's calls of a turn. Returns the messages that the next hop adds: the model's own, then one for each result.
    pub async fn call_tools(&mut self, turn: &Turn) -> Result<Vec<Message>> {
        self.scene.ledger.record(|totals| totals.tool_hops += 1);
        let results = self.tool_calls().execute(&turn.ours).await?;
        let mut messages = vec![Message::asking(turn.reply.content.as_deref().unwrap_or_default(), &turn.ours)];
        messages.extend(results);
        if let Some(memory) = &mut self.memory {
            memory.note(&messages);
        }
        Ok(messages)
    }

    fn tool_calls(&self) -> ToolCalls<'_> {
        ToolCalls { scene: &self.scene, hooks: &self.hooks, voice: &self.voice }
    }

    /// Before a hop: at a limit with `on_limit: answer`, this one is the last, and has no tools. The form goes with it where it can.
    pub fn check_limits(&mut self, prompt: &mut Prompt) {
        if self.scene.is_last_call() {
            self.last_call = true;
            prompt.tools.clear();
            forget_tools(&mut prompt.rest);
        }
        self.apply_format(prompt);
    }

    /// The reply is complete: lets `post_response` see it, and ends the answer.
    pub async fn finish(&mut self, reply: Choice) -> Result<()> {
        // A reply that asks for nothing ends as the model said, and never as if the client were to call something.
        let finish = reply.finish.filter(|finish| finish == "length" || finish == "content_filter");
        self.conclude(0, finish.unwrap_or_else(|| "stop".into())).await
    }

    /// The model asks for the client's tools: executes ours, keeps them for the next request, hands back theirs.
    pub async fn hand_back(&mut self, mut turn: Turn) -> Result<()> {
        let mut ours = Vec::new();
        if !turn.ours.is_empty() {
            turn.rename_theirs();
            let results = self.tool_calls().execute(&turn.ours).await?;
            let calls = turn.reply.calls().cloned().collect();
            self.scene.turns.keep(self.scene.caller.scope(), &turn.theirs, Half { calls, results: results.clone() });
            ours = results;
        }
        if let Some(memory) = &mut self.memory {
            let calls: Vec<ToolCall> = turn.reply.calls().cloned().collect();
            memory.note(&[Message::asking(turn.reply.content.as_deref().unwrap_or_default(), &calls)]);
            memory.note(&ours);
        }
        self.release(turn.reply.content.as_deref()).await?;
        // Text that comes with the calls is a reply like any other; calls alone are none yet.
        if self.said.get(&0).is_some_and(|said| !said.is_empty()) {
            self.respond(0, "tool_calls").await?;
        }
        for (index, call) in (0..).zip(turn.theirs) {
            let opening = CallDelta { index, id: Some(call.id), name: Some(call.name), arguments: String::new() };
            let arguments = CallDelta { index, arguments: call.arguments, ..CallDelta::default() };
            for piece in [opening, arguments] {
                self.send(Delta { calls: vec![piece], ..Delta::default() }).await?;
            }
        }
        self.end(0, "tool_calls".into()).await
    }

    /// Tokens used so far.
    pub fn usage(&self) -> Usage {
        self.scene.ledger.totals().usage
    }
}

/// `Err` when a model ended its answer with nothing in it.
pub(super) fn require_words(reply: &Reply) -> Result<()> {
    if reply.choices.iter().all(Choice::is_empty) {
        return Err(incoming::empty());
    }
    Ok(())
}

/// Lets `pre_prompt` see a model call, and change it. `Some` is the reply in the model's place.
pub(super) async fn consult_prompt(hooks: &HookRun, prompt: &mut Prompt) -> Result<Option<Message>> {
    match hooks.pre_prompt(prompt).await? {
        Verdict::Continue => Ok(None),
        Verdict::Answer(message) => Ok(Some(message)),
        Verdict::Reject(message) => Err(rejected(message)),
        Verdict::Abort(status, message) => Err(aborted(status, message)),
    }
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
