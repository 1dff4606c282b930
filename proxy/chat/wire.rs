//! OpenAI's chunks and completions, read from upstreams of every habit and written as the specification wants them.

use serde_json::{Map, Value, json};

use super::{CallDelta, Delta, Object, Reply, Usage};
use crate::error::{Error, Kind, Result};

/// What one event of an upstream's stream says.
#[derive(Debug, Default, PartialEq)]
pub struct Frame {
    /// Pieces of the reply, at most one for each choice.
    pub deltas: Vec<Delta>,
    /// Tokens used, when the upstream tells.
    pub usage: Option<Usage>,
}

/// Reads the events of one stream. It remembers the tool calls seen, because upstreams leave out indexes and repeat names.
#[derive(Debug, Default)]
pub struct Decoder {
    calls: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    choice: u32,
    index: u32,
    id: String,
    named: bool,
}

impl Decoder {
    /// Reads one event's data: a chunk, a whole completion, or an error of the upstream's.
    pub fn decode(&mut self, data: &str) -> Result<Frame> {
        let value: Value =
            serde_json::from_str(data).map_err(|e| Error::new(Kind::UpstreamError, "the upstream's stream is not JSON").source(e))?;
        let Value::Object(mut chunk) = value else {
            return Err(Error::new(Kind::UpstreamError, "the upstream's stream is not made of JSON objects"));
        };
        if let Some(error) = chunk.get("error").filter(|e| !e.is_null()) {
            return Err(upstream_error(error));
        }
        let usage = chunk.remove("usage").and_then(|usage| serde_json::from_value(usage).ok());
        let choices = match chunk.remove("choices") {
            Some(Value::Array(choices)) => choices,
            _ => Vec::new(),
        };
        let deltas = choices.into_iter().filter_map(|choice| match choice {
            Value::Object(choice) => Some(self.choice(choice)),
            _ => None,
        });
        Ok(Frame { deltas: deltas.collect(), usage })
    }

    fn choice(&mut self, mut choice: Object) -> Delta {
        let number = choice.get("index").and_then(Value::as_u64).unwrap_or(0) as u32;
        let mut delta = Delta { choice: number, ..Delta::default() };
        delta.finish = text(choice.remove("finish_reason"));
        delta.logprobs = choice.remove("logprobs").filter(|v| !v.is_null());
        // A stream's piece is a `delta`; the answer of a server that does not stream is one `message`.
        let fields = choice.remove("delta").filter(|v| !v.is_null()).or_else(|| choice.remove("message"));
        let Some(Value::Object(mut fields)) = fields else { return delta };
        fields.remove("role");
        delta.content = text(fields.remove("content"));
        delta.refusal = text(fields.remove("refusal"));
        for spelling in ["reasoning_content", "reasoning", "thinking"] {
            let found = text(fields.remove(spelling));
            delta.reasoning = delta.reasoning.or(found);
        }
        if let Some(Value::Array(calls)) = fields.remove("tool_calls") {
            delta.calls = calls.iter().enumerate().filter_map(|(i, call)| self.call(number, i, call)).collect();
        }
        fields.retain(|_, value| !value.is_null());
        delta.rest = fields;
        delta
    }

    /// One piece of a call, its index made sure of, its id and name only in the first piece.
    fn call(&mut self, choice: u32, position: usize, call: &Value) -> Option<CallDelta> {
        let call = call.as_object()?;
        let function = call.get("function");
        let name = function.and_then(|f| f.get("name")).and_then(Value::as_str).filter(|name| !name.is_empty());
        let id = call.get("id").and_then(Value::as_str).filter(|id| !id.is_empty());
        let arguments = match function.and_then(|f| f.get("arguments")) {
            Some(Value::String(arguments)) => arguments.clone(),
            None | Some(Value::Null) => String::new(),
            Some(object) => object.to_string(),
        };
        let index = call.get("index").and_then(Value::as_u64).map(|index| index as u32);
        let index = index.unwrap_or_else(|| self.guess_index(choice, position, id, name.is_some()));
        match self.calls.iter_mut().find(|seen| seen.choice == choice && seen.index == index) {
            Some(seen) => {
                let first_name = name.filter(|_| !seen.named);
                seen.named |= name.is_some();
                Some(CallDelta { index, id: None, name: first_name.map(str::to_owned), arguments })
            }
            None => {
                // Results are paired with calls by id: one that is missing, or taken by another call, gets a new one.
                let taken = |id: &&str| self.calls.iter().any(|seen| seen.id == *id);
                let id = id.filter(|id| !taken(id)).map_or_else(mint_call_id, str::to_owned);
                self.calls.push(Seen { choice, index, id: id.clone(), named: name.is_some() });
                Some(CallDelta { index, id: Some(id), name: name.map(str::to_owned), arguments })
            }
        }
    }

