//! The body of an HTTP tool's request: a template of JSON or text that no value can break out of.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;

use super::template::{Template, encode, present};
use crate::chat::Object;
use crate::chat::markup;

/// A body with `{name}` in it.
#[derive(Debug)]
pub(super) enum Body {
    /// JSON: a string that is one `{name}` becomes the argument's own value, other strings take it as text.
    Json(Node),
    /// Text, whose values are written as its content type demands.
    Text(Template, Escape),
}

#[derive(Debug)]
pub(super) enum Node {
    Plain(Value),
    Text(Template),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// How a value is written inside a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    Nothing,
    Form,
    Xml,
}

impl Body {
    /// Reads a body as configured. A string that holds JSON is JSON, so that quotes in a value stay inside theirs.
    pub(super) fn parse(body: &Value, content_type: Option<&str>) -> Body {
        let Value::String(text) = body else { return Body::Json(Node::parse(body)) };
        if let Ok(inner @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
            return Body::Json(Node::parse(&inner));
        }
        let kind = content_type.unwrap_or_default().to_ascii_lowercase();
        let escape = if kind.starts_with("application/x-www-form-urlencoded") {
            Escape::Form
        } else if kind.contains("xml") || kind.contains("html") {
            Escape::Xml
        } else {
            Escape::Nothing
        };
        Body::Text(Template::parse(text), escape)
    }

    /// The names of the arguments in it.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        match self {
            Body::Json(node) => node.names(&mut names),
            Body::Text(template, _) => names = template.names(),
        }
        names
    }

    /// The body for these arguments, and its content type where the configuration names none.
    pub(super) fn fill(&self, arguments: &Object) -> Result<(Bytes, &'static str), String> {
        match self {
            Body::Json(node) => {
                let value = node.fill(arguments).unwrap_or(Value::Null);
                Ok((Bytes::from(value.to_string()), "application/json"))
            }
            Body::Text(template, escape) => {
                let write = |text: &str| match escape {
                    Escape::Nothing => text.to_owned(),
                    Escape::Form => encode(text),
                    Escape::Xml => markup::escape(text),
                };
                let absent = || {
                    let name = template.names().into_iter().find(|name| present(arguments, name).is_none());
                    format!("the argument `{}` is missing", name.unwrap_or_default())
                };
                let text = template.fill(arguments, write).ok_or_else(absent)?;
                Ok((Bytes::from(text), "text/plain; charset=utf-8"))
            }
        }
    }
}

impl Node {
    fn parse(value: &Value) -> Node {
        match value {
            Value::String(text) => {
                let template = Template::parse(text);
                match template.literal() {
                    Some(text) => Node::Plain(Value::from(text)),
                    None => Node::Text(template),
                }
            }
            Value::Array(items) => Node::List(items.iter().map(Node::parse).collect()),
            Value::Object(map) => Node::Map(map.iter().map(|(key, value)| (key.clone(), Node::parse(value))).collect()),
            other => Node::Plain(other.clone()),
        }
    }

    fn names<'a>(&'a self, names: &mut BTreeSet<&'a str>) {
        match self {
            Node::Plain(_) => {}
            Node::Text(template) => names.extend(template.names()),
            Node::List(items) => items.iter().for_each(|item| item.names(names)),
            Node::Map(map) => map.iter().for_each(|(_, item)| item.names(names)),
        }
    }

    /// `None` where an argument was not given: the key or the item is left out.
    fn fill(&self, arguments: &Object) -> Option<Value> {
        Some(match self {
            Node::Plain(value) => value.clone(),
            Node::Text(template) => match template.only() {
                Some(name) => present(arguments, name)?.clone(),
                None => Value::String(template.fill(arguments, |text| text.to_owned())?),
            },
            Node::List(items) => items.iter().filter_map(|item| item.fill(arguments)).collect(),
            Node::Map(map) => Value::Object(map.iter().filter_map(|(key, item)| Some((key.clone(), item.fill(arguments)?))).collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(body: Value, content_type: Option<&str>, arguments: Value) -> Result<String, String> {
        let (bytes, _) = Body::parse(&body, content_type).fill(arguments.as_object().unwrap())?;
        Ok(String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[test]
    fn json_takes_values_with_their_types() {
        let body = json!({ "n": "{n}", "text": "n is {n}", "list": ["{list}", 1], "gone": "{gone}", "plain": true });
        assert_eq!(
            fill(body, None, json!({ "n": 5, "list": [1, 2] })).unwrap(),
            r#"{"n":5,"text":"n is 5","list":[[1,2],1],"plain":true}"#
        );
    }

    #[test]
    fn a_value_cannot_break_out() {
        let evil = json!({ "q": r#"x", "admin": true, "y": ""# });
        let json = fill(json!(r#"{"q": "{q}"}"#), None, evil.clone()).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), evil);
        let form = Some("application/x-www-form-urlencoded");
        assert_eq!(fill(json!("q={q}&a=1"), form, json!({ "q": "x&admin=1" })).unwrap(), "q=x%26admin%3D1&a=1");
        let xml = fill(json!("<q>{q}</q>"), Some("text/xml"), json!({ "q": "</q><admin/>" })).unwrap();
        assert_eq!(xml, "<q>&lt;/q&gt;&lt;admin/&gt;</q>");
    }

    #[test]
    fn text_needs_its_arguments() {
        assert_eq!(fill(json!("hello {name}"), None, json!({ "name": "you" })).unwrap(), "hello you");
        assert_eq!(fill(json!("hello {name}"), None, json!({})).unwrap_err(), "the argument `name` is missing");
    }
}
