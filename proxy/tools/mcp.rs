//! MCP servers: one supervised connection each, which outlives the configuration's reloads.
//!
//! `McpServer` is what agents hold: it knows the server's tools and carries calls. Behind it a supervisor task owns the
//! connection, restores it, and keeps the list of tools fresh. Dropping the last `McpServer` ends the supervisor.

mod catalog;
mod connect;
mod http;
mod outcome;
mod sse;
mod stdio;
mod supervisor;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rmcp::RoleClient;
use rmcp::model::{CallToolRequestParams, CallToolResponse};
use rmcp::service::{Peer, ServiceError};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::chat::{Object, ToolResult};
use crate::config::document;

pub use self::catalog::{Catalog, Listed};
pub use self::connect::check;

/// How long a call waits for a connection that is being made.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long `stop` waits for the connection's orderly end.
const STOP: Duration = Duration::from_secs(5);

/// One MCP server as the configuration names it.
pub struct McpServer {
    name: String,
    config: document::McpServer,
    root: PathBuf,
    shared: Arc<Shared>,
    started: AtomicBool,
}

/// What the supervisor and the callers share. Holds no connection: that is the supervisor's alone.
struct Shared {
    state: watch::Sender<State>,
    /// A caller met a broken connection: the supervisor should look.
    suspect: Notify,
    cancel: CancellationToken,
}

/// How things stand. Changed by the supervisor only.
#[derive(Clone, Default)]
struct State {
    phase: Phase,
    /// Attempts that have ended, well or badly.
    attempts: u64,
    /// Connections lost since the start.
    restarts: u64,
    last_error: Option<String>,
    /// Kept while a lost connection is first restored, so that a run that begins just then still has its tools.
    catalog: Option<Arc<Catalog>>,
    about: About,
}

#[derive(Clone, Default)]
enum Phase {
    #[default]
    Connecting,
    Ready(Peer<RoleClient>),
    /// The last attempt failed; when the next one begins.
    Failed(SystemTime),
    Stopped,
}

/// What a server says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct About {
    /// The protocol's version that both speak.
    pub protocol: Option<String>,
    /// The server's own name.
    pub server: Option<String>,
    /// The server's own version.
    pub version: Option<String>,
}

/// A server as `/mcp/servers` shows it.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Its name in the configuration.
    pub name: String,
    /// How it is reached.
    pub transport: document::McpTransport,
    /// `connecting`, `ready`, `failed` or `stopped`.
    pub state: &'static str,
    /// Why the last attempt or connection failed.
    pub last_error: Option<String>,
    /// Milliseconds until the next attempt, when `failed`.
    pub next_attempt_ms: Option<u64>,
    /// How often a connection was lost.
    pub restarts: u64,
    /// What it says about itself.
    #[serde(flatten)]
    pub about: About,
    /// Its tools: name, description, and the schema of the arguments.
    pub tools: Vec<Value>,
}

impl McpServer {
    /// A server that is not connected yet. `root` is the folder that paths in the configuration are relative to.
    pub fn new(name: &str, config: &document::McpServer, root: &Path) -> Arc<McpServer> {
        let (state, _) = watch::channel(State::default());
        let shared = Shared { state, suspect: Notify::new(), cancel: CancellationToken::new() };
        Arc::new(McpServer {
            name: name.to_owned(),
            config: config.clone(),
            root: root.to_owned(),
            shared: Arc::new(shared),
            started: AtomicBool::new(false),
        })
    }

    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this connection serves that configuration too: then a reload keeps it.
    pub fn serves(&self, name: &str, config: &document::McpServer, root: &Path) -> bool {
        self.name == name && self.config == *config && self.root == root
    }

    /// Starts the supervisor on the runtime that shall own the connection. Further calls do nothing.
    pub fn start(&self, handle: &tokio::runtime::Handle) {
        if !self.started.swap(true, Ordering::Relaxed) {
            let target = connect::Target { name: self.name.clone(), config: self.config.clone(), root: self.root.clone() };
            handle.spawn(supervisor::supervise(target, self.shared.clone()));
        }
    }

