//! The events of one response's stream, numbered as they are sent.

use serde_json::{Value, json};

use crate::chat::sse;

/// What every stream begins with.
pub(super) const OPENING: [&str; 2] = ["response.created", "response.in_progress"];

/// Events that wait to leave. Of a response that is not streamed there are none.
#[derive(Debug)]
pub(super) struct Events {
    streamed: bool,
    next: usize,
    bytes: Vec<u8>,
}

impl Events {
    /// Events numbered from `first` on.
    pub(super) fn new(streamed: bool, first: usize) -> Events {
        Events { streamed, next: first, bytes: Vec::new() }
    }

    /// Sends one, its name and its number put before its fields.
    pub(super) fn send(&mut self, name: &str, fields: Value) {
        if !self.streamed {
            return;
        }
        let mut event = json!({ "type": name, "sequence_number": self.next });
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
            event.extend(fields);
        }
        self.next += 1;
        self.bytes.extend(sse::encode_named(name, &event));
    }

    /// What has gathered since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
