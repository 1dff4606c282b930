//! One event of a server's answer at a time: its JSON as pieces of the reply, with what is mended of it.

use std::collections::HashSet;

use serde_json::Value;

use super::calls::Calls;
use super::thought::{Parts, Thought};
use super::{failure, spelling, usage};
use crate::chat::{CallDelta, Delta, Message, Object, Prompt, Usage};
use crate::config::Repair;
use crate::error::{Error, Kind, Result};

/// As many choices as a client can ask for.
const MAX_CHOICES: u64 = 128;

/// What one event of an upstream's stream says.
#[derive(Debug, Default, PartialEq)]
pub struct Frame {
    /// Pieces of the reply, at most one for each choice.
    pub deltas: Vec<Delta>,
    /// Tokens used, when the upstream tells.
    pub usage: Option<Usage>,
}

/// What is mended of one answer.
#[derive(Debug, Default)]
pub struct Mending {
    think_tags: bool,
    drops_calls_with_stop: bool,
    /// The client speaks of functions as they were before tools, and is answered so.
    speaks_functions: bool,
    /// The ids of earlier calls of the conversation: none is used again.
    ids: HashSet<String>,
}

impl Mending {
    /// What is mended of the answer to `prompt`.
    pub fn new(repair: &Repair, prompt: &Prompt) -> Mending {
        Mending {
            think_tags: repair.think_tags,
            drops_calls_with_stop: !repair.tool_calls_with_stop,
            speaks_functions: prompt.rest.contains_key("functions"),
            ids: prompt.messages.iter().flat_map(call_ids).map(str::to_owned).collect(),
        }
    }
}

fn call_ids(message: &Message) -> impl Iterator<Item = &str> {
    let calls = message.0.get("tool_calls").and_then(Value::as_array);
    calls.into_iter().flatten().filter_map(|call| call.get("id")?.as_str())
}

/// Reads the events of one answer. It remembers what its choices have begun.
#[derive(Debug, Default)]
pub struct Decoder {
    mending: Mending,
    choices: Vec<Begun>,
}

/// A choice of which something was read.
#[derive(Debug, Default)]
struct Begun {
    number: u32,
    thought: Thought,
    calls: Calls,
    /// Pieces of calls that wait for the end, which says whether they count.
    waiting: Vec<CallDelta>,
    finished: bool,
}

impl Decoder {
    /// A decoder for one answer.
    pub fn new(mending: Mending) -> Decoder {
        Decoder { mending, choices: Vec::new() }
    }

    /// Reads one event's data: a chunk, or a whole completion. An error of the upstream's is one here.
    pub fn decode(&mut self, mut chunk: Object) -> Result<Frame> {
        if let Some(error) = failure::of_object(&chunk) {
            return Err(error);
        }
        let usage = usage::take(&mut chunk);
        let choices = match chunk.remove("choices") {
            Some(Value::Array(choices)) => choices,
            _ => Vec::new(),
        };
        let mut deltas = Vec::with_capacity(choices.len());
        for (position, choice) in choices.into_iter().enumerate() {
            let Value::Object(choice) = choice else { continue };
            let number = choice.get("index").and_then(Value::as_u64).unwrap_or(position as u64);
            if number < MAX_CHOICES {
                deltas.push(self.choice(number as u32, choice)?);
            }
        }
        Ok(Frame { deltas, usage })
    }

    /// The answer is over: what was kept back of choices that did not say why they end.
    pub fn finish(&mut self) -> Frame {
        let open = self.choices.iter_mut().filter(|choice| !choice.finished);
        let deltas = open.map(|choice| {
            let mut delta = Delta { choice: choice.number, ..Delta::default() };
            choice.end(&mut delta, true);
            delta
        });
        let deltas = deltas.filter(|delta| *delta != Delta { choice: delta.choice, ..Delta::default() }).collect();
        Frame { deltas, usage: None }
    }

    /// Whether each choice that began has said why it ended.
    pub fn is_complete(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finished)
    }

    /// Whether a choice began.
    pub fn has_begun(&self) -> bool {
        !self.choices.is_empty()
    }

    fn choice(&mut self, number: u32, mut choice: Object) -> Result<Delta> {
        if let Some(error) = failure::of_object(&choice) {
            return Err(error);
        }
        let finish = spelling::finish(choice.remove("finish_reason"))?;
        let at = self.choices.iter().position(|begun| begun.number == number).unwrap_or_else(|| {
            self.choices.push(Begun { number, ..Begun::default() });
            self.choices.len() - 1
        });
        let begun = &mut self.choices[at];
        let mut delta = Delta { choice: number, ..Delta::default() };
        delta.logprobs = choice.remove("logprobs").filter(|v| !v.is_null());
        // A stream's piece is a `delta`; the answer of a server that does not stream is one `message`, or once was a `text`.
        let piece = choice.remove("delta").filter(|v| !v.is_null());
        let whole = piece.is_none();
        match piece.or_else(|| choice.remove("message")).or_else(|| choice.remove("text")) {
            Some(Value::Object(fields)) => begun.read(&mut delta, fields, whole, &mut self.mending)?,
            Some(Value::String(text)) => begun.say(&mut delta, text, self.mending.think_tags),
            _ => {}
        }
        if let Some(mut reason) = finish.filter(|_| !begun.finished) {
            begun.finished = true;
            begun.end(&mut delta, reason != "stop");
            if !begun.calls.is_empty() && matches!(reason.as_str(), "stop" | "function_call") {
                reason = "tool_calls".into();
            }
            delta.finish = Some(reason);
        }
        Ok(delta)
    }
}

