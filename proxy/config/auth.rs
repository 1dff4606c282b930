//! `auth`: who may use the gateway, and how much.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agent::{BackgroundTasks, ClientTools, Progress};
use super::secret::Secret;

/// Who may use the gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// The keys. Without any, everybody on this machine may use everything.
    pub keys: Vec<Key>,
    /// What callers may do while there are no keys.
    pub anonymous: Option<Anonymous>,
}

/// Writes the rights once for both places where they may stand: serde's `flatten` would lose where each key is written.
macro_rules! rights {
    ($($(#[$attribute:meta])* $field:ident: $type:ty,)*) => {
        /// Rights of a key, or of everybody while there are no keys.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Anonymous { $($(#[$attribute])* pub $field: $type,)* }

        /// One key and its rights.
        #[derive(Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        #[schemars(rename = "Key")]
        struct Written {
            /// A name for it, in logs and `allow` lists.
            id: String,
            /// The key itself.
            key: Option<Secret>,
            /// The SHA-256 of the key in hexadecimal, in place of `key`.
            #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
            key_sha256: Option<String>,
            /// The key is refused.
            #[serde(default)]
            disabled: bool,
            $($(#[$attribute])* #[serde(default)] $field: $type,)*
        }

        impl From<Written> for Key {
            fn from(written: Written) -> Self {
                let Written { id, key, key_sha256, disabled, $($field,)* } = written;
                Key { id, key, key_sha256, disabled, rights: Anonymous { $($field,)* } }
            }
        }
    };
}

rights! {
    /// Which client uses it: sets the form of progress, background tasks, identity headers and `client_tools` for it.
    client: Option<Client>,
    /// Where that client writes for whom it asks. Only with `client: openwebui`; it is believed from no other key.
    identity: Option<Identity>,
    /// Models, aliases and agents that may be used, with `*`. Default: all.
    models: Option<Vec<String>>,
    /// May use the management endpoints.
    admin: bool,
    /// How much may be used.
    limits: KeyLimits,
    /// How the tools' progress is shown. A response has their calls as items unless this is `none`. Default: `auto`.
    progress: Option<Progress>,
    /// What becomes of the tools that the client brings to an agent. Default: `offer`; `ignore` with `client: openwebui`.
    client_tools: Option<ClientTools>,
    /// What answers the background tasks of Open WebUI (titles, tags, follow-ups, queries) to an agent. Default: `agent`; `plain` with
    /// `client: openwebui`.
    background_tasks: Option<BackgroundTasks>,
}

/// One key and its rights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Written")]
#[schemars(with = "Written")]
pub struct Key {
    /// A name for it, in logs and `allow` lists.
    pub id: String,
    /// The key itself.
    pub key: Option<Secret>,
    /// The SHA-256 of the key in hexadecimal, in place of `key`.
    pub key_sha256: Option<String>,
    /// The key is refused.
    pub disabled: bool,
    /// What it may do.
    pub rights: Anonymous,
}

/// A client with habits of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Client {
    /// Open WebUI.
    Openwebui,
}

/// Where Open WebUI writes for whom it asks. The defaults are the names that it uses itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// The header with the user's id.
    pub user_header: String,
    /// The header with the conversation's id, which is the session unless `x-session-id` says otherwise.
    pub chat_header: String,
    /// The header with the user's signed token.
    pub jwt_header: String,
    /// What Open WebUI signs users with (its `FORWARD_USER_INFO_HEADER_JWT_SECRET`). Where it is set, only the token is believed,
    /// and a token that is forged or out of date is refused.
    pub jwt_secret: Option<Secret>,
}

impl Default for Identity {
    fn default() -> Self {
        Identity {
            user_header: "x-openwebui-user-id".into(),
            chat_header: "x-openwebui-chat-id".into(),
            jwt_header: "x-openwebui-user-jwt".into(),
            jwt_secret: None,
        }
    }
}

/// How much a key may use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyLimits {
    /// Requests per minute: so many at once, refilled evenly. Default: no limit.
    pub requests_per_minute: Option<u32>,
    /// Tokens per minute. Default: no limit.
    pub tokens_per_minute: Option<u64>,
    /// Requests at once. Default: no limit.
    pub concurrent: Option<u32>,
}
