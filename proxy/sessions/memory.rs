//! Sessions in this process, within a bound of memory.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::name::Name;
use super::{Bounds, Store, Summary, Turn};
use crate::error::Result;
use crate::metrics::METRICS;
use crate::shelf::Shelf;

/// What one turn takes beside its JSON, in bytes.
const OVERHEAD: usize = 48;

/// The sessions.
#[derive(Debug)]
pub(super) struct Memory(Mutex<Shelf<Name, Session>>);

#[derive(Debug, Clone, Default)]
struct Session {
    /// As JSON: as values they would take many times the memory that is counted.
    turns: VecDeque<Box<str>>,
    bytes: usize,
    updated_at: u64,
}

impl Memory {
    /// For sessions of so many bytes in all.
    pub(super) fn new(max_bytes: usize) -> Memory {
        Memory(Mutex::new(Shelf::new(max_bytes)))
    }

    fn lock(&self) -> MutexGuard<'_, Shelf<Name, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    /// Drops the oldest turns until the bounds hold; how many.
    fn trim(&mut self, bounds: Bounds) -> usize {
        let before = self.turns.len();
        while self.turns.len() > bounds.max_turns || self.bytes > bounds.max_bytes {
            let Some(oldest) = self.turns.pop_front() else { break };
            self.bytes -= oldest.len() + OVERHEAD;
        }
        before - self.turns.len()
    }
}

#[async_trait]
impl Store for Memory {
    async fn read(&self, name: &Name) -> Result<Vec<Turn>> {
        let turns = self.lock().get(name).map(|session| session.turns.clone()).unwrap_or_default();
        // They were turns when they were put here.
        Ok(turns.iter().filter_map(|turn| serde_json::from_str(turn).ok()).collect())
    }

    async fn append(&self, name: &Name, turn: &Turn, ttl: Duration, bounds: Bounds) -> Result<()> {
        let text = serde_json::to_string(turn).unwrap_or_default().into_boxed_str();
        let mut shelf = self.lock();
        let mut session = shelf.remove(name).unwrap_or_default();
        session.bytes += text.len() + OVERHEAD;
        session.turns.push_back(text);
        session.updated_at = turn.at;
        let n_dropped = session.trim(bounds);
        if n_dropped > 0 {
            tracing::debug!(session = name.id, "{n_dropped} of the oldest turns are forgotten");
        }
        let bytes = session.bytes + name.id.len() + name.scope.len();
        shelf.put(name.clone(), session, bytes, ttl);
        METRICS.session_bytes.set(i64::try_from(shelf.bytes()).unwrap_or(i64::MAX));
        Ok(())
    }

    async fn list(&self, scope: Option<&str>, after: Option<&str>, limit: usize) -> Result<Vec<Summary>> {
        let shelf = self.lock();
        let mut all = shelf.iter().filter(|(name, _)| scope.is_none_or(|scope| name.scope == scope));
        if let Some(after) = after {
            all.by_ref().find(|(name, _)| name.id == after);
        }
        Ok(all.take(limit).map(|(name, session)| summary(name, session)).collect())
    }

    async fn delete(&self, name: &Name) -> Result<bool> {
        Ok(self.lock().remove(name).is_some())
    }
}

fn summary(name: &Name, session: &Session) -> Summary {
    Summary {
        id: name.id.clone(),
        key: name.scope.clone(),
        updated_at: session.updated_at,
        turns: session.turns.len(),
        bytes: session.bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;

    const BOUNDS: Bounds = Bounds { max_turns: 3, max_bytes: 10_000 };
    const HOUR: Duration = Duration::from_secs(3600);

    fn turn(text: &str) -> Turn {
        Turn::new(vec![Message::text("user", text)], vec![Message::text("assistant", format!("re {text}"))])
    }

    fn said(turns: &[Turn]) -> Vec<String> {
        turns.iter().map(|turn| turn.input[0].words()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_back_in_order_and_the_oldest_go_first() {
        let (memory, name) = (Memory::new(1 << 20), Name::new("k", "s"));
        for text in ["a", "b", "c", "d"] {
            memory.append(&name, &turn(text), HOUR, BOUNDS).await.unwrap();
        }
        assert_eq!(said(&memory.read(&name).await.unwrap()), ["b", "c", "d"]);
        memory.append(&name, &turn(&"x".repeat(4000)), HOUR, BOUNDS).await.unwrap();
        memory.append(&name, &turn("e"), HOUR, BOUNDS).await.unwrap();
        assert_eq!(memory.read(&name).await.unwrap().len(), 3);
        memory.append(&name, &turn(&"y".repeat(20_000)), HOUR, BOUNDS).await.unwrap();
        assert_eq!(memory.read(&name).await.unwrap(), [], "a turn over the bound is not kept, nor what it would not follow from");
        assert!(memory.read(&Name::new("other", "s")).await.unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_lives_from_its_last_turn_on() {
        let (memory, name) = (Memory::new(1 << 20), Name::new("k", "s"));
        memory.append(&name, &turn("a"), HOUR, BOUNDS).await.unwrap();
        tokio::time::advance(HOUR / 2).await;
        memory.append(&name, &turn("b"), HOUR, BOUNDS).await.unwrap();
        tokio::time::advance(HOUR / 2).await;
        assert_eq!(memory.read(&name).await.unwrap().len(), 2);
        tokio::time::advance(HOUR / 2).await;
        assert!(memory.read(&name).await.unwrap().is_empty());
        assert_eq!(memory.lock().bytes(), 0);
    }

    #[tokio::test]
    async fn sessions_are_listed_page_by_page() {
        let memory = Memory::new(1 << 20);
        for (scope, id) in [("k", "1"), ("l", "2"), ("k", "3"), ("k", "4")] {
            memory.append(&Name::new(scope, id), &turn("a"), HOUR, BOUNDS).await.unwrap();
        }
        let ids = async |scope, after, limit| -> Vec<String> {
            memory.list(scope, after, limit).await.unwrap().into_iter().map(|summary| summary.id).collect()
        };
        assert_eq!(ids(None, None, 10).await, ["4", "3", "2", "1"]);
        assert_eq!(ids(Some("k"), None, 2).await, ["4", "3"]);
        assert_eq!(ids(Some("k"), Some("3"), 2).await, ["1"]);
        assert!(memory.delete(&Name::new("k", "3")).await.unwrap() && !memory.delete(&Name::new("k", "3")).await.unwrap());
        assert_eq!(ids(Some("k"), None, 10).await, ["4", "1"]);
    }
}
