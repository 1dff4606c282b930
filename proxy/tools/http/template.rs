//! Text with `{name}` in it, and what an argument's value may become at each place of a request.

use std::collections::BTreeSet;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::chat::Object;

/// Everything but RFC 3986's unreserved characters: what is left can end no segment, no pair, and no part of a url.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Text in which `{name}` stands for an argument; `{{` and `}}` are braces. A brace that opens no name is itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Argument(String),
}

impl Template {
    /// Never fails: what is no `{name}` is text.
    pub(super) fn parse(text: &str) -> Template {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let argument = rest.strip_prefix('{').and_then(|after| after.split_once('}')).filter(|(name, _)| is_name(name));
            if let Some(after) = rest.strip_prefix("{{").or_else(|| rest.strip_prefix("}}")) {
                plain.push(c);
                rest = after;
            } else if let Some((name, after)) = argument {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Argument(name.to_owned()));
                rest = after;
            } else {
                plain.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Template { parts }
    }

    /// The names of the arguments in it.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        let names = self.parts.iter().filter_map(|part| match part {
            Part::Argument(name) => Some(name.as_str()),
            Part::Text(_) => None,
        });
        names.collect()
    }

    /// The name, when the text is one argument and nothing else.
    pub(super) fn only(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Argument(name)] => Some(name),
            _ => None,
        }
    }

    /// The text, when there is no argument in it.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text with each argument's value as `write` writes it; `None` when an argument is absent or null.
    pub(super) fn fill(&self, arguments: &Object, write: impl Fn(&str) -> String) -> Option<String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Argument(name) => text.push_str(&write(&words(present(arguments, name)?))),
            }
        }
        Some(text)
    }
}

/// A name that can stand between braces.
fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// The argument, unless it is absent or null.
pub(super) fn present<'a>(arguments: &'a Object, name: &str) -> Option<&'a Value> {
    arguments.get(name).filter(|value| !value.is_null())
}

/// A value as a person would write it: strings bare, lists of simple values joined by commas, the rest as JSON.
pub(super) fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(|item| !item.is_array() && !item.is_object()) => {
            items.iter().map(words).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// A value that can stand anywhere behind a url's host without changing the url's shape.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fill(template: &str, arguments: Value) -> Option<String> {
        Template::parse(template).fill(arguments.as_object().unwrap(), str::to_owned)
    }

    #[test]
    fn names_are_replaced_and_other_braces_stay() {
        for (template, want) in [
            ("{a}", "1"),
            ("x{a}y{b}", "x1ytwo"),
            ("{{a}}", "{a}"),
            (r#"{"q": "{b}"}"#, r#"{"q": "two"}"#),
            ("{ a }{", "{ a }{"),
            ("{1}", "{1}"),
            ("", ""),
            ("ä{b}ö", "ätwoö"),
        ] {
            assert_eq!(fill(template, json!({"a": 1, "b": "two"})).as_deref(), Some(want), "{template}");
        }
    }

    #[test]
    fn a_value_is_not_a_template() {
        assert_eq!(fill("{a}", json!({"a": "{b}", "b": "no"})).as_deref(), Some("{b}"));
    }

    #[test]
    fn an_absent_argument_leaves_nothing() {
        assert_eq!(fill("x{a}", json!({})), None);
        assert_eq!(fill("x{a}", json!({"a": null})), None);
    }

    #[test]
    fn values_are_written_as_people_do() {
        assert_eq!(words(&json!(["a", 1, true])), "a,1,true");
        assert_eq!(words(&json!({"a": 1})), r#"{"a":1}"#);
        assert_eq!(words(&json!(1.5)), "1.5");
    }

    #[test]
    fn encoded_values_have_no_meaning_to_a_url() {
        assert_eq!(encode("a/b?c=d&e#f%2e\\\r\n @:é"), "a%2Fb%3Fc%3Dd%26e%23f%252e%5C%0D%0A%20%40%3A%C3%A9");
        assert_eq!(encode("A-z.0_9~"), "A-z.0_9~");
    }
}
