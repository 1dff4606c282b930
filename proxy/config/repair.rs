//! `upstreams.X.repair`: what is mended between runs and a server.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is mended of a server's habits, in the requests of runs and in the answers to them. Plain traffic stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Repair {
    /// A thought between `<think>` and `</think>` at the beginning of the text leaves as `reasoning_content`, not as text.
    pub think_tags: bool,
    /// Tool calls count although the server says `stop` with them, as many do. `false` drops such calls, for servers that make them up.
    pub tool_calls_with_stop: bool,
    /// The role that messages of instructions are sent with: many servers know only `system`.
    pub developer_role: DeveloperRole,
    /// The name that the limit of a reply's tokens is sent under. Default: `max_tokens`, and `keep` at OpenAI's own servers.
    pub max_tokens: Option<TokenLimit>,
    /// Sends an agent's `response_format` beside tools, too. Most servers cannot hold to both: there it goes with a call without tools.
    /// Default: `false`, and `true` at OpenAI's own servers.
    pub response_format_with_tools: Option<bool>,
    /// Sends the `response_format` `json_object` as a JSON Schema that every object fits: LM Studio knows only schemas.
    /// Default: `true`, and `false` at OpenAI's own servers.
    pub json_object_as_schema: Option<bool>,
}

impl Default for Repair {
    fn default() -> Self {
        Repair {
            think_tags: true,
            tool_calls_with_stop: true,
            developer_role: DeveloperRole::System,
            max_tokens: None,
            response_format_with_tools: None,
            json_object_as_schema: None,
        }
    }
}

/// The role of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeveloperRole {
    /// `developer` is sent as `system`.
    System,
    /// `system` is sent as `developer`.
    Developer,
    /// Each as it came.
    Keep,
}

/// The name of the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimit {
    /// The older name, which local servers know.
    MaxTokens,
    /// The newer name, which OpenAI's reasoning models ask for.
    MaxCompletionTokens,
    /// As it came.
    Keep,
}
