//! `post_response`'s argument: the final reply, whose text may be changed while the client has not read it.

use serde_json::Value;

use super::super::point::Point;
use super::{Subject, fixed, message, number, text};
use crate::chat::{Message, Object, Usage};

/// A reply as `post_response` sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReplyView {
    /// The text.
    pub content: String,
    /// Tokens of the whole run; not changeable.
    pub usage: Usage,
    /// Which of the choices it is, from 0; above it only for an alias asked with `n`. Not changeable.
    pub choice: u32,
    /// Why the model ended, as the client will read it: `stop`, `length`, `tool_calls`, ...; not changeable.
    pub finish: String,
    /// The text has left already: a change of it, or an answer, is logged and ignored.
    pub streamed: bool,
}

impl Subject for ReplyView {
    type Answer = Message;

    const POINT: Point = Point::PostResponse;

    fn into_fields(self) -> Object {
        let mut fields = Object::with_capacity(5);
        fields.insert("content".into(), Value::String(self.content));
        fields.insert("choice".into(), self.choice.into());
        fields.insert("finish".into(), Value::String(self.finish));
        fields.insert("streamed".into(), Value::Bool(self.streamed));
        fields.insert("usage".into(), serde_json::to_value(&self.usage).unwrap_or_default());
        fields
    }

    fn from_fields(mut fields: Object) -> Self {
        let streamed = fields.get("streamed").and_then(Value::as_bool).unwrap_or_default();
        let usage = fields.shift_remove("usage").and_then(|usage| serde_json::from_value(usage).ok()).unwrap_or_default();
        ReplyView {
            content: text(fields.shift_remove("content")),
            usage,
            choice: number(fields.get("choice")),
            finish: text(fields.shift_remove("finish")),
            streamed,
        }
    }

    fn check(name: &str, value: Option<&Value>) -> Result<(), String> {
        match (name, value) {
            ("content", Some(Value::String(_))) => Ok(()),
            ("content", _) => Err("reply.content must be text".into()),
            _ => Err(fixed("reply", name, &["usage", "choice", "finish", "streamed"])),
        }
    }

    fn answer(value: Value) -> Result<Message, String> {
        message(value)
    }

    fn is_settled(&self) -> bool {
        self.streamed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_the_way_there_and_back() {
        let reply = ReplyView { content: "c".into(), finish: "length".into(), streamed: true, ..ReplyView::default() };
        assert_eq!(ReplyView::from_fields(reply.clone().into_fields()), reply);
    }
}
