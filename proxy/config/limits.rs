//! How much may be used, and what it costs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How much may be used.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests per minute: so many at once, refilled evenly. Default: no limit.
    pub requests_per_minute: Option<u32>,
    /// Tokens per minute, of prompts and replies. Default: no limit.
    pub tokens_per_minute: Option<u64>,
    /// Requests at once. Default: no limit.
    pub concurrent: Option<u32>,
    /// Tokens per day; a day begins at midnight UTC. Default: no limit.
    pub tokens_per_day: Option<u64>,
    /// What a day's tokens may cost by `prices`. Default: no limit.
    pub cost_per_day: Option<f64>,
}

/// What a model costs, per million tokens, in a currency of your choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Tokens of the prompt.
    pub input: f64,
    /// Tokens of the prompt that the server has in its cache. Default: as `input`.
    pub cached_input: Option<f64>,
    /// Tokens of the reply.
    pub output: f64,
}
