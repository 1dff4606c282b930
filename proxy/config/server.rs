//! `server`: the listening side.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::duration;

/// The listening side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    /// Address and port. `--listen` and `MOONGATE_LISTEN` override it.
    pub listen: String,
    /// Which web pages may call the gateway from a browser.
    pub cors: Cors,
    /// Sizes and counts.
    pub limits: ServerLimits,
    /// What a model name gets that no agent, alias or upstream knows.
    pub unknown_models: UnknownModels,
    /// Certificate and key, for HTTPS.
    pub tls: Option<ServerTls>,
    /// How long a stop waits for requests in flight.
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub shutdown_timeout: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            listen: "127.0.0.1:8080".into(),
            cors: Cors::default(),
            limits: ServerLimits::default(),
            unknown_models: UnknownModels::Pass,
            tls: None,
            shutdown_timeout: Duration::from_secs(30),
        }
    }
}

/// Which web pages may call the gateway from a browser.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Cors {
    /// Origins such as `http://localhost:3000`, or `*` for all.
    pub allow_origins: Vec<String>,
}

/// Sizes and counts of the listening side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerLimits {
    /// The largest request body, in bytes.
    pub max_body_bytes: usize,
}

impl Default for ServerLimits {
    fn default() -> Self {
        ServerLimits { max_body_bytes: 32 << 20 }
    }
}

/// What a model name gets that no agent, alias or upstream knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownModels {
    /// It goes to the default upstream, which may know it.
    #[default]
    Pass,
    /// 404 `model_not_found`.
    Reject,
}

/// Certificate and key, for HTTPS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    /// The certificate chain, a PEM file.
    pub cert: String,
    /// Its private key, a PEM file.
    pub key: String,
}