impl Begun {
    fn read(&mut self, delta: &mut Delta, mut fields: Object, whole: bool, mending: &mut Mending) -> Result<()> {
        fields.remove("role");
        let (text, thought) = spelling::content(&mut fields);
        delta.reasoning = spelling::reasoning(&mut fields).or(thought);
        if let Some(text) = text {
            self.say(delta, text, mending.think_tags);
        }
        if let Some(Value::String(refusal)) = fields.remove("refusal") {
            delta.refusal = Some(refusal);
        }
        let mut calls = match fields.remove("tool_calls") {
            Some(Value::Array(calls)) => calls,
            Some(Value::Object(call)) => vec![Value::Object(call)],
            _ => Vec::new(),
        };
        if !mending.speaks_functions {
            calls.extend(fields.remove("function_call"));
        }
        for call in calls.iter().filter_map(Value::as_object) {
            let piece = self.calls.push(call, whole, &mut mending.ids)?;
            let place = if mending.drops_calls_with_stop && !self.finished { &mut self.waiting } else { &mut delta.calls };
            place.push(piece);
        }
        fields.retain(|_, value| !value.is_null());
        delta.rest = fields;
        Ok(())
    }

    fn say(&mut self, delta: &mut Delta, text: String, think_tags: bool) {
        if !think_tags {
            delta.content = Some(text);
            return;
        }
        let parts = self.thought.push(text);
        add(delta, parts);
    }

    /// The choice has ended: gives out what was kept back. Calls that waited for that count, or are forgotten.
    fn end(&mut self, delta: &mut Delta, calls_count: bool) {
        add(delta, self.thought.end());
        if !calls_count && !self.waiting.is_empty() {
            self.waiting.clear();
            self.calls = Calls::default();
        }
        delta.calls.append(&mut self.waiting);
        delta.calls.extend(self.calls.end());
    }
}

fn add(delta: &mut Delta, parts: Parts) {
    for (place, piece) in [(&mut delta.content, parts.text), (&mut delta.reasoning, parts.thought)] {
        if let Some(piece) = piece {
            place.get_or_insert_default().push_str(&piece);
        }
    }
}

/// The object that an event's data is.
pub(super) fn parse(data: &str) -> Result<Object> {
    match serde_json::from_str(data) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::new(Kind::UpstreamError, "The upstream's answer is not made of JSON objects.")),
        Err(e) => Err(Error::new(Kind::UpstreamError, "The upstream's answer is not JSON.").source(e)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decode(decoder: &mut Decoder, delta: Value) -> Delta {
        let chunk = json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] });
        decoder.decode(chunk.as_object().cloned().unwrap()).unwrap().deltas.remove(0)
    }

    fn decode_whole(chunk: Value) -> Result<Frame> {
        Decoder::default().decode(chunk.as_object().cloned().unwrap())
    }

    #[test]
    fn reads_text_reasoning_and_unknown_keys() {
        let mut decoder = Decoder::default();
        let delta = decode(&mut decoder, json!({ "role": "assistant", "content": null, "reasoning": "hm", "images": [1], "x": null }));
        assert_eq!(delta.content, None);
        assert_eq!(delta.reasoning.as_deref(), Some("hm"));
        assert_eq!(delta.rest, *json!({ "images": [1] }).as_object().unwrap());
        let usage = decode_whole(json!({ "choices": [], "usage": { "prompt_tokens": 1, "total_tokens": 3, "x": { "y": 1 } } })).unwrap();
        assert_eq!(usage.usage.unwrap().total_tokens, 3);
    }

    #[test]
    fn a_whole_completion_is_one_frame() {
        let completion = json!({ "choices": [{ "message": { "role": "assistant", "content": "hi" }, "finish_reason": "stop" }] });
        let frame = decode_whole(completion).unwrap();
        assert_eq!(frame.deltas[0].content.as_deref(), Some("hi"));
        assert_eq!(frame.deltas[0].finish.as_deref(), Some("stop"));
    }

    #[test]
    fn an_answer_is_complete_when_all_its_choices_are() {
        let mut decoder = Decoder::default();
        let mut finish = |index: u32, reason: Value| {
            let chunk = json!({ "choices": [{ "index": index, "delta": {}, "finish_reason": reason }] });
            decoder.decode(chunk.as_object().cloned().unwrap()).unwrap();
            decoder.is_complete()
        };
        assert!(!finish(0, Value::Null));
        assert!(!finish(1, Value::Null));
        assert!(!finish(0, "stop".into()));
        assert!(finish(1, "length".into()));
    }

    #[test]
    fn functions_of_old_are_calls_unless_the_client_speaks_of_them() {
        let asked = json!({ "function_call": { "name": "f", "arguments": "{}" } });
        let mut rest = Object::new();
        let decoded = |rest: Object| {
            let prompt = Prompt { rest, ..Prompt::default() };
            decode(&mut Decoder::new(Mending::new(&Repair::default(), &prompt)), asked.clone())
        };
        assert_eq!(decoded(rest.clone()).calls[0].name.as_deref(), Some("f"));
        rest.insert("functions".into(), json!([]));
        assert_eq!(decoded(rest).rest["function_call"]["name"], "f");
    }
}
