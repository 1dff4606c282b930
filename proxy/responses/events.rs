//! The events of one response's stream, numbered as they are sent.

use serde_json::{Value, json};

use crate::chat::sse;

/// Events that wait to leave. Of a response that is not streamed there are none.
#[derive(Debug)]
pub(super) struct Events {
    streamed: bool,
    next: u64,
    bytes: Vec<u8>,
}

impl Events {
    pub(super) fn new(streamed: bool) -> Events {
        Events { streamed, next: 0, bytes: Vec::new() }
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
