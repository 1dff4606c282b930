//! `tools`: what an agent may use.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::Ordered;
use super::secret::Secret;

/// Tools that an agent may use: one by `name`, or many of an MCP server by `include`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToolDoc {
    /// The name that the model reads.
    pub name: Option<String>,
    /// What the model reads about it. Default: the server's own words (`mcp`).
    pub description: Option<String>,
    /// Who runs it.
    pub provider: ToolProvider,
    /// The MCP server's name (`mcp`).
    pub mcp_server: Option<String>,
    /// The tool's name at the MCP server. Default: `name` (`mcp`).
    pub mcp_method: Option<String>,
    /// Patterns (`read_*`) of the server's tool names to offer (`mcp`).
    pub include: Option<Vec<String>>,
    /// Patterns of the server's tool names not to offer (`mcp`).
    pub exclude: Option<Vec<String>>,
    /// Put before each of the server's tool names (`mcp`).
    pub prefix: Option<String>,
    /// The request's method (`http`).
    pub method: Option<String>,
    /// The request's address; `{name}` stands for an argument (`http`).
    pub url: Option<String>,
    /// The request's headers; `{name}` stands for an argument (`http`).
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Secret>")]
    pub headers: Ordered<Secret>,
    /// The request's body: JSON or text in which `{name}` stands for an argument. Default: the arguments that the address does not use, as JSON (`http`).
    pub body: Option<Value>,
    /// The JSON Schema of the arguments (`http`).
    pub parameters: Option<Value>,
    /// A JSONPath that picks the result out of a JSON answer (`http`).
    pub result: Option<String>,
    /// `module:function` (`python`).
    pub function: Option<String>,
    /// The agent's name (`agent`).
    pub agent: Option<String>,
}

/// Who runs a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolProvider {
    /// An MCP server.
    Mcp,
    /// An HTTP request.
    Http,
    /// A Python function.
    Python,
    /// Another agent of this gateway.
    Agent,
}
