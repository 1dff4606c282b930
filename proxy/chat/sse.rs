//! Server-sent events in both directions: bytes to the data of each event, and a JSON value to an event.

use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// The longest event that is taken from an upstream, in bytes.
pub const MAX_EVENT_BYTES: usize = 4 << 20;

/// The end of every stream that went well.
pub const DONE: &[u8] = b"data: [DONE]\n\n";

/// A comment that clients skip: it shows that the connection lives while tools run.
pub const PING: &[u8] = b": ping\n\n";

/// Cuts a stream of bytes into events. However the bytes are split, the events are the same.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    data: Option<String>,
    name: Option<String>,
    skip_newline: bool,
    begun: bool,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The `event:` field; absent in most OpenAI streams.
    pub name: Option<String>,
    /// The `data:` lines, joined.
    pub data: String,
}

impl Decoder {
    /// Takes the next bytes and appends the events that they complete to `events`.
    /// An event over `MAX_EVENT_BYTES`, or one that is not UTF-8, is an error of the upstream's.
    pub fn feed(&mut self, mut bytes: &[u8], events: &mut Vec<Event>) -> Result<()> {
        if self.skip_newline && !bytes.is_empty() {
            self.skip_newline = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            self.extend(&bytes[..end])?;
            let carriage_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            if carriage_return {
                match bytes.first() {
                    Some(b'\n') => bytes = &bytes[1..],
                    Some(_) => {}
                    None => self.skip_newline = true,
                }
            }
            self.end_line(events)?;
        }
        self.extend(bytes)
    }

    /// The bytes have ended: an event whose blank line never came counts, if its line had ended or not.
    pub fn finish(&mut self, events: &mut Vec<Event>) -> Result<()> {
        if !self.line.is_empty() {
            self.end_line(events)?;
        }
        self.dispatch(events);
        Ok(())
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<()> {
        let held = self.line.len() + self.data.as_ref().map_or(0, String::len);
        if held + bytes.len() > MAX_EVENT_BYTES {
            return Err(Error::new(Kind::UpstreamError, "the upstream sent an event that is too large"));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let line = std::mem::take(&mut self.line);
        let mut line =
            std::str::from_utf8(&line).map_err(|e| Error::new(Kind::UpstreamError, "the upstream's stream is not UTF-8").source(e))?;
        if !self.begun {
            self.begun = true;
            line = line.strip_prefix('\u{feff}').unwrap_or(line);
        }
        if line.is_empty() {
            self.dispatch(events);
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "event" => self.name = Some(value.to_owned()),
            // A bare JSON line is no event; some servers report a failure so, or send nothing else.
            _ if line.starts_with('{') => {
                self.dispatch(events);
                events.push(Event { name: None, data: line.to_owned() });
            }
            _ => {}
        }
        Ok(())
    }

    fn dispatch(&mut self, events: &mut Vec<Event>) {
        let name = self.name.take();
        if let Some(data) = self.data.take() {
            events.push(Event { name, data });
        }
    }
}

/// `data: {...}` and a blank line.
pub fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(b"data: ");
    // A `Value` or a derived struct with string keys always serializes; if it ever did not, the client would read an empty event.
    let _ = serde_json::to_writer(&mut bytes, value);
    bytes.extend_from_slice(b"\n\n");
    bytes
}

/// The same with the event's name before it.
pub fn encode_named(name: &str, value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(b"event: ");
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'\n');
    bytes.extend(encode(value));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Vec<String> {
        let (mut decoder, mut events) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.feed(piece, &mut events).unwrap();
        }
        decoder.finish(&mut events).unwrap();
        events.into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn any_split_gives_the_same_events() {
        let text = "\u{feff}: hi\r\ndata: {\"a\":\"\u{e4}\"}\r\n\r\nevent: x\ndata: b\ndata: c\n\ndata:[DONE]\r\r".as_bytes();
        let whole = decode(&[text]);
        assert_eq!(whole, ["{\"a\":\"\u{e4}\"}", "b\nc", "[DONE]"]);
        for first in 0..text.len() {
            for second in first..text.len() {
                assert_eq!(decode(&[&text[..first], &text[first..second], &text[second..]]), whole, "{first} {second}");
            }
        }
    }

    #[test]
    fn the_last_event_needs_no_blank_line() {
        assert_eq!(decode(&[b"data: a\n\ndata: b"]), ["a", "b"]);
    }

    #[test]
    fn a_bare_json_line_is_an_event() {
        assert_eq!(decode(&[b"{\"error\":\"x\"}\n"]), ["{\"error\":\"x\"}"]);
    }

    #[test]
    fn an_endless_line_is_refused() {
        let (mut decoder, mut events) = (Decoder::default(), Vec::new());
        let piece = vec![b'a'; 1 << 20];
        let outcome = (0..5).try_for_each(|_| decoder.feed(&piece, &mut events));
        assert_eq!(outcome.unwrap_err().kind, Kind::UpstreamError);
    }

    #[test]
    fn encodes_one_event() {
        assert_eq!(encode(&serde_json::json!({"a": 1})), b"data: {\"a\":1}\n\n");
    }
}