    /// Returns when the first attempt to connect has ended, well or badly, or `limit` is over.
    pub async fn wait_first_attempt(&self, limit: Duration) {
        let mut state = self.shared.state.subscribe();
        let ended = state.wait_for(|state| state.attempts > 0 || matches!(state.phase, Phase::Stopped));
        let _ = tokio::time::timeout(limit, ended).await;
    }

    /// Closes the connection and ends a started program; returns when that is done, or after 5 s.
    pub async fn stop(&self) {
        self.shared.cancel.cancel();
        if self.started.load(Ordering::Relaxed) {
            let mut state = self.shared.state.subscribe();
            let stopped = state.wait_for(|state| matches!(state.phase, Phase::Stopped));
            let _ = tokio::time::timeout(STOP, stopped).await;
        }
    }

    /// The server's tools, or why there are none now.
    pub fn catalog(&self) -> Result<Arc<Catalog>, String> {
        let state = self.shared.state.borrow();
        state.catalog.clone().ok_or_else(|| self.absence(&state))
    }

    /// How things stand, for `/mcp/servers`.
    pub fn status(&self) -> Status {
        let state = self.shared.state.borrow().clone();
        let (name, next) = match &state.phase {
            Phase::Connecting => ("connecting", None),
            Phase::Ready(_) => ("ready", None),
            Phase::Failed(next) => ("failed", Some(*next)),
            Phase::Stopped => ("stopped", None),
        };
        let wait = next.map(|next| next.duration_since(SystemTime::now()).unwrap_or_default());
        Status {
            name: self.name.clone(),
            transport: self.config.transport,
            state: name,
            last_error: state.last_error,
            next_attempt_ms: wait.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            restarts: state.restarts,
            about: state.about,
            tools: state.catalog.iter().flat_map(|catalog| catalog.tools()).map(Listed::to_value).collect(),
        }
    }

    /// Calls a tool by the server's own name for it. Never repeats a call that may have arrived. Dropping the future
    /// tells the server to stop.
    pub async fn call(&self, tool: &str, arguments: Object) -> ToolResult {
        let peer = match self.peer().await {
            Ok(peer) => peer,
            Err(why) => return ToolResult::error(why),
        };
        let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        match peer.call_tool_once(params).await {
            Ok(CallToolResponse::Complete(result)) => outcome::result(result),
            Ok(CallToolResponse::InputRequired(_)) => {
                ToolResult::error("the tool asks for more input from a person, which is not possible here")
            }
            Ok(_) => ToolResult::error("the tool answered in a form that is not understood here"),
            Err(ServiceError::McpError(error)) => outcome::error(&error),
            Err(error) => {
                self.shared.suspect.notify_one();
                let why = outcome::broken(&error);
                ToolResult::error(format!("the connection to MCP server `{}` broke during the call: {why}", self.name))
            }
        }
    }

    /// The connection, waiting briefly for one that is being made.
    async fn peer(&self) -> Result<Peer<RoleClient>, String> {
        let soon = SystemTime::now() + PATIENCE;
        let mut state = self.shared.state.subscribe();
        let settled = state.wait_for(|state| match &state.phase {
            Phase::Connecting => false,
            Phase::Failed(next) => *next > soon,
            Phase::Ready(_) | Phase::Stopped => true,
        });
        let _ = tokio::time::timeout(PATIENCE, settled).await;
        let state = self.shared.state.borrow();
        match &state.phase {
            Phase::Ready(peer) => Ok(peer.clone()),
            _ => Err(self.absence(&state)),
        }
    }

    fn absence(&self, state: &State) -> String {
        let why = match (&state.phase, &state.last_error) {
            (Phase::Stopped, _) => "it was stopped",
            (_, Some(error)) => error,
            (_, None) => "it is still starting",
        };
        format!("MCP server `{}` is not connected: {why}", self.name)
    }
}

impl Drop for McpServer {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}

#[cfg(test)]
mod tests;
