//! OpenAI's chunks and completions, written as the specification wants them.

use serde_json::{Map, Value, json};

use super::{CallDelta, Delta, Reply, Usage};

/// An id for a completion.
pub fn mint_completion_id() -> String {
    format!("chatcmpl-{}", uuid::Uuid::now_v7().simple())
}

/// Seconds since 1970.
pub fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// An id for a call to which the upstream gave none.
pub fn mint_call_id() -> String {
    format!("call_{}", uuid::Uuid::new_v4().simple())
}

/// What stands in every chunk and in the whole completion alike.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// `chatcmpl-...`, one for the run.
    pub id: String,
    /// Seconds since 1970, one for the run.
    pub created: u64,
    /// The model as the client named it.
    pub model: String,
    /// Whether the stream ends with a chunk of usage; every other chunk then has `usage: null`.
    pub include_usage: bool,
}

impl Envelope {
    /// One of now, without usage in its stream.
    pub fn new(id: String, model: &str) -> Envelope {
        Envelope { id, created: now(), model: model.to_owned(), include_usage: false }
    }

    /// The chunk that opens a choice.
    pub fn opening(&self, choice: u32) -> Value {
        self.chunk(choice, json!({ "role": "assistant", "content": "" }), None, None)
    }

    /// The chunk for one piece of the reply.
    pub fn piece(&self, delta: &Delta) -> Value {
        let mut fields = Map::new();
        let mut put = |key: &str, text: &Option<String>| {
            if let Some(text) = text {
                fields.insert(key.to_owned(), Value::from(text.as_str()));
            }
        };
        put("content", &delta.content);
        put("reasoning_content", &delta.reasoning);
        put("refusal", &delta.refusal);
        if !delta.calls.is_empty() {
            fields.insert("tool_calls".into(), delta.calls.iter().map(call_chunk).collect());
        }
        fields.extend(delta.rest.clone());
        self.chunk(delta.choice, fields.into(), delta.finish.as_deref(), delta.logprobs.as_ref())
    }

    /// A chunk that is no piece of the reply: Open WebUI reads its `event`, everybody else finds no choice in it.
    pub fn event(&self, event: &Value) -> Value {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [], "event": event,
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    /// The last chunk of a stream with `include_usage`.
    pub fn usage(&self, usage: &Usage) -> Value {
        json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [], "usage": usage,
        })
    }

    /// The whole answer, for a client that does not stream.
    pub fn completion(&self, reply: &Reply) -> Value {
        json!({
            "id": self.id, "object": "chat.completion", "created": self.created, "model": self.model,
            "choices": reply.choices.iter().map(|choice| json!({
                "index": choice.index,
                "message": choice.message(),
                "logprobs": choice.logprobs,
                "finish_reason": choice.finish_reason(),
            })).collect::<Vec<_>>(),
            "usage": reply.usage,
        })
    }

    fn chunk(&self, choice: u32, delta: Value, finish: Option<&str>, logprobs: Option<&Value>) -> Value {
        let mut chunk = json!({
            "id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [{ "index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish }],
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }
}

fn call_chunk(call: &CallDelta) -> Value {
    match &call.id {
        Some(id) => json!({
            "index": call.index, "id": id, "type": "function",
            "function": { "name": call.name.as_deref().unwrap_or_default(), "arguments": call.arguments },
        }),
        None => json!({ "index": call.index, "function": { "arguments": call.arguments } }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_have_the_keys_that_clients_need() {
        let envelope = Envelope { id: "i".into(), created: 1, model: "m".into(), include_usage: true };
        let calls = vec![CallDelta { index: 0, id: Some("c".into()), name: Some("f".into()), arguments: String::new() }];
        let chunk = envelope.piece(&Delta { calls, finish: Some("tool_calls".into()), ..Delta::default() });
        assert_eq!(
            chunk,
            json!({
                "id": "i", "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": null,
                "choices": [{ "index": 0, "logprobs": null, "finish_reason": "tool_calls", "delta": { "tool_calls": [
                    { "index": 0, "id": "c", "type": "function", "function": { "name": "f", "arguments": "" } },
                ]}}],
            })
        );
    }
}
