//! `hooks`: the scripts of an agent or alias.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::decode::from_map;
use super::duration;

/// A script whose hooks fire: its path, or its path with options.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum HookEntry {
    /// Just the script's path.
    Path(String),
    /// The script's path with options.
    Options(HookOptions),
}

/// By hand: serde's `untagged` would lose where the keys of the options are written.
impl<'de> Deserialize<'de> for HookEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = HookEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a script's path, or a mapping with `script`")
            }

            fn visit_str<E: Error>(self, path: &str) -> Result<HookEntry, E> {
                Ok(HookEntry::Path(path.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<HookEntry, A::Error> {
                from_map(map).map(HookEntry::Options)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl HookEntry {
    /// The script's path, as written.
    pub fn script(&self) -> &str {
        match self {
            HookEntry::Path(path) => path,
            HookEntry::Options(options) => &options.script,
        }
    }
}

/// A script with options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HookOptions {
    /// The script's path.
    pub script: String,
    /// Overrides the defaults in the script's `config` table.
    #[serde(default)]
    pub config: Map<String, Value>,
    /// What a bug of the script does to the run.
    #[serde(default)]
    pub on_error: OnError,
    /// Holds the streamed text back until `post_response` has returned.
    #[serde(default)]
    pub hold: bool,
    /// Lua CPU per hook call.
    #[serde(default = "fifty_ms", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub timeout: Duration,
}

fn fifty_ms() -> Duration {
    Duration::from_millis(50)
}

/// What a bug of a script does to the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The run fails.
    #[default]
    Fail,
    /// The value from before the hook is used.
    Skip,
}
