//! Responses that clients may go on from, for a day and within a bound; each caller sees its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lru::LruCache;
use serde_json::Value;
use tokio::time::Instant;

/// How long a response is kept.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// How much is kept, in bytes; beyond it go the responses that nobody has used for longest.
const MAX_BYTES: usize = 64 << 20;

/// What an item takes besides its JSON, in bytes.
const OVERHEAD: usize = 200;

/// One item of a conversation. Responses of one conversation share them.
#[derive(Debug)]
pub struct Item {
    /// The item as the client sent it, or got it.
    pub value: Value,
    bytes: usize,
}

impl Item {
    /// An item with its size.
    pub fn new(value: Value) -> Arc<Item> {
        let bytes = size(&value);
        Arc::new(Item { value, bytes })
    }
}

/// One response and the conversation up to it.
#[derive(Debug)]
pub struct Kept {
    /// The response as the client got it.
    pub response: Value,
    /// Everything that was said, the response's own items at the end.
    pub conversation: Vec<Arc<Item>>,
}

/// The responses that are kept.
#[derive(Debug, Default)]
pub struct Responses(Mutex<Shelf>);

#[derive(Debug)]
struct Shelf {
    entries: LruCache<String, Entry>,
    /// Which response an item of the gateway's own is from.
    items: HashMap<String, String>,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    scope: String,
    at: Instant,
    bytes: usize,
    kept: Arc<Kept>,
}

impl Default for Shelf {
    fn default() -> Self {
        Shelf { entries: LruCache::unbounded(), items: HashMap::new(), bytes: 0, max_bytes: MAX_BYTES }
    }
}

impl Shelf {
    fn put(&mut self, id: String, entry: Entry) {
        self.remove(&id);
        for item in output_ids(&entry.kept.response) {
            self.items.insert(item.to_owned(), id.clone());
        }
        self.bytes += entry.bytes;
        self.entries.put(id, entry);
        while let Some((oldest, entry)) = self.entries.peek_lru() {
            if self.bytes <= self.max_bytes && entry.at.elapsed() < KEPT_FOR {
                break;
            }
            let oldest = oldest.clone();
            self.remove(&oldest);
        }
    }

    fn get(&mut self, scope: &str, id: &str) -> Option<Arc<Kept>> {
        let entry = self.entries.peek(id).filter(|entry| entry.scope == scope)?;
        if entry.at.elapsed() >= KEPT_FOR {
            self.remove(id);
            return None;
        }
        self.entries.get(id).map(|entry| entry.kept.clone())
    }

    fn remove(&mut self, id: &str) {
        let Some(entry) = self.entries.pop(id) else { return };
        self.bytes -= entry.bytes;
        for item in output_ids(&entry.kept.response) {
            self.items.remove(item);
        }
    }
}

impl Responses {
    /// Keeps a response for `scope`.
    pub fn keep(&self, scope: &str, id: &str, kept: Kept) {
        let bytes = size(&kept.response) + kept.conversation.iter().map(|item| item.bytes).sum::<usize>();
        let entry = Entry { scope: scope.to_owned(), at: Instant::now(), bytes, kept: Arc::new(kept) };
        self.lock().put(id.to_owned(), entry);
    }

    /// The response with this id. Another caller's is as unknown as one that never was.
    pub fn find(&self, scope: &str, id: &str) -> Option<Arc<Kept>> {
        self.lock().get(scope, id)
    }

    /// The item with this id, out of any response of the caller's.
    pub fn item(&self, scope: &str, id: &str) -> Option<Arc<Item>> {
        let mut shelf = self.lock();
        let response = shelf.items.get(id)?.clone();
        let kept = shelf.get(scope, &response)?;
        kept.conversation.iter().rfind(|item| item.value["id"] == id).cloned()
    }

    /// Forgets a response. `false` when there is none for this caller.
    pub fn remove(&self, scope: &str, id: &str) -> bool {
        let mut shelf = self.lock();
        let known = shelf.get(scope, id).is_some();
        if known {
            shelf.remove(id);
        }
        known
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn output_ids(response: &Value) -> impl Iterator<Item = &str> {
    response["output"].as_array().into_iter().flatten().filter_map(|item| item["id"].as_str())
}

/// About how much memory a value takes.
fn size(value: &Value) -> usize {
    struct Counter(usize);
    impl std::io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut counter = Counter(OVERHEAD);
    // Neither a counter nor a `Value` can fail.
    let _ = serde_json::to_writer(&mut counter, value);
    counter.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn response(text: &str) -> Kept {
        let item = json!({ "id": format!("msg_{}", &text[..1]), "type": "message", "text": text });
        Kept { response: json!({ "output": [item] }), conversation: vec![Item::new(item)] }
    }

    #[tokio::test(start_paused = true)]
    async fn each_caller_finds_its_own_for_a_day() {
        let responses = Responses::default();
        responses.keep("key", "a", response("a"));
        assert!(responses.find("key", "a").is_some() && responses.find("other", "a").is_none());
        assert!(responses.item("key", "msg_a").is_some() && responses.item("other", "msg_a").is_none());
        assert!(!responses.remove("other", "a") && responses.find("key", "a").is_some());
        tokio::time::advance(KEPT_FOR).await;
        assert!(responses.find("key", "a").is_none() && responses.item("key", "msg_a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_removed_leaves_nothing() {
        let responses = Responses::default();
        responses.keep("key", "a", response("a"));
        assert!(responses.remove("key", "a") && !responses.remove("key", "a"));
        let shelf = responses.lock();
        assert!(shelf.items.is_empty() && shelf.bytes == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_is_bounded_and_the_least_used_goes() {
        let responses = Responses::default();
        responses.lock().max_bytes = 10_000;
        // The text stands in the response and in the conversation.
        let large = |name: &str| response(&format!("{name}{}", "x".repeat(2_000)));
        responses.keep("key", "a", large("a"));
        responses.keep("key", "b", large("b"));
        assert!(responses.find("key", "a").is_some());
        responses.keep("key", "c", large("c"));
        let found = |id: &str| responses.find("key", id).is_some();
        assert!(found("a") && !found("b") && found("c"));
        responses.keep("key", "d", response(&"x".repeat(10_000)));
        assert!(!found("a") && !found("c") && !found("d"), "what is larger than all room is not kept");
    }
}
