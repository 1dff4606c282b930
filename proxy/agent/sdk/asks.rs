//! What the code of an agent asks of the gateway: models and tools, under the run's hooks and limits.

use std::sync::Arc;

use serde_json::Value;

use crate::access::Caller;
use crate::agent::run::{consult_prompt, require_words};
use crate::agent::scene::Scene;
use crate::agent::surroundings::Target;
use crate::agent::tool_calls::{Consulted, NO_MORE_CALLS, ToolCalls};
use crate::agent::voice::Voice;
use crate::chat::progress::Doing;
use crate::chat::request::ChatRequest;
use crate::chat::wire::{Envelope, mint_completion_id};
use crate::chat::{Object, Prompt, Reply, ToolCall, ToolResult, forget_tools};
use crate::error::{Error, Result};
use crate::hooks::{HookRun, Point};
use crate::metrics::METRICS;
use crate::model::ModelStream;
use crate::python::call::Asks;
use crate::python::frames::{Answer, What};

/// Answers the asks of one run. Several are under way at once.
pub(super) struct Asking {
    pub(super) scene: Arc<Scene>,
    pub(super) hooks: Arc<HookRun>,
    pub(super) voice: Voice,
    /// Fields of each model call unless the code sets them.
    pub(super) defaults: Object,
    pub(super) asks: Asks,
}

/// What came of an ask.
pub(super) enum Asked {
    /// The code has its answer.
    Answered,
    /// The code was told that the model failed.
    ModelFailed(Error),
}

impl Asking {
    /// Answers one ask. `Err` ends the run: a hook failed or refused, or a limit is reached.
    pub(super) async fn answer(&self, ask: u64, what: What) -> Result<Asked> {
        let answer = match what {
            What::Model { body } => return self.model(ask, body).await,
            What::Tool { name, arguments, id } => self.tool(ToolCall { id, name, arguments }).await?,
            What::BeforeTool { name, arguments, id } => self.before(ToolCall { id, name, arguments }).await?,
            What::AfterTool { name, arguments, id, content, is_error } => {
                self.after(name, arguments, id, ToolResult { content, is_error }).await?
            }
        };
        self.asks.answer(ask, &answer).await;
        Ok(Asked::Answered)
    }

