//! `POST /v1/chat/completions` of the demo: reads the request strictly, writes the answer whole or as OpenAI's chunks in OpenAI's order.

use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{Answer, Choice, Format, Question, answer, calls_of, n_prompt_words, pieces, role};
use super::mention::Tool;
use super::{Model, Response, field, flag, model, now, streamed, whole};
use crate::error::{Error, Kind, Result};

/// The most choices that one request may ask for.
const MAX_CHOICES: u64 = 16;

/// Answers one request.
pub(super) fn complete(body: &Value) -> Result<Response> {
    let model = model(body)?;
    let question = question(body, model)?;
    let n_choices = match field(body, "n").map(Value::as_u64) {
        None => 1,
        Some(Some(n @ 1..=MAX_CHOICES)) => n,
        Some(_) => return Err(Error::new(Kind::InvalidValue, format!("`n` must be a number from 1 to {MAX_CHOICES}.")).param("n")),
    };
    let include_usage = field(body, "stream_options").map_or(Ok(false), |options| flag(options, "include_usage"))?;
    let stream = flag(body, "stream")?;
    let said = Said { model, n_choices, answer: answer(&question), n_prompt_words: n_prompt_words(question.messages), include_usage };
    Ok(if stream { streamed(said.events(), model.pause) } else { whole(&said.completion()) })
}

/// An answer on its way out.
struct Said {
    model: Model,
    n_choices: u64,
    answer: Answer,
    n_prompt_words: usize,
    include_usage: bool,
}

impl Said {
    fn completion(&self) -> Value {
        let choice = |index| {
            let calls = self.calls();
            let mut message = json!({ "role": "assistant", "content": self.answer.text, "refusal": null });
            if !self.answer.reasoning.is_empty() {
                message["reasoning_content"] = json!(self.answer.reasoning);
            }
            if !calls.is_empty() {
                message["tool_calls"] = json!(calls);
            }
            json!({ "index": index, "message": message, "logprobs": null, "finish_reason": self.answer.finish })
        };
        json!({
            "id": completion_id(), "object": "chat.completion", "created": now(), "model": self.model.id,
            "choices": (0..self.n_choices).map(choice).collect::<Vec<_>>(), "usage": self.usage(),
        })
    }

    /// Every event of the stream, as it goes over the wire.
    fn events(&self) -> Vec<String> {
        let (id, created) = (completion_id(), now());
        let chunk = |choices: Value, usage: Value| {
            let mut chunk = json!({
                "id": id, "object": "chat.completion.chunk", "created": created, "model": self.model.id, "choices": choices,
            });
            if self.include_usage {
                chunk["usage"] = usage;
            }
            format!("data: {chunk}\n\n")
        };
        let calls: Vec<Vec<Value>> = (0..self.n_choices).map(|_| self.calls()).collect();
        let mut events = Vec::new();
        let mut send = |delta: &dyn Fn(usize) -> Value, finish: Option<&str>| {
            for (index, _) in calls.iter().enumerate() {
                let choice = json!([{ "index": index, "delta": delta(index), "logprobs": null, "finish_reason": finish }]);
                events.push(chunk(choice, Value::Null));
            }
        };
        send(&|_| json!({ "role": "assistant", "content": "" }), None);
        for piece in pieces(&self.answer.reasoning) {
            send(&|_| json!({ "reasoning_content": piece }), None);
        }
        for piece in pieces(&self.answer.text) {
            send(&|_| json!({ "content": piece }), None);
        }
        for (i, (name, arguments)) in self.answer.calls.iter().enumerate() {
            let head = |choice: usize| {
                let id = &calls[choice][i]["id"];
                json!({ "tool_calls": [{ "index": i, "id": id, "type": "function", "function": { "name": name, "arguments": "" } }] })
            };
            send(&head, None);
            for piece in pieces(&arguments.to_string()).flat_map(|word| word.split_inclusive(':')) {
                send(&|_| json!({ "tool_calls": [{ "index": i, "function": { "arguments": piece } }] }), None);
            }
        }
        send(&|_| json!({}), Some(self.answer.finish));
        if self.include_usage {
            events.push(chunk(json!([]), self.usage()));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    /// The calls in OpenAI's form, each with an id of its own.
    fn calls(&self) -> Vec<Value> {
        let call = |(name, arguments): &(String, Value)| {
            let id = format!("call_{}", Uuid::new_v4().simple());
            json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments.to_string() } })
        };
        self.answer.calls.iter().map(call).collect()
    }

    fn usage(&self) -> Value {
        let completion = self.answer.n_words() as u64 * self.n_choices;
        let reasoning = pieces(&self.answer.reasoning).count() as u64 * self.n_choices;
        json!({
            "prompt_tokens": self.n_prompt_words, "completion_tokens": completion, "total_tokens": self.n_prompt_words as u64 + completion,
            "completion_tokens_details": { "reasoning_tokens": reasoning },
        })
    }
}

