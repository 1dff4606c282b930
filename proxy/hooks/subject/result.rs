//! `on_tool_result`'s argument: what a tool returned; its content may be changed before the model reads it.

use std::convert::Infallible;

use serde_json::Value;

use super::super::point::Point;
use super::{Subject, fixed, text};
use crate::chat::Object;

/// A tool's result as `on_tool_result` sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResultView {
    /// The tool's name; not changeable.
    pub name: String,
    /// What it was called with; not changeable.
    pub arguments: Object,
    /// The text that the model will read.
    pub content: String,
    /// The tool failed, and the content says why; not changeable.
    pub is_error: bool,
}

impl Subject for ResultView {
    type Answer = Infallible;

    const POINT: Point = Point::OnToolResult;

    fn into_fields(self) -> Object {
        let mut fields = Object::with_capacity(4);
        fields.insert("name".into(), Value::String(self.name));
        fields.insert("arguments".into(), Value::Object(self.arguments));
        fields.insert("content".into(), Value::String(self.content));
        fields.insert("is_error".into(), Value::Bool(self.is_error));
        fields
    }

    fn from_fields(mut fields: Object) -> Self {
        let is_error = fields.get("is_error").and_then(Value::as_bool).unwrap_or_default();
        let arguments = match fields.shift_remove("arguments") {
            Some(Value::Object(arguments)) => arguments,
            _ => Object::new(),
        };
        ResultView { name: text(fields.shift_remove("name")), arguments, content: text(fields.shift_remove("content")), is_error }
    }

    fn check(name: &str, value: Option<&Value>) -> Result<(), String> {
        match (name, value) {
            ("content", Some(Value::String(_))) => Ok(()),
            ("content", _) => Err("result.content must be text; `json.encode` makes text of a table".into()),
            _ => Err(fixed("result", name, &["name", "arguments", "is_error"])),
        }
    }

    fn answer(_: Value) -> Result<Infallible, String> {
        Err("run:answer means nothing in `on_tool_result`".into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_survive_the_way_there_and_back() {
        let arguments = json!({ "a": [1] }).as_object().cloned().unwrap();
        let result = ResultView { name: "n".into(), arguments, content: "c".into(), is_error: true };
        assert_eq!(ResultView::from_fields(result.clone().into_fields()), result);
        assert_eq!(ResultView::check("name", None).unwrap_err(), "result.name cannot be changed");
    }
}
