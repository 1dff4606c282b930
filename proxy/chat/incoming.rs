//! A server's answer as its bytes come: events or a whole completion, whatever its header says. However they are split, the reply is the same.

mod calls;
mod decoder;
mod failure;
mod spelling;
mod thought;
mod usage;

use std::collections::VecDeque;

use serde_json::Value;

pub use decoder::{Decoder, Frame, Mending};
pub use failure::{of_body, refused_credentials};
pub use usage::read as read_usage;

use super::sse;
use crate::error::{Error, Kind, Result};

/// The largest whole answer of a server that does not stream, in bytes.
const MAX_WHOLE_BYTES: usize = 32 << 20;

/// How the lines of an event may begin.
const EVENT_FIELDS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];

/// Reads one answer.
#[derive(Debug)]
pub struct Reader {
    says_events: bool,
    form: Form,
    decoder: Decoder,
    /// The answer is over, and what follows is not read.
    over: bool,
}

/// What the body turned out to be.
#[derive(Debug)]
enum Form {
    /// So little was read that it cannot be told.
    Unknown(Vec<u8>),
    Events(sse::Decoder),
    Whole(Vec<u8>),
}

impl Reader {
    /// A reader for one answer with this `content-type`.
    pub fn new(content_type: &str, mending: Mending) -> Reader {
        let says_events = content_type.trim_start().to_ascii_lowercase().starts_with("text/event-stream");
        Reader { says_events, form: Form::Unknown(Vec::new()), decoder: Decoder::new(mending), over: false }
    }

