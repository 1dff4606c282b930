//! A request for a response, parsed strictly and put into the words of a chat; every unknown field kept.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::input::{read, unsupported};
use super::kept::{Item, Responses};
use crate::chat::request::{self, ChatRequest, check_range, into_array, missing, take, wrong_type};
use crate::chat::{Message, Object};
use crate::error::{Error, Kind, Result};

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    /// The same as a chat.
    pub chat: ChatRequest,
    /// Whether the response is kept.
    pub(super) store: bool,
    /// What the response repeats of it.
    pub(super) echo: Object,
    /// Every item so far: of the response that this one goes on from, then the request's own.
    pub(super) conversation: Vec<Arc<Item>>,
}

/// Fields of the API that mean something else than an answer to this conversation by this agent.
const REFUSED: [&str; 4] = ["conversation", "prompt", "max_tool_calls", "context_management"];

/// Fields that need nothing of the model, and would be something else in a chat.
const DROPPED: [&str; 7] = ["include", "truncation", "stream_options", "top_logprobs", "messages", "background", "n"];

impl Request {
    /// Reads a body. Each error names the parameter at fault. `kept` is asked for what `scope` refers to.
    pub fn parse(body: &[u8], kept: &Responses, scope: &str) -> Result<Request> {
        let mut fields = request::object(body)?;
        refuse(&fields)?;
        let echo = echo(&fields);
        let model = take(&mut fields, "model", "a string", |v| v.as_str().map(str::to_owned))?.ok_or_else(|| missing("model"))?;
        let stream = take(&mut fields, "stream", "a boolean", |v| v.as_bool())?.unwrap_or(false);
        let store = take(&mut fields, "store", "a boolean", |v| v.as_bool())?.unwrap_or(true);
        let mut messages = Vec::new();
        if let Some(instructions) = take(&mut fields, "instructions", "a string", |v| v.as_str().map(str::to_owned))? {
            messages.push(Message::text("system", instructions));
        }
        let n_instructions = messages.len();
        let mut conversation = previous(&mut fields, kept, scope)?;
        for item in &conversation {
            read(&item.value, "previous_response_id", &mut messages)?;
        }
        for (i, item) in input(&mut fields)?.into_iter().enumerate() {
            let at = format!("input[{i}]");
            let item = resolve(item, &at, kept, scope)?;
            read(&item.value, &at, &mut messages)?;
            conversation.push(item);
        }
        if messages.len() == n_instructions {
            return Err(Error::new(Kind::InvalidValue, "Invalid 'input': expected at least one message.").param("input"));
        }
        let tools = tools(take(&mut fields, "tools", "an array", into_array)?.unwrap_or_default())?;
        let metadata = take(&mut fields, "metadata", "an object", into_object)?;
        let session = metadata.and_then(|metadata| metadata.get("session_id")?.as_str().map(str::to_owned));
        let rest = rest(fields)?;
        let chat = ChatRequest { model, messages, stream, include_usage: false, tools, session, rest };
        Ok(Request { chat, store, echo, conversation })
    }
}

fn refuse(fields: &Object) -> Result<()> {
    match fields.get("background") {
        None | Some(Value::Null | Value::Bool(false)) => {}
        Some(Value::Bool(true)) => return Err(unsupported("background", "true")),
        Some(_) => return Err(wrong_type("background", "a boolean")),
    }
    match REFUSED.into_iter().find(|name| fields.get(*name).is_some_and(|value| !value.is_null())) {
        Some(name) => Err(Error::new(Kind::UnsupportedValue, format!("Agents do not support '{name}'.")).param(name)),
        None => Ok(()),
    }
}

/// What a response says of its request, where the request says nothing.
fn echo(fields: &Object) -> Object {
    let defaults = json!({
        "background": false, "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "metadata": {},
        "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null,
        "reasoning": { "effort": null, "summary": null }, "safety_identifier": null, "service_tier": "default", "store": true,
        "temperature": null, "text": { "format": { "type": "text" } }, "tool_choice": "auto", "tools": [], "top_logprobs": 0,
        "top_p": null, "truncation": "disabled", "user": null,
    });
    let Value::Object(mut echo) = defaults else { return Map::new() };
    for (name, value) in &mut echo {
        match (fields.get(name).filter(|said| !said.is_null()), value) {
            (Some(Value::Object(said)), Value::Object(default)) => default.extend(said.clone()),
            (Some(said), value) => *value = said.clone(),
            (None, _) => {}
        }
    }
    echo
}

/// The conversation that this request goes on from.
fn previous(fields: &mut Object, kept: &Responses, scope: &str) -> Result<Vec<Arc<Item>>> {
    let id = take(fields, "previous_response_id", "a string", |v| v.as_str().map(str::to_owned))?;
    let Some(id) = id else { return Ok(Vec::new()) };
    match kept.find(scope, &id) {
        Some(kept) => Ok(kept.conversation.clone()),
        None => Err(not_found(format!("Previous response with id '{id}' not found."), "previous_response_id")),
    }
}

