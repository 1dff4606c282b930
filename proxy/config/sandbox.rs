//! `sandbox`: what a started program may touch.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a started program may touch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// Folders it may read.
    pub read: Vec<String>,
    /// Folders it may write.
    pub write: Vec<String>,
    /// Whether it may use the network.
    pub network: Network,
}

/// Whether a sandboxed program may use the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// No.
    #[default]
    None,
    /// Yes.
    Allow,
}
