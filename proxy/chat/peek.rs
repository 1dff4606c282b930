//! The little that routing must know of a JSON body: its `model`, where that stands, and where the document ends.

use std::fmt;
use std::ops::Range;

use serde::Deserializer as _;
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::request::{duplicate, malformed, wrong_type};
use crate::error::Result;

/// How deep a body may nest, as in serde_json.
const MAX_DEPTH: u32 = 128;

/// What routing needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peek {
    /// The top-level `model`, if there is one.
    pub model: Option<String>,
    /// Where its value stands in the body, quotes included.
    span: Range<usize>,
}

impl Peek {
    /// Checks that the body is one JSON object and reads its `model`. Everything else is only skipped.
    pub fn parse(body: &[u8]) -> Result<Peek> {
        let text = std::str::from_utf8(body).map_err(malformed)?;
        let mut json = serde_json::Deserializer::from_str(text);
        let model = json.deserialize_map(FindModel).and_then(|model| json.end().map(|()| model));
        let model = model.map_err(|e| if e.to_string().starts_with(TWICE) { duplicate("model") } else { malformed(e) })?;
        let Some(raw) = model else { return Ok(Peek::default()) };
        let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
        let model = serde_json::from_str::<String>(raw.get()).map_err(|_| wrong_type("model", "a string"))?;
        Ok(Peek { model: Some(model), span: start..start + raw.get().len() })
    }

    /// The same for bodies of which only some have a model: an array has none.
    pub fn parse_any(body: &[u8]) -> Result<Peek> {
        if body.trim_ascii_start().first() != Some(&b'[') {
            return Peek::parse(body);
        }
        std::str::from_utf8(body).map_err(malformed)?;
        serde_json::from_slice::<IgnoredAny>(body).map_err(malformed)?;
        Ok(Peek::default())
    }

    /// The body with `model` in place of its own, nothing else touched.
    pub fn replace_model(&self, body: &[u8], model: &str) -> Vec<u8> {
        let quoted = serde_json::Value::from(model).to_string();
        let mut replaced = Vec::with_capacity(body.len() + quoted.len());
        replaced.extend_from_slice(&body[..self.span.start]);
        replaced.extend_from_slice(quoted.as_bytes());
        replaced.extend_from_slice(&body[self.span.end..]);
        replaced
    }
}

const TWICE: &str = "model stands twice";

struct FindModel;

impl<'de> Visitor<'de> for FindModel {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut model = None;
        while let Some(is_model) = map.next_key::<Key>()? {
            if !is_model.0 {
                map.next_value::<IgnoredAny>()?;
            } else if model.replace(map.next_value::<&RawValue>()?).is_some() {
                return Err(A::Error::custom(TWICE));
            }
        }
        Ok(model)
    }
}

/// A key of the object, compared and never copied: whether it is `model`.
struct Key(bool);

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Compare;
        impl Visitor<'_> for Compare {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_str<E>(self, key: &str) -> Result<Key, E> {
                Ok(Key(key == "model"))
            }
        }
        deserializer.deserialize_str(Compare)
    }
}

/// Follows a JSON document as its bytes arrive: where it closes, and that it does not nest too deeply.
#[derive(Debug, Default)]
pub struct Extent {
    depth: u32,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Outside,
    Within,
    Text,
    Escape,
    Closed,
}

impl Extent {
    /// Takes the next bytes. `true` once the top-level object or array has closed; behind it only white space is allowed.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<bool> {
        let mut rest = bytes;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            self.state = match (self.state, byte) {
                (State::Text, b'"') => State::Within,
                (State::Text, b'\\') => State::Escape,
                (State::Text, _) => {
                    // Strings are most of a body: jump to what may end one.
                    let skip = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    rest = &rest[skip..];
                    State::Text
                }
                (State::Escape, _) => State::Text,
                (State::Outside | State::Within, b'{' | b'[') => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(malformed(format!("it nests deeper than {MAX_DEPTH} levels")));
                    }
                    State::Within
                }
                (State::Within, b'}' | b']') => {
                    self.depth -= 1;
                    if self.depth == 0 { State::Closed } else { State::Within }
                }
                (State::Within, b'"') => State::Text,
                (State::Within, _) => State::Within,
                (state, b' ' | b'\t' | b'\r' | b'\n') => state,
                (State::Outside, _) => return Err(malformed("it is not a JSON object")),
                (State::Closed, _) => return Err(malformed("something stands behind the JSON object")),
            };
        }
        Ok(self.state == State::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn finds_and_replaces_the_model() {
        let body = br#"{"a":{"model":"no"}, "model" : "m\u00e4x" ,"z":[1]}"#;
        let peek = Peek::parse(body).unwrap();
        assert_eq!(peek.model.as_deref(), Some("m\u{e4}x"));
        assert_eq!(peek.replace_model(body, "b\"c"), br#"{"a":{"model":"no"}, "model" : "b\"c" ,"z":[1]}"#);
        assert_eq!(Peek::parse(b"{}").unwrap().model, None);
        assert_eq!(Peek::parse_any(b" [1]").unwrap(), Peek::default());
        assert!(Peek::parse_any(b"[1").is_err() && Peek::parse_any(b"1").is_err());
    }

    #[test]
    fn refuses_what_cannot_be_routed() {
        let kind = |body: &[u8]| Peek::parse(body).unwrap_err().kind;
        assert_eq!(kind(b""), Kind::MalformedJson);
        assert_eq!(kind(b"[]"), Kind::MalformedJson);
        assert_eq!(kind(b"{\"model\":\"a\"} x"), Kind::MalformedJson);
        assert_eq!(kind(b"{\"x\":\"\xff\"}"), Kind::MalformedJson);
        assert_eq!(kind(br#"{"model":"a","mod\u0065l":"b"}"#), Kind::DuplicateKey);
        assert_eq!(kind(br#"{"model":1}"#), Kind::InvalidType);
    }

    fn extent(bytes: &[u8]) -> Result<bool> {
        Extent::default().feed(bytes)
    }

    #[test]
    fn sees_the_end_of_the_document() {
        let body = br#" {"a":"}\"\\","b":[{}]} "#;
        for cut in 0..body.len() {
            let mut extent = Extent::default();
            let early = extent.feed(&body[..cut]).unwrap();
            assert_eq!(early, cut >= body.len() - 1, "{cut}");
            assert!(extent.feed(&body[cut..]).unwrap());
        }
    }

    #[test]
    fn bounds_depth_and_refuses_what_stands_around_it() {
        assert!(extent(&[b'['; 128]).is_ok());
        assert!(extent(&[b'['; 129]).is_err());
        assert!(extent(b"{} x").is_err());
        assert!(extent(b"1").is_err());
    }
}
