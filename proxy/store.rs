//! What scripts keep beyond a run: values by key, with an optional end of life, bounded in memory.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use serde_json::Value;
use tokio::time::Instant;

use crate::chat::Object;

/// How much is kept, in bytes of JSON; beyond it what was not used for longest goes.
const MAX_BYTES: usize = 64 << 20;

/// The longest key, in bytes.
pub const MAX_KEY: usize = 512;

/// The largest value, in bytes of JSON.
pub const MAX_VALUE: usize = 1 << 20;

/// What one entry costs beside its key and value, in bytes.
const OVERHEAD: usize = 128;

/// Values by key. All operations are atomic.
#[derive(Debug)]
pub struct Store(Mutex<Shelf>);

#[derive(Debug)]
struct Shelf {
    entries: LruCache<String, Entry>,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry {
    /// The value as JSON: as a value it would take many times the memory that is counted.
    text: Box<str>,
    bytes: usize,
    ends: Option<Instant>,
}

impl Default for Store {
    fn default() -> Self {
        Store::bounded(MAX_BYTES)
    }
}

impl Store {
    fn bounded(max_bytes: usize) -> Store {
        Store(Mutex::new(Shelf { entries: LruCache::unbounded(), bytes: 0, max_bytes }))
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<Value> {
        let text = self.lock().live(key).map(|entry| entry.text.clone());
        text.map(|text| parsed(&text))
    }

    /// Puts `value` under `key`, for `ttl` or for good. `Err` is a sentence for whoever wrote the call.
    pub fn set(&self, key: &str, value: Value, ttl: Option<Duration>) -> Result<(), String> {
        self.lock().put(key, value, ends(ttl))
    }

    /// Removes `key`; whether it was there.
    pub fn delete(&self, key: &str) -> bool {
        let mut shelf = self.lock();
        let was_there = shelf.live(key).is_some();
        shelf.remove(key);
        was_there
    }

    /// Adds `by` to the number under `key` and returns the sum. An absent one counts as 0 and gets `ttl`; a present one keeps its own.
    pub fn incr(&self, key: &str, by: f64, ttl: Option<Duration>) -> Result<f64, String> {
        let mut shelf = self.lock();
        let (before, ends) = match shelf.live(key) {
            None => (0.0, ends(ttl)),
            Some(entry) => match parsed(&entry.text).as_f64() {
                Some(number) => (number, entry.ends),
                None => return Err(format!("the value under `{key}` is no number")),
            },
        };
        let sum = before + by;
        let number = serde_json::Number::from_f64(sum).ok_or_else(|| format!("the sum under `{key}` would be {sum}"))?;
        shelf.put(key, Value::Number(number), ends)?;
        Ok(sum)
    }

    /// How long `key` lives on: `None` when it is absent, `Some(None)` when for good.
    pub fn ttl(&self, key: &str) -> Option<Option<Duration>> {
        let now = Instant::now();
        self.lock().live(key).map(|entry| entry.ends.map(|ends| ends - now))
    }

    /// Puts `new` under `key` if what is there equals `old` (`None`: nothing is there); a null `new` removes it. Whether it did.
    pub fn cas(&self, key: &str, old: Option<&Value>, new: Value, ttl: Option<Duration>) -> Result<bool, String> {
        let mut shelf = self.lock();
        let same = match (shelf.live(key), old) {
            (None, None) => true,
            (Some(entry), Some(old)) => equal(&parsed(&entry.text), old),
            _ => false,
        };
        if same {
            match new {
                Value::Null => shelf.remove(key),
                new => shelf.put(key, new, ends(ttl))?,
            }
        }
        Ok(same)
    }

    /// Carries out what a script asks for: `{ op, key, value, by, old, ttl }`. `Err` is a sentence for its author.
    pub fn operate(&self, mut request: Object) -> Result<Value, String> {
        let key = request.get("key").and_then(Value::as_str).unwrap_or_default().to_owned();
        let ttl = match request.get("ttl") {
            None | Some(Value::Null) => None,
            Some(ttl) => {
                let ttl = ttl.as_f64().and_then(|ttl| Duration::try_from_secs_f64(ttl).ok()).filter(|ttl| !ttl.is_zero());
                Some(ttl.ok_or("`ttl` is a number of seconds above 0")?)
            }
        };
        let value = request.shift_remove("value").unwrap_or_default();
        match request.get("op").and_then(Value::as_str) {
            Some("get") => Ok(self.get(&key).unwrap_or_default()),
            Some("set") if value.is_null() => {
                self.delete(&key);
                Ok(true.into())
            }
            Some("set") => self.set(&key, value, ttl).map(|()| true.into()),
            Some("incr") => {
                let by = request.get("by").and_then(Value::as_f64).ok_or("`by` is a number")?;
                self.incr(&key, by, ttl).map(Value::from)
            }
            Some("ttl") => Ok(match self.ttl(&key) {
                None => Value::Null,
                Some(None) => false.into(),
                Some(Some(left)) => left.as_secs_f64().into(),
            }),
            Some("cas") => {
                let old = request.get("old").filter(|old| !old.is_null());
                self.cas(&key, old, value, ttl).map(Value::from)
            }
            op => Err(format!("there is no operation {}", op.unwrap_or_default())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf {
    /// The entry, if its time is not over.
    fn live(&mut self, key: &str) -> Option<&Entry> {
        let over = self.entries.peek(key).is_some_and(|entry| entry.ends.is_some_and(|ends| ends <= Instant::now()));
        if over {
            self.remove(key);
        }
        self.entries.get(key)
    }

    fn put(&mut self, key: &str, value: Value, ends: Option<Instant>) -> Result<(), String> {
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(format!("a key has 1 to {MAX_KEY} bytes, and this one {}", key.len()));
        }
        let text = value.to_string().into_boxed_str();
        let size = text.len();
        if size > MAX_VALUE {
            return Err(format!("a value has at most {MAX_VALUE} bytes as JSON, and this one {size}"));
        }
        self.remove(key);
        let bytes = size + key.len() + OVERHEAD;
        self.bytes += bytes;
        self.entries.put(key.to_owned(), Entry { text, bytes, ends });
        while self.bytes > self.max_bytes {
            let Some((_, oldest)) = self.entries.pop_lru() else { break };
            self.bytes -= oldest.bytes;
        }
        Ok(())
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.pop(key) {
            self.bytes -= entry.bytes;
        }
    }
}

fn ends(ttl: Option<Duration>) -> Option<Instant> {
    ttl.and_then(|ttl| Instant::now().checked_add(ttl))
}

/// What was a value when it was put here.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// Scripts have one kind of number: 1 and 1.0 are the same to them.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| equal(value, other)))
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MINUTE: Option<Duration> = Some(Duration::from_secs(60));

    #[tokio::test(start_paused = true)]
    async fn a_value_lives_as_long_as_it_was_told_to() {
        let store = Store::default();
        store.set("a", json!([1]), MINUTE).unwrap();
        store.set("b", json!(1), None).unwrap();
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!((store.get("a"), store.ttl("a")), (Some(json!([1])), Some(Some(Duration::from_secs(1)))));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((store.get("a"), store.ttl("a"), store.ttl("b")), (None, None, Some(None)));
        assert!(store.delete("b") && !store.delete("b"));
        assert_eq!(store.lock().bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_counter_keeps_the_end_that_it_began_with() {
        let store = Store::default();
        assert_eq!(store.incr("n", 1.0, MINUTE), Ok(1.0));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(store.incr("n", 2.0, MINUTE), Ok(3.0));
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(store.incr("n", 1.0, None), Ok(1.0));
        store.set("t", json!("text"), None).unwrap();
        assert!(store.incr("t", 1.0, None).is_err() && store.incr("n", f64::INFINITY, None).is_err());
    }

    #[tokio::test]
    async fn a_swap_needs_what_is_there() {
        let store = Store::default();
        assert_eq!(store.cas("k", Some(&json!(1)), json!(2), None), Ok(false));
        assert_eq!(store.cas("k", None, json!({ "n": 1 }), None), Ok(true));
        assert_eq!(store.cas("k", None, json!(3), None), Ok(false));
        assert_eq!(store.cas("k", Some(&json!({ "n": 1.0 })), json!(3), None), Ok(true));
        assert_eq!(store.get("k"), Some(json!(3)));
    }

    #[tokio::test]
    async fn what_was_not_used_for_longest_goes_when_there_is_too_much() {
        let store = Store::bounded(3 * (OVERHEAD + 3));
        for key in ["a", "b", "c"] {
            store.set(key, json!(10), None).unwrap();
        }
        store.get("a");
        store.set("d", json!(10), None).unwrap();
        let there = ["a", "b", "c", "d"].map(|key| store.get(key).is_some());
        assert_eq!(there, [true, false, true, true]);
    }

    /// A list of small numbers takes sixteen times its JSON as a value: what is kept is its JSON.
    #[tokio::test]
    async fn what_is_kept_is_what_is_counted() {
        let store = Store::default();
        let list = Value::Array(vec![json!(1); 100_000]);
        store.set("k", list.clone(), None).unwrap();
        let shelf = store.lock();
        let entry = shelf.entries.peek("k").unwrap();
        assert_eq!((size_of_val(&*entry.text), entry.bytes), (200_001, 200_001 + 1 + OVERHEAD));
        drop(shelf);
        assert_eq!(store.get("k"), Some(list));
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused() {
        let store = Store::default();
        assert!(store.set(&"k".repeat(MAX_KEY + 1), json!(1), None).unwrap_err().contains("512"));
        assert!(store.set("", json!(1), None).is_err());
        assert!(store.set("k", json!("x".repeat(MAX_VALUE)), None).is_err());
        assert_eq!(store.get("k"), None);
    }
}
