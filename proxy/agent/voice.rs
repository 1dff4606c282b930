//! Where a run is heard: the pieces of its reply in their order, and, for who wants to see it, what its tools do.

use tokio::sync::mpsc;

use crate::chat::Delta;
use crate::chat::progress::Doing;
use crate::error::{Error, Kind, Result};

/// How many pieces of a reply may wait for a slow client before the model has to.
const EVENTS: usize = 64;

/// What is heard.
#[derive(Debug)]
pub enum Heard {
    /// A piece of the reply.
    Piece(Delta),
    /// A tool begins or has ended, or the run waits.
    Tool(Doing),
}

/// The run's side.
#[derive(Debug, Clone)]
pub struct Voice {
    events: mpsc::Sender<Heard>,
    tells_tools: bool,
}

impl Voice {
    /// A voice, and where it is heard. `tells_tools`: whether the tools are heard as well.
    pub fn new(tells_tools: bool) -> (Voice, mpsc::Receiver<Heard>) {
        let (events, heard) = mpsc::channel(EVENTS);
        (Voice { events, tells_tools }, heard)
    }

    /// Whether somebody wants to see what the tools do.
    pub fn tells_tools(&self) -> bool {
        self.tells_tools
    }

    /// A piece of the reply leaves. `Err` when the client has left.
    pub async fn say(&self, delta: Delta) -> Result<()> {
        self.events.send(Heard::Piece(delta)).await.map_err(|_| Error::new(Kind::ClientGone, "The client left."))
    }

    /// Tells what a tool does, if anybody wants to see it. A client that has left is found out by the next piece.
    pub async fn tell(&self, doing: impl FnOnce() -> Doing) {
        if self.tells_tools {
            let _ = self.events.send(Heard::Tool(doing())).await;
        }
    }
}
