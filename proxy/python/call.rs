//! One call that a worker is busy with: its events come in order, its asks are answered, and dropping it cancels it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::sync::mpsc;

use super::frames::{Answer, Order, Piece, Trouble, What};
use super::worker::Line;
use crate::chat::Object;

/// How many bytes of text may wait to be read. Code that asks models is slowed down by their answers; only text that code makes up runs ahead.
const MAX_UNREAD: usize = 8 << 20;

/// What a call says.
#[derive(Debug)]
pub enum Event {
    /// A piece of the reply.
    Piece(Piece),
    /// The code needs something; answered through `Asks`.
    Ask(u64, What),
    /// The answer to that ask is no longer wanted.
    Forget(u64),
    /// It is over. Nothing follows.
    Ended(Outcome),
}

/// How a call ended.
#[derive(Debug)]
pub enum Outcome {
    /// Well, with this result.
    Result(Object),
    /// The code failed.
    Failed(Trouble),
    /// The worker ended in the middle of it; how.
    Lost(String),
}

/// A call in flight.
pub struct Call {
    line: Arc<Line>,
    id: u64,
    inbox: mpsc::UnboundedReceiver<Event>,
    unread: Arc<AtomicUsize>,
    has_ended: bool,
}

/// Where the worker's side of a call leaves its events.
pub(super) struct Inbox {
    events: mpsc::UnboundedSender<Event>,
    unread: Arc<AtomicUsize>,
}

/// Where asks are answered.
#[derive(Clone)]
pub struct Asks(Arc<Line>);

impl Call {
    pub(super) fn new(line: Arc<Line>, id: u64) -> (Call, Inbox) {
        let (events, inbox) = mpsc::unbounded_channel();
        let unread = Arc::new(AtomicUsize::new(0));
        (Call { line, id, inbox, unread: unread.clone(), has_ended: false }, Inbox { events, unread })
    }

    /// What happens next. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Event {
        let event = self.inbox.recv().await;
        // Whoever drops an inbox says why first.
        let event = event.unwrap_or_else(|| Event::Ended(Outcome::Lost("its worker ended".to_owned())));
        match &event {
            Event::Piece(piece) => _ = self.unread.fetch_sub(piece.len(), Ordering::Relaxed),
            Event::Ended(_) => self.has_ended = true,
            _ => {}
        }
        event
    }

    /// Where its asks are answered.
    pub fn asks(&self) -> Asks {
        Asks(self.line.clone())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.has_ended {
            self.line.cancel(self.id);
        }
    }
}

impl Inbox {
    /// Leaves an event. `Err` when too much waits to be read.
    pub(super) fn put(&self, event: Event) -> Result<(), ()> {
        if let Event::Piece(piece) = &event {
            let unread = self.unread.fetch_add(piece.len(), Ordering::Relaxed);
            if unread > MAX_UNREAD {
                return Err(());
            }
        }
        // A call that was dropped reads nothing more.
        let _ = self.events.send(event);
        Ok(())
    }
}

impl Asks {
    /// A piece of a model's answer.
    pub async fn chunk(&self, ask: u64, data: &str) {
        self.0.send(&Order::Chunk { ask, data }).await;
    }

    /// A model's answer is complete.
    pub async fn done(&self, ask: u64) {
        self.0.send(&Order::Done { ask }).await;
    }

    /// A model's answer failed with this status, and OpenAI's error object.
    pub async fn failed(&self, ask: u64, status: u16, error: &Value) {
        self.0.send(&Order::Failed { ask, status, error }).await;
    }

    /// What a tool, or the hooks around one, said.
    pub async fn answer(&self, ask: u64, answer: &Answer) {
        self.0.send(&Order::Answer { ask, answer }).await;
    }
}

impl Piece {
    fn len(&self) -> usize {
        [&self.content, &self.reasoning, &self.refusal].into_iter().flatten().map(String::len).sum()
    }
}
