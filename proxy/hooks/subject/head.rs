//! `on_request`'s argument: the head of a client's request; its headers may be changed.

use std::convert::Infallible;

use serde_json::Value;

use super::super::Headers;
use super::super::point::Point;
use super::{Subject, fixed, text};
use crate::chat::Object;

/// The head of a request as `on_request` sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// `POST`; not changeable.
    pub method: String,
    /// The path with its query; not changeable.
    pub path: String,
    /// The model that the client asked for; not changeable.
    pub model: String,
    /// The request's headers, names in lower case, credentials left out. What they become, `run.headers` shows to all later hooks.
    pub headers: Headers,
}

impl Subject for Head {
    type Answer = Infallible;

    const POINT: Point = Point::OnRequest;

    fn into_fields(self) -> Object {
        let mut fields = Object::with_capacity(4);
        fields.insert("method".into(), Value::String(self.method));
        fields.insert("path".into(), Value::String(self.path));
        fields.insert("model".into(), Value::String(self.model));
        let headers = self.headers.into_iter().map(|(name, value)| (name, Value::String(value)));
        fields.insert("headers".into(), Value::Object(headers.collect()));
        fields
    }

    fn from_fields(mut fields: Object) -> Self {
        let headers = match fields.shift_remove("headers") {
            Some(Value::Object(headers)) => headers.into_iter().map(|(name, value)| (name, text(Some(value)))).collect(),
            _ => Vec::new(),
        };
        let mut field = |name: &str| text(fields.shift_remove(name));
        Head { method: field("method"), path: field("path"), model: field("model"), headers }
    }

    fn check(name: &str, value: Option<&Value>) -> Result<(), String> {
        let Some(value) = value.filter(|_| name == "headers") else {
            return Err(match name {
                "headers" => "head.headers must be a table".into(),
                _ => fixed("head", name, &["method", "path", "model"]),
            });
        };
        let headers = value.as_object().filter(|headers| headers.values().all(Value::is_string));
        let headers = headers.ok_or("head.headers must be a table of texts: header names and their values")?;
        match headers.keys().find(|name| name.is_empty() || name.chars().any(|c| c.is_ascii_uppercase())) {
            Some(name) => Err(format!("head.headers: the name `{name}` must be in lower case")),
            None => Ok(()),
        }
    }

    fn answer(_: Value) -> Result<Infallible, String> {
        Err("run:answer means nothing in `on_request`".into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_survive_the_way_there_and_back() {
        let headers = vec![("x-a".to_owned(), "1".to_owned())];
        let head = Head { method: "POST".into(), path: "/v1".into(), model: "m".into(), headers };
        assert_eq!(Head::from_fields(head.clone().into_fields()), head);
    }

    #[test]
    fn headers_are_texts_with_names_in_lower_case() {
        let check = |headers: Value| Head::check("headers", Some(&headers));
        assert!(check(json!({ "x-a": "1" })).is_ok());
        for wrong in [json!(3), json!({ "x-a": 1 }), json!({ "X-A": "1" }), json!([])] {
            assert!(check(wrong.clone()).is_err(), "{wrong}");
        }
        assert_eq!(Head::check("model", None).unwrap_err(), "head.model cannot be changed");
    }
}
