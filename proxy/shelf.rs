//! Things that are kept for a while and within a bound of memory: what is too old goes, and of too much what nobody used for longest.

use std::hash::Hash;
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

/// What one thing takes beside what it says itself, in bytes.
const OVERHEAD: usize = 128;

/// Things by key.
#[derive(Debug)]
pub struct Shelf<K: Hash + Eq, V> {
    entries: LruCache<K, Entry<V>>,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    bytes: usize,
    ends: Instant,
}

impl<K: Hash + Eq, V> Shelf<K, V> {
    /// A shelf for so many bytes.
    pub fn new(max_bytes: usize) -> Self {
        Shelf { entries: LruCache::unbounded(), bytes: 0, max_bytes }
    }

    /// Puts a thing of so many bytes there for so long, in the place of the one under this key.
    pub fn put(&mut self, key: K, value: V, bytes: usize, ttl: Duration) {
        let bytes = bytes + OVERHEAD;
        let ends = Instant::now() + ttl;
        self.bytes += bytes;
        if let Some(replaced) = self.entries.put(key, Entry { value, bytes, ends }) {
            self.bytes -= replaced.bytes;
        }
        self.shrink();
    }

    /// The thing under this key, which is thereby used.
    pub fn get<Q>(&mut self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        if self.entries.peek(key).is_some_and(Entry::is_over) {
            self.remove(key);
        }
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Takes the thing under this key away.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let entry = self.entries.pop(key)?;
        self.bytes -= entry.bytes;
        (!entry.is_over()).then_some(entry.value)
    }

    /// All things that are there, the last used first.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().filter(|(_, entry)| !entry.is_over()).map(|(key, entry)| (key, &entry.value))
    }

    /// What everything takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn shrink(&mut self) {
        while self.entries.peek_lru().is_some_and(|(_, oldest)| self.bytes > self.max_bytes || oldest.is_over()) {
            self.bytes -= self.entries.pop_lru().map_or(0, |(_, oldest)| oldest.bytes);
        }
    }
}

impl<V> Entry<V> {
    fn is_over(&self) -> bool {
        self.ends <= Instant::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_is_old_or_too_much_goes() {
        let mut shelf = Shelf::new(3 * (OVERHEAD + 10));
        for key in ["a", "b", "c"] {
            shelf.put(key, key, 10, MINUTE);
        }
        shelf.get("a");
        shelf.put("d", "d", 10, 2 * MINUTE);
        assert_eq!(["a", "b", "c", "d"].map(|key| shelf.get(key).is_some()), [true, false, true, true]);
        tokio::time::advance(MINUTE).await;
        assert_eq!(shelf.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["d"]);
        assert_eq!(shelf.get("a"), None);
        assert_eq!(shelf.remove("d"), Some("d"));
        assert_eq!(shelf.remove("d"), None);
        shelf.put("e", "e", 10, MINUTE);
        shelf.put("e", "f", 20, MINUTE);
        assert_eq!(shelf.get("e"), Some(&"f"));
        assert_eq!(shelf.bytes(), OVERHEAD + 20);
        shelf.put("g", "g", 4 * (OVERHEAD + 10), MINUTE);
        assert_eq!(shelf.get("g"), None, "what is too much by itself");
        assert_eq!(shelf.bytes(), 0);
    }
}
