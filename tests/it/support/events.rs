//! Server-sent events as a client reads them: one by one, or all of a stream folded up.

use serde_json::{Value, json};

use super::client::Live;
use super::wire::{Head, find};

/// One frame of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// The `data:` of an event.
    Data(String),
    /// A comment, such as a ping.
    Comment(String),
    /// Anything else that stood between two empty lines, such as an event with a name.
    Other(String),
}

/// Reads the frames of an answer as they arrive.
pub struct Reader {
    live: Live,
    ahead: Vec<u8>,
    /// Whether the body has ended as it should; known after `next` has returned `None`.
    pub clean: bool,
}

impl Reader {
    /// The frames of this answer.
    pub fn new(live: Live) -> Self {
        Reader { live, ahead: Vec::new(), clean: false }
    }

    /// The next frame; `None` when the body is over, properly or not.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = find(&self.ahead, b"\n\n") {
                let frame: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Some(parse(String::from_utf8(frame).expect("frames are UTF-8").trim_end_matches('\n')));
            }
            match self.live.piece().await {
                Ok(Some(piece)) => self.ahead.extend_from_slice(&piece),
                Ok(None) => {
                    self.clean = true;
                    return None;
                }
                Err(_) => return None,
            }
        }
    }

    /// The next `data:` as JSON, comments passed over.
    pub async fn json(&mut self) -> Option<Value> {
        loop {
            match self.next().await? {
                Frame::Data(data) => return serde_json::from_str(&data).ok(),
                Frame::Comment(_) => {}
                Frame::Other(other) => panic!("a frame of another kind: {other:?}"),
            }
        }
    }
}

fn parse(frame: &str) -> Frame {
    match frame.strip_prefix("data: ") {
        Some(data) if !data.contains('\n') => Frame::Data(data.to_owned()),
        _ => match frame.strip_prefix(':') {
            Some(comment) => Frame::Comment(comment.trim().to_owned()),
            None => Frame::Other(frame.to_owned()),
        },
    }
}

/// A stream that was read to its end.
#[derive(Debug)]
pub struct Streamed {
    /// Start line and headers of the answer.
    pub head: Head,
    /// Every frame.
    pub frames: Vec<Frame>,
    /// Whether the body has ended as it should.
    pub clean: bool,
}

impl Streamed {
    /// Reads to the end.
    pub async fn read(live: Live) -> Self {
        let head = live.head.clone();
        let mut reader = Reader::new(live);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await {
            frames.push(frame);
        }
        Streamed { head, frames, clean: reader.clean }
    }

    /// The `data:` of each event.
    pub fn data(&self) -> Vec<&str> {
        let data = self.frames.iter().filter_map(|frame| match frame {
            Frame::Data(data) => Some(data.as_str()),
            _ => None,
        });
        data.collect()
    }

    /// The chunks: each event but `[DONE]`.
    pub fn chunks(&self) -> Vec<Value> {
        let data = self.data().into_iter().filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|e| panic!("not JSON ({e}): {data}"))).collect()
    }

    /// Whether `[DONE]` was the last event and the body ended as it should.
    pub fn done(&self) -> bool {
        self.clean && self.data().last() == Some(&"[DONE]")
    }

    /// All pieces of the text.
    pub fn text(&self) -> String {
        self.chunks().iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
    }

    /// The tool calls that reached the client, put together, as `(id, name, arguments)`.
    pub fn tool_calls(&self) -> Vec<(String, String, String)> {
        let mut calls: Vec<(String, String, String)> = Vec::new();
        for chunk in self.chunks() {
            for piece in chunk["choices"][0]["delta"]["tool_calls"].as_array().unwrap_or(&Vec::new()) {
                let index = piece["index"].as_u64().expect("a piece of a call has its index") as usize;
                if calls.len() <= index {
                    calls.resize(index + 1, Default::default());
                }
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                calls[index].0 += &text(&piece["id"]);
                calls[index].1 += &text(&piece["function"]["name"]);
                calls[index].2 += &text(&piece["function"]["arguments"]);
            }
        }
        calls
    }

    /// The reason why the choice ended. Fails unless exactly one chunk has one.
    pub fn finish(&self) -> String {
        let finished: Vec<Value> = self.chunks().iter().map(|c| c["choices"][0]["finish_reason"].clone()).collect();
        let reasons: Vec<&str> = finished.iter().filter_map(Value::as_str).collect();
        assert_eq!(reasons.len(), 1, "one chunk says why the choice ended: {finished:?}");
        reasons[0].to_owned()
    }

    /// The error event's `error`.
    pub fn error(&self) -> Option<Value> {
        self.chunks().iter().find_map(|chunk| chunk.get("error").cloned())
    }

    /// Fails unless the stream has the form that OpenAI's has: one id, time and model; the role first and once;
    /// each key that a chunk needs; the reason to end in the last chunk that has choices; `[DONE]` at the end.
    pub fn assert_well_formed(&self, model: &str) {
        let chunks = self.chunks();
        let first = &chunks[0];
        assert!(first["id"].as_str().is_some_and(|id| !id.is_empty()), "an id in {first}");
        assert_eq!(first["choices"][0]["delta"]["role"], "assistant", "the role comes first: {first}");
        for (i, chunk) in chunks.iter().enumerate() {
            assert_eq!(chunk["object"], "chat.completion.chunk", "{chunk}");
            assert_eq!(chunk["id"], first["id"], "one id: {chunk}");
            assert_eq!(chunk["created"], first["created"], "one time: {chunk}");
            assert!(chunk["created"].as_u64().is_some_and(|at| at > 1_600_000_000), "our own time: {chunk}");
            assert_eq!(chunk["model"], model, "the model that was asked for: {chunk}");
            assert!(chunk.get("error").is_none(), "no error: {chunk}");
            for choice in chunk["choices"].as_array().expect("choices") {
                for key in ["delta", "finish_reason", "index"] {
                    assert!(choice.get(key).is_some(), "{key:?} in {chunk}");
                }
                assert!(i == 0 || choice["delta"].get("role").is_none(), "the role comes once: {chunk}");
            }
        }
        let with_choices: Vec<&Value> = chunks.iter().filter(|c| c["choices"] != json!([])).collect();
        let last = with_choices.last().expect("some chunk has choices");
        assert_eq!(last["choices"][0]["delta"], json!({}), "the last delta is empty: {last}");
        assert!(last["choices"][0]["finish_reason"].is_string(), "the last delta says why: {last}");
        self.finish();
        assert!(self.done(), "[DONE] at the end of {:?}", self.frames.last());
    }
}
