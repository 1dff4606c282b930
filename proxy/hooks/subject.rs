//! What each hook's argument is made of, what a script may change in it, and what an answer means there. No Lua in here.

use serde_json::Value;

use super::point::Point;
use super::{CallView, ReplyView};
use crate::chat::{Message, Object, Prompt};

/// A value that hooks are called with.
pub(super) trait Subject: Default + Sized {
    /// What `run:answer(x)` means.
    type Answer;

    /// The hook.
    const POINT: Point;

    /// The fields that scripts see, each under its name.
    fn into_fields(self) -> Object;

    /// The value with these fields, each of which is an original or passed `check`.
    fn from_fields(fields: Object) -> Self;

    /// What is wrong with the new value of a field, `None` if it was removed, in words for the script's author.
    fn check(name: &str, value: Option<&Value>) -> Result<(), String>;

    /// The answer that a script gave.
    fn answer(value: Value) -> Result<Self::Answer, String>;

    /// Whether changes come too late to matter.
    fn is_settled(&self) -> bool {
        false
    }
}

impl Subject for Prompt {
    type Answer = Message;

    const POINT: Point = Point::PrePrompt;

    fn into_fields(self) -> Object {
        let mut fields = Object::with_capacity(self.rest.len() + 3);
        fields.insert("model".into(), Value::String(self.model));
        fields.insert("messages".into(), self.messages.into_iter().map(|message| Value::Object(message.0)).collect());
        fields.insert("tools".into(), Value::Array(self.tools));
        fields.extend(self.rest);
        fields
    }

    fn from_fields(mut fields: Object) -> Self {
        let model = text(fields.shift_remove("model"));
        let messages = items(fields.shift_remove("messages")).into_iter().filter_map(|message| match message {
            Value::Object(fields) => Some(Message(fields)),
            _ => None,
        });
        Prompt { model, messages: messages.collect(), tools: items(fields.shift_remove("tools")), rest: fields }
    }

    fn check(name: &str, value: Option<&Value>) -> Result<(), String> {
        match (name, value) {
            ("model", Some(Value::String(model))) if !model.is_empty() => Ok(()),
            ("model", _) => Err("prompt.model must be text".into()),
            ("messages", Some(Value::Array(messages))) => messages.iter().enumerate().try_for_each(|(index, message)| {
                let has_role = message.get("role").is_some_and(Value::is_string);
                if has_role { Ok(()) } else { Err(format!("prompt.messages[{}] must be a table with a `role`", index + 1)) }
            }),
            ("messages", _) => Err("prompt.messages must be a list".into()),
            ("tools", None) => Ok(()),
            ("tools", Some(value)) if is_empty_object(value) => Ok(()),
            ("tools", Some(Value::Array(tools))) if tools.iter().all(Value::is_object) => Ok(()),
            ("tools", _) => Err("prompt.tools must be a list of tables".into()),
            _ => Ok(()),
        }
    }

    fn answer(value: Value) -> Result<Message, String> {
        message(value)
    }
}

impl Subject for CallView {
    type Answer = Value;

    const POINT: Point = Point::OnToolCall;

    fn into_fields(self) -> Object {
        let mut fields = Object::with_capacity(2);
        fields.insert("name".into(), Value::String(self.name));
        fields.insert("arguments".into(), Value::Object(self.arguments));
        fields
    }

    fn from_fields(mut fields: Object) -> Self {
        let arguments = match fields.shift_remove("arguments") {
            Some(Value::Object(arguments)) => arguments,
            _ => Object::new(),
        };
        CallView { name: text(fields.shift_remove("name")), arguments }
    }

    fn check(name: &str, value: Option<&Value>) -> Result<(), String> {
        match (name, value) {
            ("arguments", Some(Value::Object(_))) => Ok(()),
            ("arguments", _) => Err("call.arguments must be a table with names".into()),
            ("name", _) => Err("call.name cannot be changed".into()),
            _ => Err(format!("call has no field `{name}`")),
        }
    }

    fn answer(value: Value) -> Result<Value, String> {
        Ok(value)
    }
}

impl Subject for ReplyView {
    type Answer = Message;

    const POINT: Point = Point::PostResponse;

    fn into_fields(self) -> Object {
        let mut fields = Object::with_capacity(3);
        fields.insert("content".into(), Value::String(self.content));
        fields.insert("streamed".into(), Value::Bool(self.streamed));
        fields.insert("usage".into(), serde_json::to_value(&self.usage).unwrap_or_default());
        fields
    }

    fn from_fields(mut fields: Object) -> Self {
        let streamed = fields.get("streamed").and_then(Value::as_bool).unwrap_or_default();
        let usage = fields.shift_remove("usage").and_then(|usage| serde_json::from_value(usage).ok()).unwrap_or_default();
        ReplyView { content: text(fields.shift_remove("content")), usage, streamed }
    }

    fn check(name: &str, value: Option<&Value>) -> Result<(), String> {
        match (name, value) {
            ("content", Some(Value::String(_))) => Ok(()),
            ("content", _) => Err("reply.content must be text".into()),
            ("usage" | "streamed", _) => Err(format!("reply.{name} cannot be changed")),
            _ => Err(format!("reply has no field `{name}`")),
        }
    }

    fn answer(value: Value) -> Result<Message, String> {
        message(value)
    }

    fn is_settled(&self) -> bool {
        self.streamed
    }
}

/// An answer in the model's place: text, or a whole message.
fn message(value: Value) -> Result<Message, String> {
    match value {
        Value::String(text) => Ok(Message::text("assistant", text)),
        Value::Object(mut fields) if fields.contains_key("content") || fields.contains_key("tool_calls") => {
            let content = fields.get("content").unwrap_or(&Value::Null);
            if !(content.is_string() || content.is_array() || content.is_null()) {
                return Err("run:answer(message): its content must be text or a list of parts".into());
            }
            fields.entry("role").or_insert_with(|| "assistant".into());
            if fields.get("role").and_then(Value::as_str) != Some("assistant") {
                return Err("run:answer(message): its role must be `assistant`".into());
            }
            Ok(Message(fields))
        }
        _ => Err("run:answer(x): x must be text or a message".into()),
    }
}

fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

fn items(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(Object::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_survive_the_way_there_and_back() {
        let prompt = Prompt {
            model: "m".into(),
            messages: vec![Message::text("user", "hi")],
            tools: vec![json!({ "type": "function" })],
            rest: json!({ "temperature": 1, "stop": null }).as_object().cloned().unwrap(),
        };
        assert_eq!(Prompt::from_fields(prompt.clone().into_fields()), prompt);
        let call = CallView { name: "n".into(), arguments: json!({ "a": 1 }).as_object().cloned().unwrap() };
        assert_eq!(CallView::from_fields(call.clone().into_fields()), call);
        let reply = ReplyView { content: "c".into(), streamed: true, ..ReplyView::default() };
        assert_eq!(ReplyView::from_fields(reply.clone().into_fields()), reply);
    }

    #[test]
    fn an_answer_is_text_or_an_assistants_message() {
        assert_eq!(message(json!("hi")).unwrap(), Message::text("assistant", "hi"));
        assert_eq!(message(json!({ "content": "hi" })).unwrap().role(), "assistant");
        for wrong in [json!(3), json!({ "x": 1 }), json!({ "content": 3 }), json!({ "role": "user", "content": "x" })] {
            assert!(message(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
