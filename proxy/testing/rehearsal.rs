//! Whole runs with nobody outside: the configuration's own agent and hooks, a model, tools and a world that a test plays.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::access::Caller;
use crate::agent::opening::Opening;
use crate::agent::run::Run;
use crate::agent::scene::Scene;
use crate::agent::surroundings::{Models, Route, StandIn, Surroundings, Target};
use crate::agent::voice::{self, Heard, Voice};
use crate::agent::{Agent, ledger::Ledger};
use crate::chat::request::ChatRequest;
use crate::chat::wire::mint_completion_id;
use crate::chat::{Object, Prompt, Reply, ToolCall, ToolResult};
use crate::config::{self, Fault};
use crate::error::{Error, Kind, Result};
use crate::hooks::Reach;
use crate::hooks::testing::{Asked, Part, Props, Stage, ask};
use crate::snapshot::Snapshot;

/// The stage of one round of tests. The configuration is read when the first run is rehearsed.
pub(super) struct Rehearsals {
    config: PathBuf,
    control: Handle,
    snapshot: OnceLock<Result<Snapshot, String>>,
}

impl Rehearsals {
    pub(super) fn new(config: &Path, control: Handle) -> Rehearsals {
        Rehearsals { config: config.to_owned(), control, snapshot: OnceLock::new() }
    }

    /// The agent, or alias with hooks, of this name.
    fn find(&self, name: &str) -> Result<(Arc<Agent>, Arc<Surroundings>), String> {
        let read = || {
            let snapshot = config::load(&self.config).and_then(|loaded| Snapshot::build(&loaded, None, &self.control));
            snapshot.map_err(|faults| faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("\n"))
        };
        let snapshot = self.snapshot.get_or_init(read).as_ref();
        let snapshot = snapshot.map_err(|faults| format!("the configuration cannot be used:\n{faults}"))?;
        match snapshot.routes.find(name, &Caller::operator()) {
            Ok(Route { target: Target::Agent(agent), .. }) => Ok((agent, snapshot.around.clone())),
            _ => {
                let mut names: Vec<&str> = snapshot.agents.keys().map(String::as_str).collect();
                names.sort_unstable();
                let file = self.config.display();
                Err(format!("{file} has no agent, and no alias with hooks, called `{name}`; its agents are: {}", names.join(", ")))
            }
        }
    }
}

#[async_trait]
impl Stage for Rehearsals {
    async fn rehearse(&self, agent: &str, request: Object, props: Props, asked: Asked) -> Result<Value, String> {
        let (agent, around) = self.find(agent)?;
        let Props { tools, store } = props;
        let mut request = request;
        let headers = request.shift_remove("headers").and_then(|headers| headers.as_object().cloned()).unwrap_or_default();
        let headers = headers.into_iter().map(|(name, value)| (name.to_lowercase(), value.as_str().unwrap_or_default().to_owned()));
        request.insert("model".into(), agent.name.as_str().into());
        let around = Arc::new(Surroundings { stand_in: Some(Arc::new(Cast { asked })), ..around.with_store(store) });
        let ledger = Arc::new(Ledger::default());
        let headers = Arc::new(headers.collect());
        let mut scene = Scene::new(agent.clone(), around, Caller::operator(), Arc::default(), ledger.clone(), headers);
        scene.offer = scene.offer.with_played(&tools);
        let mut opening = Opening::new(scene, mint_completion_id(), &agent.name);
        let (voice, mut heard) = Voice::new(voice::Tools::Silent);
        let running = async {
            opening.announce("POST", "/v1/chat/completions", &agent.name).await?;
            let mut run = Run::begin(opening, ChatRequest::of_fields(request)?, voice)?;
            agent.drive(&mut run).await
        };
        let listening = async {
            let (mut reply, mut chunks) = (Reply::default(), Vec::new());
            while let Some(Heard::Piece(delta)) = heard.recv().await {
                chunks.extend(delta.content.clone());
                reply.push(&delta);
            }
            (reply, chunks)
        };
        let (outcome, (reply, chunks)) = tokio::join!(Box::pin(running), listening);
        Ok(told(outcome.err(), reply, &chunks, &ledger))
    }
}

/// What a client would have got.
fn told(error: Option<Error>, reply: Reply, chunks: &[String], ledger: &Ledger) -> Value {
    let choice = reply.choices.into_iter().next().unwrap_or_default();
    let mut outcome = Object::new();
    outcome.insert("chunks".into(), json!(chunks));
    outcome.insert("usage".into(), json!(ledger.totals().usage));
    let texts = [("content", &choice.content), ("reasoning", &choice.reasoning), ("finish", &choice.finish)];
    for (name, text) in texts {
        if let Some(text) = text {
            outcome.insert(name.into(), text.as_str().into());
        }
    }
    if !choice.calls.is_empty() {
        outcome.insert("tool_calls".into(), choice.calls().map(ToolCall::to_value).collect());
    }
    if let Some(error) = error {
        let mut told = Object::new();
        told.insert("status".into(), error.http_status().into());
        told.insert("code".into(), error.kind.code().unwrap_or_default().into());
        told.insert("message".into(), error.message.as_str().into());
        told.insert("detail".into(), error.chain().into());
        outcome.insert("error".into(), Value::Object(told));
    }
    Value::Object(outcome)
}

/// Passes everything on to the test.
struct Cast {
    asked: Asked,
}

#[async_trait]
impl StandIn for Cast {
    async fn model(&self, prompt: &Prompt) -> Result<Value> {
        let mut request = prompt.rest.clone();
        request.insert("model".into(), prompt.model.as_str().into());
        request.insert("messages".into(), json!(prompt.messages));
        request.insert("tools".into(), json!(prompt.tools));
        let message = ask(&self.asked, Part::Model, Value::Object(request)).await;
        message.map_err(|why| Error::new(Kind::UpstreamError, why))
    }

    async fn tool(&self, name: &str, arguments: Object) -> ToolResult {
        match ask(&self.asked, Part::Tool(name.to_owned()), Value::Object(arguments)).await {
            Ok(Value::String(text)) => ToolResult::ok(text),
            Ok(value) => ToolResult::ok(value.to_string()),
            Err(why) => ToolResult::error(why),
        }
    }

    async fn reach(&self, reach: Reach, request: Object) -> Result<Value, String> {
        ask(&self.asked, Part::Reach(reach), Value::Object(request)).await
    }
}