fn completion_id() -> String {
    format!("chatcmpl-{}", Uuid::new_v4().simple())
}

fn question(body: &Value, model: Model) -> Result<Question<'_>> {
    let messages = messages(body)?;
    let tools = tools(body)?;
    let parallel = field(body, "parallel_tool_calls").is_none() || flag(body, "parallel_tool_calls")?;
    let max = field(body, "max_completion_tokens").or(field(body, "max_tokens"));
    let max_words = match max.map(Value::as_u64) {
        None => None,
        Some(Some(n @ 1..)) => Some(usize::try_from(n).unwrap_or(usize::MAX)),
        Some(_) => return Err(Error::new(Kind::InvalidValue, "`max_tokens` must be a number above 0.").param("max_tokens")),
    };
    let choice = choice(body, &tools)?;
    Ok(Question { messages, tools, choice, parallel, format: format(body)?, reasons: model.reasons, max_words })
}

/// The conversation, if it is one: known roles, and every call answered by the messages right behind it.
fn messages(body: &Value) -> Result<&[Value]> {
    let messages = match field(body, "messages") {
        None => return Err(Error::new(Kind::MissingParameter, "Missing required parameter: `messages`.").param("messages")),
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        Some(Value::Array(_)) => return Err(Error::new(Kind::InvalidValue, "`messages` is empty.").param("messages")),
        Some(_) => return Err(Error::new(Kind::InvalidType, "`messages` must be an array.").param("messages")),
    };
    let mut open: Vec<&str> = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        let wrong = |what: String| Err(Error::new(Kind::InvalidValue, what).param(format!("messages[{i}]")));
        if role(message) == "tool" {
            let id = message.get("tool_call_id").and_then(Value::as_str).unwrap_or_default();
            match open.iter().position(|known| *known == id) {
                Some(at) => open.remove(at),
                None => return wrong("A message of role `tool` must answer a call of the assistant's message before it.".to_owned()),
            };
            continue;
        }
        if !open.is_empty() {
            return wrong(format!("These tool calls were not answered: {}.", open.join(", ")));
        }
        match role(message) {
            "assistant" => open = calls_of(message).map(|(id, _)| id).collect(),
            "system" | "developer" | "user" | "function" => {}
            other => return wrong(format!("`{other}` is no role: system, developer, user, assistant or tool.")),
        }
        if !matches!(message.get("content"), None | Some(Value::Null | Value::String(_) | Value::Array(_))) {
            return wrong("`content` must be a string or an array of parts.".to_owned());
        }
    }
    if open.is_empty() {
        return Ok(messages);
    }
    Err(Error::new(Kind::InvalidValue, format!("These tool calls were not answered: {}.", open.join(", "))).param("messages"))
}

fn tools(body: &Value) -> Result<Vec<Tool<'_>>> {
    let Some(tools) = field(body, "tools") else { return Ok(Vec::new()) };
    let tools = tools.as_array().ok_or_else(|| Error::new(Kind::InvalidType, "`tools` must be an array.").param("tools"))?;
    let mut read = Vec::new();
    for (i, tool) in tools.iter().enumerate() {
        if tool.get("type").and_then(Value::as_str) == Some("function") {
            let tool = Tool::read(tool).filter(|tool| !tool.name.is_empty());
            let tool = tool
                .ok_or_else(|| Error::new(Kind::InvalidValue, "A tool needs a `function` with a `name`.").param(format!("tools[{i}]")))?;
            read.push(tool);
        }
    }
    Ok(read)
}

fn choice<'a>(body: &'a Value, tools: &[Tool]) -> Result<Choice<'a>> {
    let wrong = |what: String| Err(Error::new(Kind::InvalidValue, what).param("tool_choice"));
    match field(body, "tool_choice") {
        None => Ok(Choice::Auto),
        Some(Value::String(word)) => match word.as_str() {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            "required" => Ok(Choice::Required),
            other => wrong(format!("`tool_choice` cannot be `{other}`: none, auto, required, or a named function.")),
        },
        Some(named) => match named.pointer("/function/name").and_then(Value::as_str) {
            Some(name) if tools.iter().any(|tool| tool.name == name) => Ok(Choice::Named(name)),
            Some(name) => wrong(format!("`tool_choice` names `{name}`, which is not among the tools.")),
            None => wrong("`tool_choice` must name a function.".to_owned()),
        },
    }
}

fn format(body: &Value) -> Result<Format<'_>> {
    let Some(format) = field(body, "response_format") else { return Ok(Format::Text) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(Format::Text),
        Some("json_object") => Ok(Format::Object),
        Some("json_schema") => match format.pointer("/json_schema/schema") {
            Some(schema) => Ok(Format::Schema(schema)),
            None => Err(Error::new(Kind::MissingParameter, "Missing required parameter: `response_format.json_schema.schema`.")
                .param("response_format")),
        },
        _ => {
            Err(Error::new(Kind::InvalidValue, "`response_format.type` must be text, json_object or json_schema.").param("response_format"))
        }
    }
}
