//! Conversations that the gateway remembers: their turns, for whoever holds the key that they began with.
//!
//! A turn is added as a whole when it is over, in one step. Nobody holds a session while a model works: turns of two runs at once both come in, in
//! the order in which they end.

pub mod mark;
mod memory;
pub mod name;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::chat::Message;
use crate::chat::wire::now;
use crate::config::document;
use crate::error::Result;
use memory::Memory;
use name::Name;

/// One turn: what the client said, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// The client's own messages.
    pub input: Vec<Message>,
    /// The model's messages and its tools' results, as the next turn gets them.
    pub said: Vec<Message>,
    /// What the conversation looks like to the client after this turn, by which it is found again; none where the gateway keeps the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// The client left before the end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancelled: bool,
}

impl Turn {
    /// A turn that ends now.
    pub fn new(input: Vec<Message>, said: Vec<Message>) -> Turn {
        Turn { at: now(), input, said, mark: None, cancelled: false }
    }
}

/// What there is to know of a session without its turns.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The id that the client chose.
    pub id: String,
    /// The id of the key that it is kept for; empty where there are no keys.
    pub key: String,
    /// When the last turn ended, in seconds since 1970.
    pub updated_at: u64,
    /// How many turns it has.
    pub turns: usize,
    /// How much it takes, in bytes.
    pub bytes: usize,
}

/// How much of one session is kept.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most turns.
    pub max_turns: usize,
    /// The most bytes.
    pub max_bytes: usize,
}

/// Where sessions are kept.
#[async_trait]
trait Store: std::fmt::Debug + Send + Sync {
    /// The turns of a session, the oldest first; none where there is no such session.
    async fn read(&self, name: &Name) -> Result<Vec<Turn>>;

    /// Adds a turn in one step. Whole turns are dropped, the oldest first, as the bounds say.
    async fn append(&self, name: &Name, turn: &Turn, ttl: Duration, bounds: Bounds) -> Result<()>;

    /// The sessions of this scope, or of all, the last used first; at most `limit`, those behind the session `after`.
    async fn list(&self, scope: Option<&str>, after: Option<&str>, limit: usize) -> Result<Vec<Summary>>;

    /// Forgets a session; whether there was one.
    async fn delete(&self, name: &Name) -> Result<bool>;
}

/// The sessions of a snapshot: where they are kept, and within which bounds. What is kept outlives the snapshot.
#[derive(Debug, Clone)]
pub struct Sessions {
    store: Arc<dyn Store>,
    bounds: Bounds,
    headers: Arc<[String]>,
}

impl Sessions {
    /// The sessions that the document describes; those of `old` live on.
    pub fn build(settings: &document::Sessions, old: Option<&Sessions>) -> Sessions {
        let max_bytes = usize::try_from(settings.memory).unwrap_or(usize::MAX);
        let store = old.map_or_else(|| Arc::new(Memory::new(max_bytes)) as Arc<dyn Store>, |old| old.store.clone());
        let bounds = Bounds {
            max_turns: settings.max_turns.max(1) as usize,
            max_bytes: usize::try_from(settings.max_bytes).unwrap_or(usize::MAX).min(max_bytes),
        };
        let headers = settings.headers.iter().map(|name| name.to_ascii_lowercase()).collect();
        Sessions { store, bounds, headers }
    }

    /// The headers, in lower case, in which clients name their session; the first that is there counts.
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    /// The turns of a session, the oldest first.
    pub async fn read(&self, name: &Name) -> Result<Vec<Turn>> {
        self.store.read(name).await
    }

    /// Adds a turn, which is kept for `ttl` from now, as is all of its session.
    pub async fn append(&self, name: &Name, turn: &Turn, ttl: Duration) -> Result<()> {
        self.store.append(name, turn, ttl, self.bounds).await
    }

    /// The sessions of this scope, or of all, the last used first.
    pub async fn list(&self, scope: Option<&str>, after: Option<&str>, limit: usize) -> Result<Vec<Summary>> {
        self.store.list(scope, after, limit).await
    }

    /// Forgets a session; whether there was one.
    pub async fn delete(&self, name: &Name) -> Result<bool> {
        self.store.delete(name).await
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions::build(&document::Sessions::default(), None)
    }
}
