//! `on_tool_call`'s argument: a call that the gateway is about to execute; its arguments may be changed.

use serde_json::Value;

use super::super::point::Point;
use super::{Subject, fixed, text};
use crate::chat::Object;

/// A tool call as `on_tool_call` sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CallView {
    /// The tool's name; not changeable.
    pub name: String,
    /// The validated arguments.
    pub arguments: Object,
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
            _ => Err(fixed("call", name, &["name"])),
        }
    }

    fn answer(value: Value) -> Result<Value, String> {
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_survive_the_way_there_and_back() {
        let call = CallView { name: "n".into(), arguments: json!({ "a": 1 }).as_object().cloned().unwrap() };
        assert_eq!(CallView::from_fields(call.clone().into_fields()), call);
    }
}
