//! An agent's document: an entry of `agents:` or a file of its own in `agents_dir`.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::duration;
pub use super::hook::*;
use super::limits::Limits;
pub use super::tool::*;

/// One agent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AgentDoc {
    /// The name that clients use as the model. In a file of its own: the file's path, which a `name` may only repeat.
    pub name: Option<String>,
    /// How the agent is defined.
    pub kind: AgentKind,
    /// What the agent is for; shown in listings and to agents that use it as a tool.
    pub description: Option<String>,
    /// The upstream of its model. Default: the default upstream.
    pub upstream: Option<String>,
    /// Its model's name at the upstream.
    pub model: Option<String>,
    /// The system message that every model call begins with.
    pub instructions: Option<String>,
    /// `module:callable` of an `sdk` agent.
    pub module: Option<String>,
    /// Scripts whose hooks fire, in this order.
    pub hooks: Vec<HookEntry>,
    /// Tools that the agent may use.
    pub tools: Vec<ToolDoc>,
    /// Limits of a run.
    pub policies: Policies,
    /// What is remembered between runs that name the same session.
    pub session: SessionDoc,
    /// The ids of the keys that may use it, or patterns (`web*`). Default: every key.
    pub allow: Option<Vec<String>>,
    /// How much all its clients together may use. Uses by other agents count for those.
    pub limits: Limits,
    /// How its tools' progress is shown. A response has its calls as items unless this is `none`. Default: as the key says.
    pub progress: Option<Progress>,
    /// What becomes of the tools that the client brings. Default: as the key says.
    pub client_tools: Option<ClientTools>,
    /// Fields of each model call (`temperature`, `reasoning_effort`, ...) unless the client sets them.
    pub parameters: Map<String, Value>,
}

/// How an agent is defined.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// By this document.
    #[default]
    Declarative,
    /// By Python code for the OpenAI Agents SDK.
    Sdk,
}

/// Limits of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policies {
    /// How often the model may ask for tools.
    pub max_tool_hops: u32,
    /// How many tools may be called in all.
    pub max_tool_calls: u32,
    /// How many tokens all model calls may use together. Default: no limit.
    pub max_total_tokens: Option<u64>,
    /// How long a run may take.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub timeout: Duration,
    /// How long one tool may take.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub tool_timeout: Duration,
    /// Runs the tools of one turn at the same time.
    pub parallel_tool_calls: bool,
    /// What happens when a limit is reached.
    pub on_limit: OnLimit,
    /// The longest tool result that the model reads, in bytes; the rest is cut off and said to be.
    pub max_tool_result_bytes: usize,
}

impl Default for Policies {
    fn default() -> Self {
        Policies {
            max_tool_hops: 8,
            max_tool_calls: 32,
            max_total_tokens: None,
            timeout: Duration::from_secs(300),
            tool_timeout: Duration::from_secs(30),
            parallel_tool_calls: true,
            on_limit: OnLimit::Answer,
            max_tool_result_bytes: 256 << 10,
        }
    }
}

/// What happens when a run reaches a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLimit {
    /// One last model call without tools, whose answer is the reply.
    #[default]
    Answer,
    /// The error `max_turns_exceeded`.
    Error,
}

/// What is remembered between runs that name the same session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SessionDoc {
    /// Who keeps the history.
    pub history: History,
    /// How long after its last use it is kept.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub ttl: Duration,
}

impl Default for SessionDoc {
    fn default() -> Self {
        SessionDoc { history: History::Client, ttl: Duration::from_secs(24 * 3600) }
    }
}

/// Who keeps a conversation's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum History {
    /// The client sends all of it each time. The gateway remembers what the client has not seen: tool calls and their results.
    Client,
    /// The gateway: a client sends what is new, and the model gets all that was said before it.
    Server,
    /// The client, and nothing is remembered.
    None,
}

/// How the tools' progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// As the client understands it.
    #[default]
    Auto,
    /// As Open WebUI shows it.
    Openwebui,
    /// As reasoning.
    Reasoning,
    /// Not at all.
    None,
}

/// What answers the background tasks of a chat client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackgroundTasks {
    /// The agent's plain model: no tools, no hooks, no memory.
    Plain,
    /// The agent, as any chat.
    Agent,
}

/// What becomes of the tools that a client brings to an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientTools {
    /// The model may ask for them; the calls are handed back.
    Offer,
    /// They are left out.
    Ignore,
}
