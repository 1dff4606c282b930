//! `upstreams` and `models`: OpenAI-compatible servers, and names for what they serve.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::Ordered;
use super::duration;
use super::hook::HookEntry;
use super::repair::Repair;
use super::secret::Secret;

/// One OpenAI-compatible server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upstream {
    /// What is there.
    pub kind: UpstreamKind,
    /// The address up to and with `/v1`. Not for `kind: demo`.
    pub base_url: Option<String>,
    /// Sent as `Authorization: Bearer ...`. Default: nothing is sent.
    pub api_key: Option<Secret>,
    /// Sends the client's own `Authorization` on. Only for servers that you trust with it.
    pub forward_authorization: bool,
    /// A PEM file of certificates to trust, for servers with a certificate of their own.
    pub ca_file: Option<String>,
    /// How many requests may be at this server at once. Default: no limit.
    pub max_concurrent: Option<usize>,
    /// Where requests wait beyond `max_concurrent`.
    pub queue: Queue,
    /// How long connecting may take.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub connect_timeout: Duration,
    /// How long the server may be silent before its first byte. For plain traffic it holds for every read.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub first_byte_timeout: Duration,
    /// The longest gap between two bytes of an answer to a run.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub idle_timeout: Duration,
    /// How long an idle connection is kept for the next request.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub keepalive: Duration,
    /// How often a connection that could not be made is tried again; never more often than for every fifth request, and 10 a second.
    pub retries: usize,
    /// How the server's health is watched.
    pub health: Health,
    /// Models of LM Studio that are loaded when it comes up, and before a run asks one that is not loaded any more, with these options. The
    /// run shows that it waits. Other models are loaded by the server when it is asked.
    #[schemars(with = "BTreeMap<String, LoadOptions>")]
    pub preload: Ordered<LoadOptions>,
    /// What is mended of the server's habits, in the requests of runs and in the answers to them. Plain traffic stays as it is.
    pub repair: Repair,
}

impl Default for Upstream {
    fn default() -> Self {
        Upstream {
            kind: UpstreamKind::Openai,
            base_url: None,
            api_key: None,
            forward_authorization: false,
            ca_file: None,
            max_concurrent: None,
            queue: Queue::default(),
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(300),
            idle_timeout: Duration::from_secs(60),
            keepalive: Duration::from_secs(4),
            retries: 1,
            health: Health::default(),
            preload: Ordered::default(),
            repair: Repair::default(),
        }
    }
}

/// What an upstream is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamKind {
    /// An OpenAI-compatible server at `base_url`.
    #[default]
    Openai,
    /// The built-in offline model, which streams text and calls tools.
    Demo,
}

/// Where requests wait beyond `max_concurrent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// How many may wait.
    pub max: usize,
    /// How long one may wait.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub timeout: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Queue { max: 100, timeout: Duration::from_secs(60) }
    }
}

/// How a server's health is watched: what is found opens and closes its breaker, beside what becomes of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// The path under `base_url` that is asked; a status below 300 is health.
    pub path: String,
    /// How often; more often after an outage has begun.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub interval: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Health { path: "/models".into(), interval: Duration::from_secs(10) }
    }
}

/// How LM Studio loads a model; what is not set is as its own settings say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoadOptions {
    /// How many tokens the model considers: no request can say that.
    pub context_length: Option<u32>,
    /// How many tokens of a prompt are worked on at once.
    pub eval_batch_size: Option<u32>,
    /// Whether attention is computed in the way that takes less memory.
    pub flash_attention: Option<bool>,
    /// How many experts of a mixture answer.
    pub num_experts: Option<u32>,
    /// Whether the cache of keys and values is in the GPU's memory.
    pub offload_kv_cache_to_gpu: Option<bool>,
}

/// A plain model with a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Alias {
    /// The upstream that serves it. Default: the default upstream.
    pub upstream: Option<String>,
    /// The model's name there.
    pub model: String,
    /// Models tried in this order, as `upstream/model`, when the first one fails before it has answered anything: it is not reached, not in
    /// time, busy, limits requests, or answers with a status of 500 or more.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// Scripts whose hooks fire, in this order.
    #[serde(default)]
    pub hooks: Vec<HookEntry>,
    /// The ids of the keys that may use it, or patterns (`web*`). Default: every key.
    pub allow: Option<Vec<String>>,
}
