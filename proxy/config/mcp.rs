//! `mcp_servers`: where tools come from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::Ordered;
use super::sandbox::Sandbox;
use super::secret::Secret;

/// One MCP server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct McpServer {
    /// How it is reached.
    pub transport: McpTransport,
    /// Its address (`http`, `sse`).
    pub url: Option<String>,
    /// Headers that every request to it carries (`http`, `sse`).
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Secret>")]
    pub headers: Ordered<Secret>,
    /// The program to start (`stdio`).
    pub command: Option<String>,
    /// The program's arguments (`stdio`).
    #[serde(default)]
    pub args: Vec<String>,
    /// The program's environment, beside `PATH`, `HOME`, `LANG`, `TMPDIR` and `USER` of the gateway (`stdio`).
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Secret>")]
    pub env: Ordered<Secret>,
    /// The program's working directory. Default: the configuration's root (`stdio`).
    pub cwd: Option<String>,
    /// Whether all runs share one connection or each session has its own.
    #[serde(default)]
    pub scope: McpScope,
    /// What the program may touch. Default: whatever the gateway may (`stdio`).
    pub sandbox: Option<Sandbox>,
}

/// How an MCP server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum McpTransport {
    /// Streamable HTTP.
    Http,
    /// HTTP with server-sent events, of the 2024-11-05 protocol.
    Sse,
    /// A child process, over its standard input and output.
    Stdio,
}

/// Whether all runs share one connection to an MCP server or each session has its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum McpScope {
    /// One connection for everybody.
    #[default]
    Shared,
    /// One connection for each session.
    Session,
}
