//! `on_error`'s argument: why the run failed.

use serde_json::Value;

use super::super::point::Point;
use super::{Subject, fixed, message, text};
use crate::chat::{Message, Object};

/// A run's failure as `on_error` sees it. Nothing of it can be changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FailureView {
    /// The code that the client would read: `upstream_timeout`, `hook_error`, ...
    pub code: String,
    /// The sentence that the client would read.
    pub message: String,
    /// The HTTP status that the client would get.
    pub status: u16,
    /// Text has left already: an answer follows it.
    pub streamed: bool,
}

impl Subject for FailureView {
    type Answer = Message;

    const POINT: Point = Point::OnError;

    fn into_fields(self) -> Object {
        let mut fields = Object::with_capacity(4);
        fields.insert("code".into(), Value::String(self.code));
        fields.insert("message".into(), Value::String(self.message));
        fields.insert("status".into(), self.status.into());
        fields.insert("streamed".into(), Value::Bool(self.streamed));
        fields
    }

    fn from_fields(mut fields: Object) -> Self {
        let status = fields.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok()).unwrap_or_default();
        let streamed = fields.get("streamed").and_then(Value::as_bool).unwrap_or_default();
        FailureView { code: text(fields.shift_remove("code")), message: text(fields.shift_remove("message")), status, streamed }
    }

    fn check(name: &str, _: Option<&Value>) -> Result<(), String> {
        Err(fixed("failure", name, &["code", "message", "status", "streamed"]))
    }

    fn answer(value: Value) -> Result<Message, String> {
        message(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_survive_the_way_there_and_back() {
        let failure = FailureView { code: "c".into(), message: "m".into(), status: 502, streamed: true };
        assert_eq!(FailureView::from_fields(failure.clone().into_fields()), failure);
        assert_eq!(FailureView::check("status", None).unwrap_err(), "failure.status cannot be changed");
        assert_eq!(FailureView::check("x", None).unwrap_err(), "failure has no field `x`");
    }
}
