//! `pre_prompt`'s argument: what goes to the model this turn, every field of it changeable.

use serde_json::Value;

use super::super::point::Point;
use super::{Subject, is_empty_object, items, message, text};
use crate::chat::{Message, Object, Prompt};

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
    }
}
