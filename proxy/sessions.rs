//! Conversations that the gateway remembers: their turns, for whoever holds the key that they began with.
//!
//! A turn is added as a whole when it is over, in one step. Nobody holds a session while a model works: turns of two runs at once both come in, in
//! the order in which they end.

pub mod mark;
mod memory;
pub mod name;
mod replicated;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::chat::Message;
use crate::chat::wire::now;
use crate::config::{self, Document, Fail, Secret};
use crate::error;
use crate::shared::Shared;
use memory::Memory;
use name::Name;
use replicated::Replicated;
use tokio::runtime::Handle;

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
    async fn read(&self, name: &Name) -> error::Result<Vec<Turn>>;

    /// Adds a turn in one step. Whole turns are dropped, the oldest first, as the bounds say.
    async fn append(&self, name: &Name, turn: &Turn, ttl: Duration, bounds: Bounds) -> error::Result<()>;

    /// The sessions of this scope, or of all, the last used first; at most `limit`, those behind the session `after`.
    async fn list(&self, scope: Option<&str>, after: Option<&str>, limit: usize) -> error::Result<Vec<Summary>>;

    /// Forgets a session; whether there was one.
    async fn delete(&self, name: &Name) -> error::Result<bool>;
}

/// The sessions of a snapshot: where they are kept, and within which bounds. What is kept outlives the snapshot.
#[derive(Debug, Clone)]
pub struct Sessions {
    store: Arc<dyn Store>,
    place: Place,
    /// What happens while the store is away.
    fail: Fail,
    bounds: Bounds,
    headers: Arc<[String]>,
}

/// Where sessions are kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// In this process, within so many bytes.
    Memory(usize),
    /// In Redis, written to so many replicas, and waited for so long.
    Redis(Secret, usize, Duration),
}

impl Place {
    /// Where the document wants them: in Redis where it says so, or says where Redis is.
    pub fn of(document: &Document) -> Place {
        let settings = &document.sessions;
        let wanted = settings.store.unwrap_or(if document.redis.is_some() || settings.url.is_some() {
            config::Store::Redis
        } else {
            config::Store::Memory
        });
        let url = settings.url.as_ref().or(document.redis.as_ref().map(|redis| &redis.url));
        match (wanted, url) {
            (config::Store::Redis, Some(url)) => {
                let redis = document.redis.as_ref();
                let replicas = redis.and_then(|redis| redis.wait_replicas).unwrap_or(0);
                Place::Redis(url.clone(), replicas, redis.map_or_else(config::moment, |redis| redis.timeout))
            }
            _ => Place::Memory(usize::try_from(settings.memory).unwrap_or(usize::MAX)),
        }
    }
}

impl Place {
    /// Whether what is kept here is kept there. Another bound of memory holds from the next start on.
    fn is_same(&self, other: &Place) -> bool {
        self == other || matches!((self, other), (Place::Memory(_), Place::Memory(_)))
    }
}

impl Sessions {
    /// The sessions that the document describes; those of `old` live on where they are kept in the same place. Connections are made on
    /// `control`. `Err` says what is wrong with Redis' address.
    pub fn build(document: &Document, old: Option<&Sessions>, control: &Handle) -> Result<Sessions, String> {
        let place = Place::of(document);
        let store: Arc<dyn Store> = match (old.filter(|old| old.place.is_same(&place)), &place) {
            (Some(old), _) => old.store.clone(),
            (None, Place::Memory(bytes)) => Arc::new(Memory::new(*bytes)),
            (None, Place::Redis(url, replicas, timeout)) => {
                Arc::new(Replicated(Arc::new(Shared::build(url.expose(), *replicas, *timeout, control)?)))
            }
        };
        let settings = &document.sessions;
        let bounds =
            Bounds { max_turns: settings.max_turns as usize, max_bytes: usize::try_from(settings.max_bytes).unwrap_or(usize::MAX) };
        let headers = settings.headers.iter().map(|name| name.to_ascii_lowercase()).collect();
        Ok(Sessions { store, place, fail: settings.fail, bounds, headers })
    }

    /// Whether a run goes on without its session while the store is away.
    pub fn fails_open(&self) -> bool {
        self.fail == Fail::Open
    }

    /// The headers, in lower case, in which clients name their session; the first that is there counts.
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    /// The turns of a session, the oldest first.
    pub async fn read(&self, name: &Name) -> error::Result<Vec<Turn>> {
        self.store.read(name).await
    }

    /// Adds a turn, which is kept for `ttl` from now, as is all of its session.
    pub async fn append(&self, name: &Name, turn: &Turn, ttl: Duration) -> error::Result<()> {
        self.store.append(name, turn, ttl, self.bounds).await
    }

    /// The sessions of this scope, or of all, the last used first.
    pub async fn list(&self, scope: Option<&str>, after: Option<&str>, limit: usize) -> error::Result<Vec<Summary>> {
        self.store.list(scope, after, limit).await
    }

    /// Forgets a session; whether there was one.
    pub async fn delete(&self, name: &Name) -> error::Result<bool> {
        self.store.delete(name).await
    }
}