fn input(fields: &mut Object) -> Result<Vec<Value>> {
    match fields.shift_remove("input") {
        None | Some(Value::Null) => Err(missing("input")),
        Some(Value::String(text)) => {
            Ok(vec![json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": text }] })])
        }
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(wrong_type("input", "a string or an array")),
    }
}

/// The item itself, in the place of a reference to it.
fn resolve(item: Value, at: &str, kept: &Responses, scope: &str) -> Result<Arc<Item>> {
    let refers = match item.get("type") {
        Some(Value::String(kind)) => kind == "item_reference",
        Some(Value::Null) | None => item.get("role").is_none() && item.get("id").is_some(),
        Some(_) => false,
    };
    if !refers {
        return Ok(Item::new(item));
    }
    let param = format!("{at}.id");
    let id = item.get("id").ok_or_else(|| missing(&param))?.as_str().ok_or_else(|| wrong_type(&param, "a string"))?;
    kept.item(scope, id).ok_or_else(|| not_found(format!("Item with id '{id}' not found."), &param))
}

fn not_found(message: String, param: &str) -> Error {
    Error::new(Kind::NotFound, message).param(param)
}

/// The client's functions in the form of chat completions, which has them a level deeper.
fn tools(items: Vec<Value>) -> Result<Vec<Value>> {
    let tools = items.into_iter().enumerate().map(|(i, tool)| {
        let at = format!("tools[{i}]");
        let Value::Object(mut function) = tool else { return Err(wrong_type(&at, "an object")) };
        match function.shift_remove("type") {
            Some(Value::String(kind)) if kind == "function" => {}
            Some(Value::String(kind)) => return Err(unsupported(&format!("{at}.type"), &kind)),
            _ => return Err(missing(&format!("{at}.type"))),
        }
        if function.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(missing(&format!("{at}.name")));
        }
        function.retain(|_, value| !value.is_null());
        Ok(json!({ "type": "function", "function": function }))
    });
    tools.collect()
}

/// Every other field, by its name in a chat.
fn rest(mut fields: Object) -> Result<Object> {
    check_range(&fields, "temperature", 0.0, 2.0)?;
    check_range(&fields, "top_p", 0.0, 1.0)?;
    check_range(&fields, "max_output_tokens", 1.0, f64::INFINITY)?;
    let choice = fields.shift_remove("tool_choice");
    let text = take(&mut fields, "text", "an object", into_object)?;
    let reasoning = take(&mut fields, "reasoning", "an object", into_object)?;
    let max_tokens = fields.shift_remove("max_output_tokens");
    // Checked and put back: they are called the same in a chat.
    for (name, expected, fits) in [
        ("parallel_tool_calls", "a boolean", Value::is_boolean as fn(&Value) -> bool),
        ("user", "a string", Value::is_string),
        ("safety_identifier", "a string", Value::is_string),
        ("include", "an array", Value::is_array),
        ("truncation", "a string", Value::is_string),
    ] {
        if fields.get(name).is_some_and(|value| !value.is_null() && !fits(value)) {
            return Err(wrong_type(name, expected));
        }
    }
    fields.retain(|name, value| !value.is_null() && !DROPPED.contains(&name.as_str()));
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value.filter(|value| !value.is_null()) {
            fields.insert(name.to_owned(), value);
        }
    };
    put("max_tokens", max_tokens);
    put("tool_choice", tool_choice(choice)?);
    put("reasoning_effort", reasoning.and_then(|mut reasoning| reasoning.shift_remove("effort")));
    if let Some(mut text) = text {
        put("verbosity", text.shift_remove("verbosity"));
        put("response_format", response_format(text.shift_remove("format"))?);
    }
    Ok(fields)
}

fn into_object(value: Value) -> Option<Object> {
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

fn tool_choice(choice: Option<Value>) -> Result<Option<Value>> {
    match choice {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(mode)) if matches!(mode.as_str(), "none" | "auto" | "required") => Ok(Some(mode.into())),
        Some(Value::String(mode)) => {
            let message = format!("Invalid value for 'tool_choice': '{mode}'.");
            Err(Error::new(Kind::InvalidValue, message).param("tool_choice"))
        }
        Some(Value::Object(choice)) => {
            let kind = choice.get("type").and_then(Value::as_str).ok_or_else(|| missing("tool_choice.type"))?;
            if kind != "function" {
                return Err(unsupported("tool_choice.type", kind));
            }
            let name = choice.get("name").and_then(Value::as_str).ok_or_else(|| missing("tool_choice.name"))?;
            Ok(Some(json!({ "type": "function", "function": { "name": name } })))
        }
        Some(_) => Err(wrong_type("tool_choice", "a string or an object")),
    }
}

fn response_format(format: Option<Value>) -> Result<Option<Value>> {
    let mut schema = match format {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(format)) => format,
        Some(_) => return Err(wrong_type("text.format", "an object")),
    };
    match schema.shift_remove("type").as_ref().and_then(Value::as_str) {
        None => Err(missing("text.format.type")),
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({ "type": "json_object" }))),
        Some("json_schema") => {
            for key in ["name", "schema"] {
                if schema.get(key).is_none_or(Value::is_null) {
                    return Err(missing(&format!("text.format.{key}")));
                }
            }
            schema.retain(|_, value| !value.is_null());
            Ok(Some(json!({ "type": "json_schema", "json_schema": schema })))
        }
        Some(other) => Err(unsupported("text.format.type", other)),
    }
}