    /// Takes the next bytes. The frames before an error are good.
    pub fn feed(&mut self, bytes: &[u8], frames: &mut VecDeque<Frame>) -> Result<()> {
        match &mut self.form {
            _ if self.over => Ok(()),
            Form::Unknown(held) => {
                held.extend_from_slice(bytes);
                let Some(form) = tell(held, self.says_events) else { return Ok(()) };
                let held = std::mem::take(held);
                self.form = form;
                self.feed(&held, frames)
            }
            Form::Events(events) => {
                let mut read = Vec::new();
                let fed = events.feed(bytes, &mut read);
                self.decode(read, frames)?;
                self.forgive(fed)
            }
            Form::Whole(body) if body.len() + bytes.len() > MAX_WHOLE_BYTES => {
                Err(Error::new(Kind::UpstreamError, "The upstream's answer is too large."))
            }
            Form::Whole(body) => {
                body.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// The bytes have ended. That is the reply's end only if the reply said so.
    pub fn finish(&mut self, frames: &mut VecDeque<Frame>) -> Result<()> {
        if self.over {
            return Ok(());
        }
        match std::mem::replace(&mut self.form, Form::Unknown(Vec::new())) {
            Form::Events(mut events) => {
                let mut read = Vec::new();
                let fed = events.finish(&mut read);
                self.decode(read, frames)?;
                self.forgive(fed)?;
            }
            Form::Unknown(body) | Form::Whole(body) => self.whole(&body, frames)?,
        }
        if !self.over && !self.decoder.is_complete() {
            if !self.decoder.has_begun() {
                return Err(empty());
            }
            return Err(Error::new(Kind::UpstreamError, "The upstream ended its answer early."));
        }
        self.end(frames);
        Ok(())
    }

    /// Whether the reply has ended, although bytes may follow.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the reply said that it ends: nothing that matters is lost when no more comes.
    pub fn is_complete(&self) -> bool {
        self.over || self.decoder.is_complete()
    }

    fn decode(&mut self, events: Vec<sse::Event>, frames: &mut VecDeque<Frame>) -> Result<()> {
        for event in events {
            if self.over {
                return Ok(());
            }
            if event.data.trim() == "[DONE]" {
                self.end(frames);
            } else if event.name.as_deref() == Some("error") {
                return Err(failure::of_event(&event.data));
            } else {
                match decoder::parse(&event.data) {
                    Ok(chunk) => frames.push_back(self.decoder.decode(chunk)?),
                    Err(error) => self.forgive(Err(error))?,
                }
            }
        }
        Ok(())
    }

    /// Behind a complete reply, what cannot be read is its end.
    fn forgive(&mut self, outcome: Result<()>) -> Result<()> {
        if outcome.is_err() && self.decoder.is_complete() {
            self.over = true;
            return Ok(());
        }
        outcome
    }

    fn end(&mut self, frames: &mut VecDeque<Frame>) {
        self.over = true;
        let last = self.decoder.finish();
        if !last.deltas.is_empty() {
            frames.push_back(last);
        }
    }

    /// A body that did not look like events: a completion, or else lines of JSON.
    fn whole(&mut self, body: &[u8], frames: &mut VecDeque<Frame>) -> Result<()> {
        let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body).trim_ascii();
        if body.is_empty() {
            return Err(empty());
        }
        let Ok(completion) = serde_json::from_slice::<Value>(body) else {
            let (mut lines, mut read) = (sse::Decoder::default(), Vec::new());
            let fed = lines.feed(body, &mut read).and_then(|()| lines.finish(&mut read));
            if read.is_empty() {
                return Err(not_an_answer());
            }
            self.decode(read, frames)?;
            return self.forgive(fed);
        };
        let Value::Object(completion) = completion else { return Err(not_an_answer()) };
        let has_choices = completion.contains_key("choices");
        let frame = self.decoder.decode(completion)?;
        if !has_choices {
            return Err(not_an_answer());
        }
        if frame.deltas.is_empty() {
            return Err(empty());
        }
        frames.push_back(frame);
        self.end(frames);
        Ok(())
    }
}

/// What a body is, by its first bytes. A server that says it sends events is believed, unless an object or a page begins.
fn tell(body: &[u8], says_events: bool) -> Option<Form> {
    const MARK: &[u8] = "\u{feff}".as_bytes();
    if body.len() < MARK.len() && MARK.starts_with(body) {
        return None;
    }
    let begin = body.strip_prefix(MARK).unwrap_or(body).trim_ascii_start();
    let first = begin.first()?;
    let whole = || Some(Form::Whole(Vec::new()));
    let events = || Some(Form::Events(sse::Decoder::default()));
    if matches!(first, b'{' | b'[' | b'<') {
        return whole();
    }
    if says_events || EVENT_FIELDS.iter().any(|field| begin.starts_with(field)) {
        return events();
    }
    // Half the name of a field may be anything yet.
    if EVENT_FIELDS.iter().any(|field| field.starts_with(begin)) { None } else { whole() }
}

/// The model said nothing.
pub fn empty() -> Error {
    Error::new(Kind::UpstreamEmpty, "The model ended its answer without a word.")
}

fn not_an_answer() -> Error {
    Error::new(Kind::UpstreamError, "The upstream's answer is not a chat completion.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Prompt, Reply};
    use crate::config::Repair;

    /// What is read of these pieces: the reply, and the error that ends it.
    fn read(content_type: &str, pieces: &[&[u8]]) -> (Reply, Option<String>) {
        let mut reader = Reader::new(content_type, Mending::new(&Repair::default(), &Prompt::default()));
        let mut frames = VecDeque::new();
        let fed = pieces.iter().try_for_each(|piece| reader.feed(piece, &mut frames)).and_then(|()| reader.finish(&mut frames));
        let mut reply = Reply::default();
        frames.iter().flat_map(|frame| &frame.deltas).for_each(|delta| reply.push(delta));
        (reply, fed.err().map(|error| error.message))
    }

    #[test]
    fn any_split_gives_the_same_reply() {
        let chunk = |delta: &str| format!("data: {{\"choices\":[{{\"delta\":{delta}}}]}}\n\n");
        let end = "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}\r\n\r\n";
        let said = chunk(r#"{"content":"<think>h"}"#) + &chunk(r#"{"content":"m</think>\u00e4"}"#);
        let call = chunk(r#"{"tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}"#);
        for (body, text, error) in [
            (format!("\u{feff}: hi\n\n{said}{end}data: [DONE]\n\n"), Some("\u{e4}"), false),
            (format!("{said}{end}"), Some("\u{e4}"), false),
            (format!("{said}{end}data: {{\n\n"), Some("\u{e4}"), false),
            (format!("{said}data: [DONE]\n\n"), Some("\u{e4}"), false),
            (said.clone(), Some("\u{e4}"), true),
            (format!("{said}event: error\ndata: gone\n\n{end}"), Some("\u{e4}"), true),
            ("\n{\"choices\":[{\"message\":{\"content\":\"\u{e4}\"}}]}\n".into(), Some("\u{e4}"), false),
            (format!("{}{end}", said.replace("data: ", "")), Some("\u{e4}"), false),
            (format!("{call}{end}"), None, false),
            ("<html>\n<p>data: x</p>\n</html>".into(), None, true),
            ("{\"error\":\"gone\"}\n\ndata: [DONE]\n\n".into(), None, true),
            ("da".into(), None, true),
            (" \n".into(), None, true),
        ] {
            for content_type in ["text/event-stream; charset=utf-8", "application/json", ""] {
                let whole = read(content_type, &[body.as_bytes()]);
                let content = whole.0.first().and_then(|choice| choice.content.as_deref());
                assert_eq!((content, whole.1.is_some()), (text, error), "{content_type} {body:?} {whole:?}");
                let bytes: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
                let (mut one_by_one, mut wanted) = (read(content_type, &bytes), whole);
                forget_ids(&mut wanted.0);
                forget_ids(&mut one_by_one.0);
                assert_eq!(one_by_one, wanted, "{content_type} {body:?}");
                for at in 0..body.len() {
                    let (before, after) = body.as_bytes().split_at(at);
                    let mut two = read(content_type, &[before, after]);
                    forget_ids(&mut two.0);
                    assert_eq!(two, wanted, "{content_type} {body:?} {at}");
                }
            }
        }
    }

    /// Whatever comes, it is read or refused: nothing panics, and an answer that says nothing is an error.
    #[test]
    fn no_garbage_brings_the_reader_down() {
        let body = concat!(
            r#"data: {"choices":[{"index":0,"delta":{"content":"<think>h</think>x","reasoning":{"text":"t"},"tool_calls":[{"index":0,"id":"a","#,
            r#""function":{"name":"f","arguments":"{\"a\":"}}]}}],"usage":{"prompt_tokens":1}}"#,
            "\n\nevent: x\ndata: ",
            r#"{"choices":[{"delta":{"content":[{"type":"text","text":"y"}],"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":1}"}}]},"#,
            r#""finish_reason":"stop"}]}"#,
            "\n\ndata: [DONE]\n\n"
        );
        let tokens: [&[u8]; 12] =
            [b"null", b"{}", b"[]", b"-1", b"1e999", b"\"\"", b"\xff", b"\0", b"\n\n", b"<think>", b"99999999999999999999", b"\\ud800"];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        for _ in 0..20_000 {
            let mut bytes = body.as_bytes().to_vec();
            for _ in 0..=random(4) {
                let (from, length) = (random(bytes.len()), random(12));
                let token = tokens[random(tokens.len())];
                let to = (from + length).min(bytes.len());
                bytes.splice(from..to, token.iter().copied());
            }
            let at = random(bytes.len());
            let content_type = ["text/event-stream", "application/json"][random(2)];
            let (reply, error) = read(content_type, &[&bytes[..at], &bytes[at..]]);
            assert!(error.is_some() || !reply.choices.is_empty() || bytes.windows(6).any(|six| six == b"[DONE]"), "{bytes:?}");
        }
    }

    fn forget_ids(reply: &mut Reply) {
        reply.choices.iter_mut().flat_map(|choice| &mut choice.calls).for_each(|(_, call)| call.id.clear());
    }
}
