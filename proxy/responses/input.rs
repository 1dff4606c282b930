//! The items of a conversation as the messages that a model reads.

use serde_json::{Value, json};

use crate::chat::request::{missing, wrong_type};
use crate::chat::{Message, Object, ToolCall};
use crate::error::{Error, Kind, Result};

/// Appends what one item says to the messages. `at` is its place in the request, for errors.
pub(super) fn read(item: &Value, at: &str, messages: &mut Vec<Message>) -> Result<()> {
    let fields = item.as_object().ok_or_else(|| wrong_type(at, "an object"))?;
    let kind = match fields.get("type") {
        None | Some(Value::Null) if fields.contains_key("role") => "message",
        None | Some(Value::Null) => return Err(missing(&format!("{at}.type"))),
        Some(kind) => kind.as_str().ok_or_else(|| wrong_type(&format!("{at}.type"), "a string"))?,
    };
    match kind {
        "message" => messages.push(message(fields, at)?),
        "function_call" => ask(messages, call(fields, "call_id", at)?),
        "function_call_output" => {
            let id = text(fields, "call_id", at)?;
            let output = content(fields.get("output"), &format!("{at}.output"))?;
            let mut message = Message::tool(id, "");
            message.0.insert("content".into(), output);
            messages.push(message);
        }
        // A call of the gateway's, and what came of it.
        "mcp_call" => {
            let call = call(fields, "id", at)?;
            let result = Message::tool(&call.id, outcome(fields));
            ask(messages, call);
            messages.push(result);
        }
        // What a model thought is not said to it again.
        "reasoning" | "mcp_list_tools" => {}
        other => return Err(unsupported(&format!("{at}.type"), other)),
    }
    Ok(())
}

/// A valid value of OpenAI's that agents do not offer.
pub(super) fn unsupported(param: &str, value: &str) -> Error {
    Error::new(Kind::UnsupportedValue, format!("Agents do not support '{param}': {value}.")).param(param)
}

fn message(fields: &Object, at: &str) -> Result<Message> {
    let role = text(fields, "role", at)?;
    if !matches!(role, "user" | "assistant" | "system" | "developer") {
        let param = format!("{at}.role");
        return Err(Error::new(Kind::InvalidValue, format!("Invalid value for '{param}': '{role}'.")).param(param));
    }
    let mut message = Message::text(role, "");
    message.0.insert("content".into(), content(fields.get("content"), &format!("{at}.content"))?);
    Ok(message)
}

/// Text, or parts in the form of chat completions. One part of text is that text: many servers take nothing else.
fn content(value: Option<&Value>, at: &str) -> Result<Value> {
    let parts = match value {
        None | Some(Value::Null) => return Err(missing(at)),
        Some(Value::String(text)) => return Ok(text.as_str().into()),
        Some(Value::Array(parts)) => parts,
        Some(_) => return Err(wrong_type(at, "a string or an array")),
    };
    let parts = parts.iter().enumerate().map(|(i, value)| part(value, &format!("{at}[{i}]")));
    let mut parts = parts.collect::<Result<Vec<Value>>>()?;
    Ok(match &mut parts[..] {
        [] => "".into(),
        [only] if only["type"] == "text" => only["text"].take(),
        _ => parts.into(),
    })
}

fn part(value: &Value, at: &str) -> Result<Value> {
    let fields = value.as_object().ok_or_else(|| wrong_type(at, "an object"))?;
    let kind = text(fields, "type", at)?;
    Ok(match kind {
        "input_text" | "output_text" | "text" => json!({ "type": "text", "text": text(fields, "text", at)? }),
        "refusal" => json!({ "type": "refusal", "refusal": text(fields, "refusal", at)? }),
        "input_image" => {
            if fields.get("image_url").is_none_or(Value::is_null) && fields.get("file_id").is_some_and(|id| !id.is_null()) {
                return Err(unsupported(&format!("{at}.file_id"), "files of a server"));
            }
            let mut image = json!({ "url": text(fields, "image_url", at)? });
            if let Some(detail) = fields.get("detail").filter(|detail| !detail.is_null()) {
                image["detail"] = detail.clone();
            }
            json!({ "type": "image_url", "image_url": image })
        }
        "input_audio" => json!({ "type": "input_audio", "input_audio": fields.get("input_audio") }),
        "input_file" => {
            if fields.get("file_url").is_some_and(|url| !url.is_null()) {
                return Err(unsupported(&format!("{at}.file_url"), "files by their address"));
            }
            let known = ["file_data", "file_id", "filename"].into_iter();
            let file: Object = known.filter_map(|key| Some((key.to_owned(), fields.get(key)?.clone()))).collect();
            json!({ "type": "file", "file": file })
        }
        other => return Err(unsupported(&format!("{at}.type"), other)),
    })
}

fn call(fields: &Object, id: &str, at: &str) -> Result<ToolCall> {
    let owned = |key| text(fields, key, at).map(str::to_owned);
    Ok(ToolCall { id: owned(id)?, name: owned("name")?, arguments: owned("arguments")? })
}

/// The model asks for a tool: in the message that it has just said, or in one of its own.
fn ask(messages: &mut Vec<Message>, call: ToolCall) {
    match messages.last_mut().filter(|last| last.role() == "assistant") {
        Some(said) => match said.0.entry("tool_calls").or_insert_with(|| json!([])) {
            Value::Array(calls) => calls.push(call.to_value()),
            other => *other = json!([call.to_value()]),
        },
        None => messages.push(Message::asking("", &[call])),
    }
}

/// What the model read after a call of the gateway's.
fn outcome(fields: &Object) -> String {
    match (fields.get("output"), fields.get("error")) {
        (Some(Value::String(output)), _) => output.clone(),
        (_, Some(Value::String(error))) => error.clone(),
        (_, Some(error)) => match error.pointer("/content/0/text").and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => error.to_string(),
        },
        _ => "no result".into(),
    }
}

fn text<'a>(fields: &'a Object, key: &str, at: &str) -> Result<&'a str> {
    let param = || format!("{at}.{key}");
    match fields.get(key) {
        None | Some(Value::Null) => Err(missing(&param())),
        Some(value) => value.as_str().ok_or_else(|| wrong_type(&param(), "a string")),
    }
}