    fn tool_calls(&self) -> ToolCalls<'_> {
        ToolCalls { scene: &self.scene, hooks: &self.hooks, voice: &self.voice }
    }

    /// One of the gateway's own tools.
    async fn tool(&self, call: ToolCall) -> Result<Answer> {
        if !self.scene.take_tool_call() {
            return Ok(Answer::from(ToolResult::error(NO_MORE_CALLS)));
        }
        Ok(Answer::from(self.tool_calls().execute_one(&call).await?))
    }

    /// Whether one of the code's own tools may be called.
    async fn before(&self, call: ToolCall) -> Result<Answer> {
        if !self.scene.take_tool_call() {
            return Ok(Answer::from(ToolResult::error(NO_MORE_CALLS)));
        }
        let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
        let arguments: Object = match serde_json::from_str(arguments) {
            Ok(arguments) => arguments,
            Err(why) => return Ok(Answer::from(ToolResult::error(format!("invalid arguments: {why}")))),
        };
        self.voice.tell(|| Doing::Begins(call.clone())).await;
        Ok(match self.tool_calls().consult(&call.name, arguments, &|_| Ok(())).await? {
            Consulted::Call(arguments) => Answer::Arguments { arguments },
            Consulted::Result(result) => {
                let result = self.tool_calls().bounded(result);
                self.voice.tell(|| Doing::Ended(call, result.clone())).await;
                Answer::from(result)
            }
        })
    }

    /// What one of the code's own tools returned.
    async fn after(&self, name: String, arguments: Object, id: String, result: ToolResult) -> Result<Answer> {
        METRICS.tool_call("sdk", !result.is_error);
        let call = ToolCall { id, arguments: Value::from(arguments.clone()).to_string(), name };
        let result = self.tool_calls().review(&call.name, arguments, result).await?;
        self.voice.tell(|| Doing::Ended(call, result.clone())).await;
        Ok(Answer::from(result))
    }

    /// A model call: one hop of the run.
    async fn model(&self, ask: u64, body: Object) -> Result<Asked> {
        let request = match ChatRequest::of_fields(body) {
            Ok(request) => request,
            Err(error) => return Ok(self.fail(ask, error).await),
        };
        self.scene.ledger.record(|totals| totals.hops += 1);
        let streams = request.stream;
        let (request, last_call) = self.prepare(request);
        let mut prompt = Prompt { model: request.model, messages: request.messages, tools: request.tools, rest: request.rest };
        let answered = if self.scene.agent.hooks.has(Point::PrePrompt) { consult_prompt(&self.hooks, &mut prompt).await? } else { None };
        let envelope = Envelope::new(mint_completion_id(), &prompt.model);
        let stream = match answered {
            Some(message) => ModelStream::of_message(Value::Object(message.0)),
            None => self.ask(prompt).await,
        };
        match self.pass_on(ask, stream, &envelope, streams, last_call).await {
            Ok(reply) => self.account(&reply).map(|()| Asked::Answered),
            Err(error) => Ok(self.fail(ask, error).await),
        }
    }

    /// The request with the run's defaults. At a limit with `on_limit: answer` it is the last, and has no tools.
    fn prepare(&self, mut request: ChatRequest) -> (ChatRequest, bool) {
        for (name, value) in &self.defaults {
            request.rest.entry(name.as_str()).or_insert_with(|| value.clone());
        }
        let last_call = self.scene.is_last_call();
        if last_call {
            request.tools.clear();
        }
        if request.tools.is_empty() {
            forget_tools(&mut request.rest);
        } else if !self.scene.agent.policies.parallel_tool_calls {
            request.rest.insert("parallel_tool_calls".into(), false.into());
        }
        (request, last_call)
    }

    /// The stream of whatever the model's name means: another agent, an alias or an upstream's model by its full name, else a model of
    /// the agent's own upstream.
    async fn ask(&self, mut prompt: Prompt) -> Result<ModelStream> {
        let scene = &self.scene;
        let route =
            if prompt.model == scene.agent.model { None } else { scene.around.models.find(&prompt.model, &Caller::operator()).ok() };
        let upstream = match route {
            Some(route) => match (route.target, route.rename) {
                (Target::Agent(_), _) => {
                    let Prompt { model, messages, tools, rest } = prompt;
                    let reply = Box::pin(scene.ask(ChatRequest { model, messages, tools, rest, ..ChatRequest::default() })).await?;
                    return ModelStream::of_reply(&reply);
                }
                (Target::Upstream(upstream), Some(rename)) => {
                    prompt.model = rename;
                    upstream
                }
                (Target::Upstream(_), None) => scene.agent.upstream.clone(),
            },
            None => scene.agent.upstream.clone(),
        };
        scene.around.ask(&upstream, &[], &prompt, scene.caller.key_id(), &scene.ledger).await
    }

    /// The model's answer on its way to the code: as chunks, or whole when that is what the code asked for.
    async fn pass_on(&self, ask: u64, stream: Result<ModelStream>, envelope: &Envelope, streams: bool, last_call: bool) -> Result<Reply> {
        let mut stream = stream?;
        let mut reply = Reply::default();
        while let Some(frame) = stream.next().await? {
            if let Some(usage) = frame.usage {
                reply.usage = usage;
            }
            for mut delta in frame.deltas.into_iter().filter(|delta| delta.choice == 0) {
                if last_call {
                    delta.calls.clear();
                }
                reply.push(&delta);
                if streams {
                    self.asks.chunk(ask, &envelope.piece(&delta).to_string()).await;
                }
            }
        }
        require_words(&reply)?;
        let last = if streams { envelope.usage(&reply.usage) } else { envelope.completion(&reply) };
        self.asks.chunk(ask, &last.to_string()).await;
        self.asks.done(ask).await;
        Ok(reply)
    }

    /// Counts a reply that asks for tools. `Err` when the limits leave no room for them, and `on_limit` is `error`.
    fn account(&self, reply: &Reply) -> Result<()> {
        if reply.choices.iter().all(|choice| choice.calls.is_empty()) {
            return Ok(());
        }
        self.scene.check_limit()?;
        self.scene.ledger.record(|totals| totals.tool_hops += 1);
        Ok(())
    }

    async fn fail(&self, ask: u64, error: Error) -> Asked {
        self.asks.failed(ask, error.http_status(), &error.body()["error"]).await;
        Asked::ModelFailed(error)
    }
}

impl From<ToolResult> for Answer {
    fn from(result: ToolResult) -> Self {
        Answer::Result { content: result.content, is_error: result.is_error }
    }
}
