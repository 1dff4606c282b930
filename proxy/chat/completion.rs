//! Chat completions as a run's answer: chunk by chunk, or folded up into one.

use super::encoder::Encoder;
use super::progress::{Doing, Form, Shown};
use super::request::ChatRequest;
use super::wire::Envelope;
use super::{Delta, Reply, Usage, sse};
use crate::error::Error;

/// Writes one completion.
pub struct Completion {
    envelope: Envelope,
    streamed: bool,
    /// How the client of a stream is shown what the tools do.
    form: Option<Form>,
    /// The pieces so far, of a whole answer.
    reply: Reply,
    /// The choices above the first whose role has left.
    opened: Vec<u32>,
}

impl Completion {
    /// The answer to a request. `form` is for streams alone.
    pub fn new(id: String, request: &ChatRequest, form: Option<Form>) -> Completion {
        let include_usage = request.stream && request.include_usage;
        let envelope = Envelope { include_usage, ..Envelope::new(id, &request.model) };
        Completion { envelope, streamed: request.stream, form, reply: Reply::default(), opened: Vec::new() }
    }
}

impl Encoder for Completion {
    fn opening(&mut self) -> Vec<u8> {
        sse::encode(&self.envelope.opening(0))
    }

    /// The role leaves before the first piece of each further choice; the first choice's is the opening.
    fn piece(&mut self, piece: &Delta) -> Vec<u8> {
        if !self.streamed {
            self.reply.push(piece);
            return Vec::new();
        }
        let mut bytes = Vec::new();
        if piece.choice != 0 && !self.opened.contains(&piece.choice) {
            self.opened.push(piece.choice);
            bytes = sse::encode(&self.envelope.opening(piece.choice));
        }
        bytes.extend(sse::encode(&self.envelope.piece(piece)));
        bytes
    }

    fn tool(&mut self, doing: &Doing) -> Vec<u8> {
        let Some(form) = self.form else { return Vec::new() };
        let chunks = form.show(doing).into_iter().map(|shown| match shown {
            Shown::Event(event) => self.envelope.event(&event),
            Shown::Piece(piece) => self.envelope.piece(&piece),
        });
        chunks.flat_map(|chunk| sse::encode(&chunk)).collect()
    }

    fn end(&mut self, usage: &Usage) -> Vec<u8> {
        if !self.streamed {
            self.reply.usage = usage.clone();
            return self.envelope.completion(&self.reply).to_string().into_bytes();
        }
        let mut bytes = Vec::new();
        if self.envelope.include_usage {
            bytes = sse::encode(&self.envelope.usage(usage));
        }
        bytes.extend_from_slice(sse::DONE);
        bytes
    }

    /// No `[DONE]`: clients read an error, and none takes the part for the whole.
    fn failure(&mut self, error: &Error) -> Vec<u8> {
        sse::encode(&error.body())
    }
}
