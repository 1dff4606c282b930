//! `POST /v1/responses` of the demo: text in, text out, whole or as OpenAI's events. Tools are not offered here.

use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{Question, answer, n_prompt_words, pieces};
use super::{Response, field, flag, model, now, streamed, whole};
use crate::error::{Error, Kind, Result};

/// Answers one request.
pub(super) fn respond(body: &Value) -> Result<Response> {
    let model = model(body)?;
    let messages = messages(body)?;
    let answer = answer(&Question { messages: &messages, ..Question::default() });
    let (input, output) = (n_prompt_words(&messages), answer.n_words());
    let said = Said {
        id: format!("resp_{}", Uuid::new_v4().simple()),
        item: format!("msg_{}", Uuid::new_v4().simple()),
        created: now(),
        instructions: body.get("instructions").cloned().unwrap_or_default(),
        metadata: field(body, "metadata").cloned().unwrap_or_else(|| json!({})),
        model: model.id,
        text: answer.text,
        usage: json!({
            "input_tokens": input, "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": output, "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": input + output,
        }),
    };
    Ok(if flag(body, "stream")? { streamed(said.events(), model.pause) } else { whole(&said.response(true)) })
}

/// The request's input as chat messages, which is what the answer is made from.
fn messages(body: &Value) -> Result<Vec<Value>> {
    let mut messages = Vec::new();
    if let Some(instructions) = field(body, "instructions") {
        messages.push(json!({ "role": "system", "content": instructions }));
    }
    match field(body, "input") {
        None => return Err(Error::new(Kind::MissingParameter, "Missing required parameter: `input`.").param("input")),
        Some(Value::String(text)) => messages.push(json!({ "role": "user", "content": text })),
        // Items that are no messages (calls, reasoning) say nothing to this model.
        Some(Value::Array(items)) => messages.extend(items.iter().filter(|item| item.get("role").is_some()).cloned()),
        Some(_) => return Err(Error::new(Kind::InvalidType, "`input` must be a string or an array.").param("input")),
    }
    Ok(messages)
}

/// An answer on its way out.
struct Said {
    id: String,
    item: String,
    created: u64,
    instructions: Value,
    metadata: Value,
    model: &'static str,
    text: String,
    usage: Value,
}

impl Said {
    fn response(&self, complete: bool) -> Value {
        let (output, usage) = if complete { (json!([self.message("completed")]), &self.usage) } else { (json!([]), &Value::Null) };
        json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": if complete { "completed" } else { "in_progress" },
            "error": null, "incomplete_details": null, "instructions": self.instructions, "max_output_tokens": null, "metadata": self.metadata,
            "model": self.model, "output": output, "parallel_tool_calls": true, "previous_response_id": null,
            "reasoning": { "effort": null, "summary": null }, "store": false, "temperature": null, "text": { "format": { "type": "text" } },
            "tool_choice": "auto", "tools": [], "top_p": null, "truncation": "disabled", "usage": usage, "user": null,
        })
    }

    fn message(&self, status: &str) -> Value {
        let content = if status == "completed" { json!([part(&self.text)]) } else { json!([]) };
        json!({ "id": self.item, "type": "message", "status": status, "role": "assistant", "content": content })
    }

    /// Every event of the stream, as it goes over the wire.
    fn events(&self) -> Vec<String> {
        let mut events = Vec::new();
        let mut send = |name: &str, fields: Value| {
            let mut event = json!({ "type": name, "sequence_number": events.len() });
            if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
                event.extend(fields);
            }
            events.push(format!("event: {name}\ndata: {event}\n\n"));
        };
        let at = |mut fields: Value| {
            fields["item_id"] = json!(self.item);
            fields["output_index"] = json!(0);
            fields["content_index"] = json!(0);
            fields
        };
        send("response.created", json!({ "response": self.response(false) }));
        send("response.in_progress", json!({ "response": self.response(false) }));
        send("response.output_item.added", json!({ "output_index": 0, "item": self.message("in_progress") }));
        send("response.content_part.added", at(json!({ "part": part("") })));
        for piece in pieces(&self.text) {
            send("response.output_text.delta", at(json!({ "delta": piece, "logprobs": [] })));
        }
        send("response.output_text.done", at(json!({ "text": self.text, "logprobs": [] })));
        send("response.content_part.done", at(json!({ "part": part(&self.text) })));
        send("response.output_item.done", json!({ "output_index": 0, "item": self.message("completed") }));
        send("response.completed", json!({ "response": self.response(true) }));
        events
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [] })
}
