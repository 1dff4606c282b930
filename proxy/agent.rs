//! An agent, resolved: something that turns a request into a reply over hops, for clients a model like any other.

pub mod alias;

pub mod declared;
mod format;
pub mod ledger;
pub mod memory;
pub mod opening;
pub mod reach;
pub mod run;
pub mod scene;
pub mod sdk;
mod speak;
pub mod surroundings;
pub mod tool_calls;
pub mod turns;
pub mod voice;

use std::collections::HashMap;
use std::sync::Arc;

use crate::chat::Object;
use crate::config::document::{Limits, SessionDoc};
use crate::config::{ClientTools, Policies, Progress};
use crate::error::{Error, Kind, Result};
use crate::hooks::Hooks;
use crate::limits::{Claim, Subject};
use crate::python::Python;
use crate::tools::Tools;
use crate::upstream::Upstream;
use crate::upstream::fallback::Candidate;
use run::Run;

/// Every agent of a snapshot, by name.
pub type Directory = HashMap<String, Arc<Agent>>;

/// How a run's reply comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Definition {
    /// A loop of model calls and tools, declared in YAML or JSON.
    Declarative,
    /// Code for the Agents SDK.
    Sdk,
    /// One model call under another name, with hooks or a fallback.
    Alias,
}

impl Definition {
    /// Its name in listings.
    pub fn name(self) -> &'static str {
        match self {
            Definition::Declarative => "declarative",
            Definition::Sdk => "sdk",
            Definition::Alias => "alias",
        }
    }
}

/// One agent of a snapshot.
pub struct Agent {
    /// The name that clients use as the model.
    pub name: String,
    /// How it is defined.
    pub definition: Definition,
    /// The workers that run its code, when it is code.
    pub python: Option<Arc<Python>>,
    /// What it is for.
    pub description: Option<String>,
    /// Where its model is.
    pub upstream: Arc<Upstream>,
    /// Its model's name there.
    pub model: String,
    /// The models that are asked when it fails, in this order.
    pub fallback: Arc<[Candidate]>,
    /// The system message that every model call begins with.
    pub instructions: Option<String>,
    /// Fields of each model call unless the client sets them.
    pub parameters: Object,
    /// Its scripts.
    pub hooks: Arc<Hooks>,
    /// The paths of its scripts, for listings.
    pub scripts: Vec<String>,
    /// Its tools.
    pub tools: Tools,
    /// The limits of its runs.
    pub policies: Policies,
    /// What becomes of the tools that a client brings; `None` is as the key says.
    pub client_tools: Option<ClientTools>,
    /// How its tools' progress is shown; `None` is as the key says.
    pub progress: Option<Progress>,
    /// The ids of the keys that may use it; `None` is every key.
    pub allow: Option<Vec<String>>,
    /// What is remembered between its runs.
    pub session: SessionDoc,
    /// How much its clients together may use.
    pub limits: Arc<Limits>,
}

impl Agent {
    /// Whether it only stands for its model, so that its requests may pass as they are.
    pub fn is_plain(&self) -> bool {
        self.definition == Definition::Alias && self.scripts.is_empty()
    }

    /// The limit that holds for requests to it, if it has one.
    pub fn claim(&self) -> Option<Claim> {
        let is_limited = *self.limits != Limits::default();
        is_limited.then(|| Claim { subject: Subject::Agent(self.name.clone()), limits: self.limits.clone() })
    }

    /// Why the agent cannot run now, in words for the operator; empty when it can.
    pub fn degraded(&self) -> Vec<String> {
        match self.definition {
            Definition::Sdk => {
                let code = self.python.as_ref().and_then(|python| python.fault_of_agent(&self.name));
                code.into_iter().chain(self.tools.degraded()).collect()
            }
            Definition::Declarative => self.tools.degraded(),
            Definition::Alias => Vec::new(),
        }
    }

    /// 503 `agent_unavailable` while something that the agent needs is down.
    pub fn check_available(&self) -> Result<()> {
        let reasons = self.degraded();
        if reasons.is_empty() {
            return Ok(());
        }
        Err(self.unavailable(reasons.join("; ")))
    }

    fn unavailable(&self, reason: String) -> Error {
        Error::new(Kind::AgentUnavailable, format!("The agent '{}' is not available now.", self.name)).source(reason)
    }

    /// Works on one request until the reply is complete, within the agent's `timeout`. The reply leaves through the run's events;
    /// what a failed run had already called is not to be called again by a client's retry.
    pub async fn drive(&self, run: &mut Run) -> Result<()> {
        let Err(error) = self.attempt(run).await else { return Ok(()) };
        run.recover(error).await.map_err(|mut error| {
            let passing = is_passing(error.kind);
            if run.scene.ledger.totals().tool_calls > 0 || !passing {
                error.should_retry = Some(false);
            }
            error
        })
    }

    async fn attempt(&self, run: &mut Run) -> Result<()> {
        let driving = async {
            match self.definition {
                Definition::Alias => alias::drive(run).await,
                // In a rehearsal the model is played, and only the hooks are at stake.
                Definition::Sdk if run.scene.around.stand_in.is_none() => sdk::drive(run).await,
                Definition::Declarative | Definition::Sdk => declared::drive(run).await,
            }
        };
        tokio::time::timeout(self.policies.timeout, driving).await.unwrap_or_else(|_| {
            let seconds = self.policies.timeout.as_secs_f64();
            Err(Error::new(Kind::RunTimeout, format!("The agent did not finish within {seconds} s.")))
        })
    }
}

/// Whether the same request may go well a moment later.
fn is_passing(kind: Kind) -> bool {
    use Kind::{UpstreamBusy, UpstreamEmpty, UpstreamError, UpstreamRateLimited, UpstreamUnreachable};
    matches!(kind, UpstreamBusy | UpstreamEmpty | UpstreamError | UpstreamRateLimited | UpstreamUnreachable)
}
