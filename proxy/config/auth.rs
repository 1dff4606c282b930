//! `auth`: who may use the gateway, and how much.

use globset::Glob;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::agent::{BackgroundTasks, ClientTools, Progress};
use super::expiry::Expiry;
use super::limits::Limits;
use super::secret::Secret;

/// Who may use the gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// The keys. Without any, everybody on this machine may use everything.
    pub keys: Vec<Key>,
    /// What callers may do while there are no keys.
    pub anonymous: Option<Anonymous>,
    /// What becomes of an address from which wrong keys come.
    pub failed_attempts: FailedAttempts,
}

/// What becomes of an address from which wrong keys come: after so many it is told to wait, whatever key it brings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FailedAttempts {
    /// How many requests with a wrong key may come per minute; 0 is no limit.
    pub per_minute: u32,
    /// Networks that are never told to wait: a proxy has everybody's address. Default: this machine itself.
    pub exempt: Vec<String>,
}

impl Default for FailedAttempts {
    fn default() -> Self {
        FailedAttempts { per_minute: 60, exempt: vec!["127.0.0.0/8".into(), "::1/128".into()] }
    }
}

/// Whether this item of a list of names means `name`: it is the name, or a pattern (`web*`) that it fits.
pub fn means(item: &str, name: &str) -> bool {
    let is_pattern = item.contains(['*', '?', '[', '{']);
    item == name || (is_pattern && Glob::new(item).is_ok_and(|glob| glob.compile_matcher().is_match(name)))
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
            /// The key is refused from this day or instant on: `2027-01-31`, `2027-01-31T18:00:00Z`. Default: never.
            expires: Option<Expiry>,
            $($(#[$attribute])* #[serde(default)] $field: $type,)*
        }

        impl From<Written> for Key {
            fn from(written: Written) -> Self {
                let Written { id, key, key_sha256, disabled, expires, $($field,)* } = written;
                Key { id, key, key_sha256, disabled, expires, rights: Anonymous { $($field,)* } }
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
    limits: Limits,
    /// How much each of its users may use, as far as it is trusted to say who they are.
    user_limits: Limits,
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
    /// When it begins to be refused.
    pub expires: Option<Expiry>,
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
