//! The usage that a plain answer tells at its end, read from its last bytes as they pass; the answer itself is not touched.

use memchr::memmem;
use serde_json::{Deserializer, Value};

use crate::chat::Usage;
use crate::chat::incoming;

/// How much of the end is kept, in bytes.
const KEPT: usize = 16 << 10;

/// How an answer names what it used.
const NAME: &[u8] = b"\"usage\"";

/// The end of an answer, and how long it was.
#[derive(Debug, Default)]
pub struct Tail {
    end: Vec<u8>,
    bytes: u64,
    events: u64,
}

impl Tail {
    /// The next bytes of the answer.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.events += memmem::find_iter(piece, b"data: {").count() as u64;
        let fresh = &piece[piece.len().saturating_sub(KEPT)..];
        let over = (self.end.len() + fresh.len()).saturating_sub(2 * KEPT);
        if over > 0 {
            // Moved seldom, not with every piece.
            self.end.drain(..self.end.len().saturating_sub(KEPT));
        }
        self.end.extend_from_slice(fresh);
    }

    /// What the server says that was used: the last usage that is an object. A text that a model wrote is no such thing: its quotes are escaped.
    pub fn usage(&self) -> Option<Usage> {
        let places: Vec<usize> = memmem::find_iter(&self.end, NAME).collect();
        places.into_iter().rev().find_map(|at| {
            let is_escaped = at > 0 && self.end[at - 1] == b'\\';
            let value = self.end[at + NAME.len()..].trim_ascii_start().strip_prefix(b":").filter(|_| !is_escaped)?;
            let usage = Deserializer::from_slice(value).into_iter::<Value>().next()?.ok()?;
            incoming::read_usage(usage)
        })
    }

    /// Whether it came as a stream of events.
    pub fn is_stream(&self) -> bool {
        self.events > 1
    }

    /// About how many tokens the answer has, where the server does not say: a streamed event has about one, and four bytes of text are one.
    pub fn estimate(&self) -> u64 {
        if self.is_stream() { self.events } else { self.bytes / 4 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(answer: &str) -> Option<u64> {
        // Whatever the pieces, the same.
        let mut totals: Vec<Option<u64>> = Vec::new();
        for size in [1, 7, 1000, usize::MAX] {
            let mut tail = Tail::default();
            answer.as_bytes().chunks(size.min(answer.len().max(1))).for_each(|piece| tail.push(piece));
            totals.push(tail.usage().map(|usage| usage.prompt_tokens + usage.completion_tokens));
        }
        totals.dedup();
        assert_eq!(totals.len(), 1, "{answer}");
        totals[0]
    }

    #[test]
    fn the_last_usage_counts() {
        assert_eq!(total(r#"{"choices":[],"usage":{"prompt_tokens":2,"completion_tokens":3}}"#), Some(5));
        assert_eq!(
            total("data: {\"usage\": null}\n\ndata: {\"usage\" : {\"prompt_tokens\":2,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n"),
            Some(5)
        );
        assert_eq!(total(r#"data: {"response":{"usage":{"input_tokens":7,"output_tokens":1,"total_tokens":8}}}"#), Some(8));
        assert_eq!(
            total(r#"{"usage":{"prompt_tokens":1},"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9}"}}]}"#),
            Some(1)
        );
        assert_eq!(total(r#"{"usage":{"prompt_tok"#), None);
        assert_eq!(total(""), None);
        let long = format!(r#"{{"choices":["{}"],"usage":{{"prompt_tokens":4}}}}"#, "x".repeat(100_000));
        assert_eq!(total(&long), Some(4));
    }

    #[test]
    fn what_nobody_tells_is_estimated() {
        let mut tail = Tail::default();
        tail.push(b"data: {}\n\ndata: {}\n\ndata: [DONE]\n\n");
        assert!(tail.is_stream() && tail.estimate() == 2);
        let mut tail = Tail::default();
        tail.push(&[b'x'; 400]);
        assert!(!tail.is_stream() && tail.estimate() == 100);
    }

    #[test]
    fn little_is_kept() {
        let mut tail = Tail::default();
        for _ in 0..1000 {
            tail.push(&[b'x'; 1000]);
            assert!(tail.end.len() <= 2 * KEPT);
        }
        tail.push(&vec![b'x'; 1 << 20]);
        assert!(tail.end.len() <= 2 * KEPT);
    }
}
