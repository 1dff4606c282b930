//! `redis`, `sessions` and the other stores: what outlives a run, and what happens while it is away.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;
use super::secret::Secret;
use super::size;

/// Where conversations are remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Where they are kept. Default: `redis` where the `redis` section is there, else `memory`.
    pub store: Option<Store>,
    /// Redis' address, when it is not the one in the `redis` section.
    pub url: Option<Secret>,
    /// What happens while Redis is away: `open` goes on without history, `closed` refuses the run.
    pub fail: Fail,
    /// Headers in which clients name their session; the first that is there counts. Behind them come Open WebUI's chat and
    /// `metadata.session_id`.
    pub headers: Vec<String>,
    /// How many turns of a session are kept; beyond it the oldest go.
    pub max_turns: u32,
    /// How much of a session is kept; beyond it the oldest turns go.
    #[serde(with = "size")]
    #[schemars(schema_with = "size::schema")]
    pub max_bytes: u64,
    /// How much all sessions in memory may take; beyond it those go that were not used for longest. A change holds from the next start on.
    #[serde(with = "size")]
    #[schemars(schema_with = "size::schema")]
    pub memory: u64,
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions {
            store: None,
            url: None,
            fail: Fail::default(),
            headers: vec!["x-session-id".into()],
            max_turns: 1000,
            max_bytes: 1 << 20,
            memory: 256 << 20,
        }
    }
}

/// One kind of state that replicas may share.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stored {
    /// Where it is kept. Default: `redis` where the `redis` section is there, else `memory`.
    pub store: Option<Store>,
    /// What happens while Redis is away: `open` goes on without it, `closed` refuses what needs it.
    pub fail: Fail,
}

/// What happens while a store is away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fail {
    /// The gateway goes on without it.
    #[default]
    Open,
    /// What needs it is refused.
    Closed,
}

/// Where shared state lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Store {
    /// In this process.
    Memory,
    /// In Redis.
    Redis,
}

/// Redis for everything that is shared between replicas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// `redis://...`, `rediss://...`.
    pub url: Secret,
    /// How many replicas must have a write before it counts. Default: none.
    pub wait_replicas: Option<usize>,
    /// How long a call waits for its answer; then Redis counts as away until it is found well.
    #[serde(default = "moment", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub timeout: Duration,
}

/// The default of `redis.timeout`, also where only `sessions.url` says where Redis is.
pub fn moment() -> Duration {
    Duration::from_millis(250)
}