    /// An upstream left the index out: a known id continues its call, a new id or name begins the next one, the rest belongs to the last.
    fn guess_index(&self, choice: u32, position: usize, id: Option<&str>, named: bool) -> u32 {
        let of_choice = || self.calls.iter().filter(|seen| seen.choice == choice);
        if let Some(seen) = id.and_then(|id| of_choice().find(|seen| seen.id == id)) {
            return seen.index;
        }
        let next = of_choice().map(|seen| seen.index + 1).max();
        match next {
            Some(next) if id.is_some() || named => next,
            Some(next) => next - 1,
            None => position as u32,
        }
    }
}

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

fn text(value: Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// What an upstream's `error` says, be it an object or a string.
pub fn upstream_error(error: &Value) -> Error {
    let message = error.as_str().or_else(|| error.get("message").and_then(Value::as_str)).unwrap_or("no message");
    Error::new(Kind::UpstreamError, format!("The upstream reported an error: {message}"))
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
                "finish_reason": choice.finish.as_deref().unwrap_or("stop"),
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

    fn decode(decoder: &mut Decoder, delta: Value) -> Delta {
        let chunk = json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] });
        decoder.decode(&chunk.to_string()).unwrap().deltas.remove(0)
    }

    #[test]
    fn reads_text_reasoning_and_unknown_keys() {
        let mut decoder = Decoder::default();
        let delta = decode(&mut decoder, json!({ "role": "assistant", "content": null, "reasoning": "hm", "images": [1], "x": null }));
        assert_eq!(delta.content, None);
        assert_eq!(delta.reasoning.as_deref(), Some("hm"));
        assert_eq!(delta.rest, *json!({ "images": [1] }).as_object().unwrap());
        let usage = decoder.decode(r#"{"choices":[],"usage":{"prompt_tokens":1,"total_tokens":3,"x":{"y":1}},"timings":{}}"#).unwrap();
        assert_eq!(usage.usage.unwrap().total_tokens, 3);
    }

    #[test]
    fn calls_without_index_or_id_are_told_apart() {
        let mut decoder = Decoder::default();
        let mut piece = |call: Value| decode(&mut decoder, json!({ "tool_calls": [call] })).calls.remove(0);
        let first = piece(json!({ "id": "a", "function": { "name": "f", "arguments": "" } }));
        let more = piece(json!({ "id": "a", "function": { "name": "f", "arguments": "{}" } }));
        let anonymous = piece(json!({ "function": { "name": "g", "arguments": { "x": 1 } } }));
        let rest = piece(json!({ "index": 1, "function": { "name": "", "arguments": "," } }));
        assert_eq!((first.index, first.id.as_deref(), first.name.as_deref()), (0, Some("a"), Some("f")));
        assert_eq!((more.index, more.id, more.name, more.arguments.as_str()), (0, None, None, "{}"));
        assert_eq!((anonymous.index, anonymous.name.as_deref(), anonymous.arguments.as_str()), (1, Some("g"), r#"{"x":1}"#));
        assert!(anonymous.id.is_some_and(|id| id.starts_with("call_")));
        assert_eq!((rest.index, rest.id, rest.name), (1, None, None));
    }

    #[test]
    fn a_whole_completion_is_one_frame() {
        let completion = json!({ "choices": [{ "message": { "role": "assistant", "content": "hi" }, "finish_reason": "stop" }] });
        let frame = Decoder::default().decode(&completion.to_string()).unwrap();
        assert_eq!(frame.deltas[0].content.as_deref(), Some("hi"));
        assert_eq!(frame.deltas[0].finish.as_deref(), Some("stop"));
    }

    #[test]
    fn errors_of_any_form_are_errors() {
        for data in [r#"{"error":"overflow"}"#, r#"{"error":{"message":"overflow"}}"#, "not json", "[]"] {
            assert_eq!(Decoder::default().decode(data).unwrap_err().kind, Kind::UpstreamError, "{data}");
        }
        assert!(Decoder::default().decode(r#"{"error":null,"choices":[]}"#).is_ok());
    }

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
