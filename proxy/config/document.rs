//! The gateway's document, `config/gateway.yaml`. The doc comments of the sections are the reference.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::agent::*;
pub use super::auth::*;
pub use super::expiry::Expiry;
pub use super::limits::*;
pub use super::mcp::*;
pub use super::repair::*;
pub use super::sandbox::*;
pub use super::secret::Secret;
pub use super::server::*;
pub use super::state::*;
pub use super::upstream::*;
use super::{duration, size};

/// A map that keeps the order of the file: upstreams are tried in it.
pub type Ordered<T> = indexmap::IndexMap<String, T>;

/// The whole configuration of a gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// The listening side.
    pub server: Server,
    /// The upstream for every path and model that nobody else claims. Default: the first one.
    pub default_upstream: Option<String>,
    /// OpenAI-compatible servers, by name.
    #[schemars(with = "BTreeMap<String, Upstream>")]
    pub upstreams: Ordered<Upstream>,
    /// MCP servers whose tools agents may use, by name.
    #[schemars(with = "BTreeMap<String, McpServer>")]
    pub mcp_servers: Ordered<McpServer>,
    /// Plain models with a policy, by the name that clients see.
    #[schemars(with = "BTreeMap<String, Alias>")]
    pub models: Ordered<Alias>,
    /// A folder in which every `*.yaml`, `*.yml` and `*.json` is an agent, called after its path: `team/x.yaml` is
    /// `team/x`. Names that begin with `.` or `_` are left out. Default: `agents`, where it exists.
    pub agents_dir: Option<String>,
    /// Agents written here rather than in a file of their own.
    pub agents: Vec<AgentDoc>,
    /// Where conversations are remembered.
    pub sessions: Sessions,
    /// Where the counts of the keys' limits are kept.
    pub limits: Stored,
    /// Where scripts keep what they put into `std.store`.
    pub scripts: Stored,
    /// Where the records of runs are kept.
    pub runs: Stored,
    /// Who may use the gateway.
    pub auth: Auth,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Where tools and scripts may connect to.
    pub egress: Egress,
    /// Redis for everything that is shared between replicas.
    pub redis: Option<Redis>,
    /// Python workers.
    pub python: Option<Python>,
    /// Prices, by the model's name at its upstream, alone or as `upstream/model`; patterns (`openai/*`) may be used, and the first that fits
    /// counts.
    #[schemars(with = "BTreeMap<String, Price>")]
    pub prices: Ordered<Price>,
}

/// Logs and traces.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// The logs' form. Default: pretty on a terminal, else JSON.
    pub logs: Option<LogForm>,
    /// Where traces go, over OTLP. Default: nowhere.
    pub otlp_endpoint: Option<String>,
}

/// The form of the logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogForm {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// Where tools and scripts may connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Egress {
    /// Networks and hosts (`10.0.0.0/8`, `intranet.example`) that are allowed although they are private.
    pub allow: Vec<String>,
}

/// Python workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Python {
    /// The virtual environment. Default: `.venv`, where there is one.
    pub venv: Option<String>,
    /// How many workers. Default: one per two cores, at least one.
    pub workers: Option<usize>,
    /// Variables of the gateway's environment that workers see; without, only `PATH`, `HOME` and their like.
    pub env: Vec<String>,
    /// How much memory each worker may take: `512MiB`, `2GiB`, or a number of bytes.
    #[serde(with = "size")]
    #[schemars(schema_with = "size::schema")]
    pub memory_limit: u64,
    /// How long one call of a function may take, whatever its agent's `tool_timeout` says.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub call_timeout: Duration,
    /// What a worker may touch. Default: whatever the gateway may.
    pub sandbox: Option<Sandbox>,
    /// Whether the Agents SDK sends traces to its vendor.
    pub tracing: bool,
}

impl Default for Python {
    fn default() -> Self {
        Python {
            venv: None,
            workers: None,
            env: Vec::new(),
            memory_limit: 1 << 30,
            call_timeout: Duration::from_secs(600),
            sandbox: None,
            tracing: false,
        }
    }
}
