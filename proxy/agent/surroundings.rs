//! What the runs of one snapshot find around them: models and agents by name, tools' servers, the way out, what scripts keep.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::ledger::{Ask, Ledger};
use super::{Agent, Directory};
use crate::access::Caller;
use crate::chat::{Object, Prompt, ToolResult};
use crate::config::document::Ordered;
use crate::error::Result;
use crate::hooks::Reach;
use crate::limits::Prices;
use crate::model::{self, ModelStream};
use crate::python::Python;
use crate::sessions::Sessions;
use crate::store::Store;
use crate::tools::Tool;
use crate::tools::egress::Egress;
use crate::tools::mcp::McpServer;
use crate::upstream::Upstream;
use crate::upstream::fallback::Candidate;

/// Where a model's name leads.
#[derive(Clone)]
pub enum Target {
    /// A run works on it here: an agent's, or an alias' with hooks or a fallback.
    Agent(Arc<Agent>),
    /// It is passed to this upstream.
    Upstream(Arc<Upstream>),
}

impl Target {
    /// The agent that works on it.
    pub fn agent(&self) -> Option<&Agent> {
        match self {
            Target::Agent(agent) => Some(agent),
            Target::Upstream(_) => None,
        }
    }
}

/// A target and the name that the model has there, when it differs from the one in the request.
pub struct Route {
    /// Where the request goes.
    pub target: Target,
    /// What `model` is replaced by on the way.
    pub rename: Option<String>,
}

/// What models' names mean.
pub trait Models: Send + Sync {
    /// Where `model` leads this caller.
    fn find(&self, model: &str, caller: &Caller) -> Result<Route>;
}

/// The surroundings of all runs of one snapshot.
pub struct Surroundings {
    /// Every agent, for those that are used as tools and by scripts.
    pub agents: Arc<Directory>,
    /// Every model.
    pub models: Arc<dyn Models>,
    /// The MCP servers by name.
    pub mcp_servers: Ordered<Arc<McpServer>>,
    /// The Python workers.
    pub python: Arc<Python>,
    /// The way out for scripts' own requests.
    pub egress: Egress,
    /// What scripts keep; it outlives reloads.
    pub store: Arc<Store>,
    /// The conversations that are remembered; they outlive reloads.
    pub sessions: Arc<Sessions>,
    /// What models cost.
    pub prices: Arc<Prices>,
    /// Who answers in the place of models, tools and the world, when runs are rehearsed.
    pub stand_in: Option<Arc<dyn StandIn>>,
}

/// Plays models, tools and the world to a run that is rehearsed.
#[async_trait]
pub trait StandIn: Send + Sync {
    /// The model's reply to a prompt, as a chat completion's `choices[0].message`.
    async fn model(&self, prompt: &Prompt) -> Result<Value>;

    /// A tool's result.
    async fn tool(&self, name: &str, arguments: Object) -> ToolResult;

    /// What a script reaches.
    async fn reach(&self, reach: Reach, request: Object) -> Result<Value, String>;
}

impl Surroundings {
    /// The same, with another store.
    pub fn with_store(&self, store: Arc<Store>) -> Surroundings {
        Surroundings {
            agents: self.agents.clone(),
            models: self.models.clone(),
            mcp_servers: self.mcp_servers.clone(),
            python: self.python.clone(),
            egress: self.egress.clone(),
            store,
            sessions: self.sessions.clone(),
            prices: self.prices.clone(),
            stand_in: self.stand_in.clone(),
        }
    }

    /// Asks a model for whoever has this key, or those in `fallback` when it fails; returns once one has begun to answer. What it uses is
    /// booked in `ledger`, when and however the stream ends.
    pub async fn ask(
        &self,
        upstream: &Upstream,
        fallback: &[Candidate],
        prompt: &Prompt,
        key: Option<&str>,
        ledger: &Arc<Ledger>,
    ) -> Result<ModelStream> {
        let mut ask = Ask::begin(ledger);
        let asked = match &self.stand_in {
            Some(stand_in) => stand_in.model(prompt).await.and_then(ModelStream::of_message),
            // Apart from the run's own state, which runs within runs stack up.
            None => Box::pin(model::ask(upstream, fallback, prompt, key, &self.prices)).await,
        };
        let stream = asked.inspect_err(|_| ask.cancel())?;
        Ok(stream.witnessed(ask))
    }

    /// Calls a tool, except agents, which runs drive themselves.
    pub async fn call(&self, tool: &Tool, arguments: Object) -> ToolResult {
        match &self.stand_in {
            Some(stand_in) => stand_in.tool(&tool.name, arguments).await,
            None => tool.call(arguments).await,
        }
    }
}
