//! Where a run is heard: the pieces of its reply in their order, and, for who wants to see it, what its tools do.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::chat::Delta;
use crate::chat::progress::Doing;
use crate::error::{Error, Kind, Result};

/// How many pieces of a reply may wait for a slow client before the model has to.
const EVENTS: usize = 64;

/// How often it is told that a model is still being loaded.
const LOADING: Duration = Duration::from_secs(5);

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

    /// Waits for an answer of a model that has to be loaded first, and tells from time to time for how long.
    pub async fn while_loads<T>(&self, model: &str, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let began = Instant::now();
        let telling = async {
            loop {
                self.tell(|| Doing::Loads(model.to_owned(), began.elapsed().as_secs())).await;
                tokio::time::sleep(LOADING).await;
            }
        };
        let answer = tokio::select! {
            // A load is told of even when it takes no time.
            biased;
            never = telling => never,
            answer = answer => answer?,
        };
        self.tell(|| Doing::Loaded(model.to_owned())).await;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_load_is_told_until_it_is_over() {
        let (voice, mut heard) = Voice::new(true);
        let answer = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            Ok("answer")
        };
        assert_eq!(voice.while_loads("m", answer).await.unwrap(), "answer");
        drop(voice);
        let mut told = Vec::new();
        while let Some(Heard::Tool(doing)) = heard.recv().await {
            told.push(doing);
        }
        assert_eq!(told, [Doing::Loads("m".into(), 0), Doing::Loads("m".into(), 5), Doing::Loaded("m".into())]);
    }
}
