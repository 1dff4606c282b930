//! A response as a run's answer: event by event or whole, and kept for the request that goes on from it.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::events::{Events, OPENING};
use super::items::Items;
use super::kept::{Item, Kept, Responses};
use super::request::Request;
use crate::chat::encoder::Encoder;
use crate::chat::progress::Doing;
use crate::chat::wire::now;
use crate::chat::{Delta, Object, Usage};
use crate::error::Error;

/// Writes one response.
pub struct Response {
    id: String,
    created: u64,
    model: String,
    streamed: bool,
    /// What the response repeats of its request.
    echo: Object,
    items: Items,
    /// Why the reply was cut off.
    cut: Option<&'static str>,
    /// Where the response is kept, for whom, and what was said before it.
    keep: Option<(Arc<Responses>, String, Vec<Arc<Item>>)>,
}

/// An id for a response.
pub fn mint_response_id() -> String {
    format!("resp_{}", Uuid::new_v4().simple())
}

impl Response {
    /// The answer to a request. `server` is who runs the gateway's tools; `kept` and `scope`, where it is kept and for whom.
    pub fn new(id: String, request: &mut Request, server: &str, kept: &Arc<Responses>, scope: &str) -> Response {
        let conversation = std::mem::take(&mut request.conversation);
        let streamed = request.chat.stream;
        Response {
            id,
            created: now(),
            model: request.chat.model.clone(),
            streamed,
            echo: std::mem::take(&mut request.echo),
            items: Items::new(server, streamed),
            cut: None,
            keep: request.store.then(|| (kept.clone(), scope.to_owned(), conversation)),
        }
    }

    /// The response's object, with these fields of this moment.
    fn object(&self, status: &str, output: Vec<Value>, error: Value, usage: Value) -> Value {
        let completed_at = if status == "completed" { json!(now()) } else { Value::Null };
        let mut object = json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status, "completed_at": completed_at,
            "error": error, "incomplete_details": self.cut.map(|reason| json!({ "reason": reason })),
            "model": self.model, "output": output, "usage": usage,
        });
        if let Some(fields) = object.as_object_mut() {
            fields.extend(self.echo.clone());
        }
        object
    }
}

impl Encoder for Response {
    fn opening(&mut self) -> Vec<u8> {
        // It may be asked for when other events wait to leave behind it.
        let mut events = Events::new(true, 0);
        for name in OPENING {
            let response = self.object("in_progress", Vec::new(), Value::Null, Value::Null);
            events.send(name, json!({ "response": response }));
        }
        events.take()
    }

    fn piece(&mut self, piece: &Delta) -> Vec<u8> {
        // There is one choice here.
        if piece.choice == 0 {
            self.items.push(piece);
            self.cut = match piece.finish.as_deref() {
                Some("length") => Some("max_output_tokens"),
                Some("content_filter") => Some("content_filter"),
                _ => self.cut,
            };
        }
        self.items.events.take()
    }

    fn tool(&mut self, doing: &Doing) -> Vec<u8> {
        self.items.tool(doing);
        self.items.events.take()
    }

    /// A client may go on from the response as soon as it has read its end: it is kept before.
    fn end(&mut self, used: &Usage) -> Vec<u8> {
        let status = if self.cut.is_some() { "incomplete" } else { "completed" };
        self.items.finish(status);
        let output = self.items.list();
        let response = self.object(status, output.clone(), Value::Null, usage(used));
        if let Some((kept, scope, mut conversation)) = self.keep.take() {
            conversation.extend(output.into_iter().map(Item::new));
            kept.keep(&scope, &self.id, Kept { response: response.clone(), conversation });
        }
        if !self.streamed {
            return response.to_string().into_bytes();
        }
        self.items.events.send(&format!("response.{status}"), json!({ "response": response }));
        self.items.events.take()
    }

    fn failure(&mut self, error: &Error) -> Vec<u8> {
        let why = json!({ "code": error.kind.code().unwrap_or(error.kind.type_()), "message": error.message });
        let response = self.object("failed", self.items.list(), why, Value::Null);
        self.items.events.send("response.failed", json!({ "response": response }));
        self.items.events.take()
    }
}

fn usage(used: &Usage) -> Value {
    let detail = |list: &str, key: &str| used.details.get(list).and_then(|list| list.get(key)).and_then(Value::as_u64).unwrap_or(0);
    json!({
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": detail("prompt_tokens_details", "cached_tokens"),
            "cache_write_tokens": detail("prompt_tokens_details", "cache_write_tokens"),
        },
        "output_tokens": used.completion_tokens,
        "output_tokens_details": { "reasoning_tokens": detail("completion_tokens_details", "reasoning_tokens") },
        "total_tokens": used.total_tokens,
    })
}
