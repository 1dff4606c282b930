//! Turns in which a model asked for the gateway's and the client's tools at once: our half is kept until the client's results come.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::chat::{Message, ToolCall};
use crate::responses::ITEM_OF_OURS;
use crate::shelf::Shelf;

/// How long our half of a turn is kept.
const KEPT_FOR: Duration = Duration::from_secs(3600);

/// How much is kept, in bytes; beyond it the oldest turns go.
const MAX_BYTES: usize = 64 << 20;

/// Our halves of turns, by the caller's key and the id of a client's call.
#[derive(Debug)]
pub struct Turns(Mutex<Shelf<(String, String), Arc<Half>>>);

impl Default for Turns {
    fn default() -> Self {
        Turns(Mutex::new(Shelf::new(MAX_BYTES)))
    }
}

/// The gateway's calls of one turn and what came of them.
#[derive(Debug, Clone, PartialEq)]
pub struct Half {
    /// All calls of the turn, the client's too, as the model asked for them.
    pub calls: Vec<ToolCall>,
    /// The results of ours, one `tool` message for each.
    pub results: Vec<Message>,
}

impl Half {
    /// About how much memory it takes.
    fn size(&self) -> usize {
        let calls = self.calls.iter().map(|call| call.arguments.len() + call.name.len());
        calls.chain(self.results.iter().map(|result| result.words().len())).map(|bytes| bytes + 200).sum()
    }
}

impl Turns {
    /// Keeps our half of a turn for the request that brings the results of `theirs`.
    pub fn keep(&self, caller: &str, theirs: &[ToolCall], ours: Half) {
        let (bytes, ours) = (ours.size(), Arc::new(ours));
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for call in theirs {
            shelf.put((caller.to_owned(), call.id.clone()), ours.clone(), bytes, KEPT_FOR);
        }
    }

    /// The conversation with our halves put back where they belong. What is no longer known is left as the client sent it.
    pub fn restore(&self, caller: &str, messages: Vec<Message>) -> Vec<Message> {
        let mut restored = Vec::with_capacity(messages.len());
        for mut message in messages {
            let half = self.find(caller, &message).filter(|half| !is_brought(&restored, half));
            if let Some(half) = &half {
                message.0.insert("tool_calls".into(), half.calls.iter().map(ToolCall::to_value).collect());
            }
            restored.push(message);
            restored.extend(half.into_iter().flat_map(|half| half.results.clone()));
        }
        restored
    }

    fn find(&self, caller: &str, message: &Message) -> Option<Arc<Half>> {
        let calls = message.0.get("tool_calls")?.as_array()?;
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().find_map(|call| {
            let id = call.get("id")?.as_str()?.to_owned();
            shelf.get(&(caller.to_owned(), id)).cloned()
        })
    }
}

/// Whether the client has brought our results back itself: a response has them as items of their own, which stand before this message.
fn is_brought(before: &[Message], half: &Half) -> bool {
    let last = before.last().filter(|message| is_item(message));
    last.is_some_and(|message| half.results.last().is_some_and(|result| result.words() == message.words()))
}

fn is_item(message: &Message) -> bool {
    message.0.get("tool_call_id").and_then(|id| id.as_str()).is_some_and(|id| id.starts_with(ITEM_OF_OURS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> ToolCall {
        ToolCall { id: id.into(), name: "f".into(), arguments: "{}".into() }
    }

    fn conversation() -> Vec<Message> {
        vec![Message::text("user", "hi"), Message::asking("", &[call("theirs")]), Message::tool("theirs", "1")]
    }

    fn kept() -> Turns {
        let turns = Turns::default();
        turns.keep("key", &[call("theirs")], Half { calls: vec![call("ours"), call("theirs")], results: vec![Message::tool("ours", "2")] });
        turns
    }

    #[tokio::test(start_paused = true)]
    async fn our_half_returns_to_its_place() {
        let restored = kept().restore("key", conversation());
        assert_eq!(
            restored,
            [
                Message::text("user", "hi"),
                Message::asking("", &[call("ours"), call("theirs")]),
                Message::tool("ours", "2"),
                Message::tool("theirs", "1"),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_client_brought_back_stays_as_it_is() {
        let item = |result: &str| {
            let mut conversation = conversation();
            conversation.insert(1, Message::asking("", &[call("mcp_1")]));
            conversation.insert(2, Message::tool("mcp_1", result));
            conversation
        };
        assert_eq!(kept().restore("key", item("2")), item("2"));
        assert_eq!(kept().restore("key", item("an earlier turn's")).len(), item("").len() + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn another_caller_sees_nothing_and_an_hour_is_the_end() {
        let turns = kept();
        assert_eq!(turns.restore("other", conversation()), conversation());
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(turns.restore("key", conversation()), conversation());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded() {
        let turns = Turns::default();
        let large = || Half { calls: vec![call("ours")], results: vec![Message::tool("ours", "x".repeat(MAX_BYTES / 2))] };
        for id in ["a", "b", "c"] {
            turns.keep("key", &[call(id)], large());
        }
        let found = |id: &str| turns.find("key", &Message::asking("", &[call(id)])).is_some();
        assert!(!found("a") && !found("b") && found("c"));
        tokio::time::advance(KEPT_FOR).await;
        turns.keep("key", &[call("d")], Half { calls: vec![], results: vec![] });
        assert_eq!(turns.0.lock().unwrap().iter().count(), 1);
    }
}
