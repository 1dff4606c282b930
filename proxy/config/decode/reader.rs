//! A node as serde's deserializer.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

use super::{Error, Step};
use crate::config::hint::hint;
use crate::config::tree::{Entry, Node, Scalar, Style, Value};

impl Node {
    fn found(&self) -> &'static str {
        match &self.value {
            Value::Null | Value::Cut => "nothing",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Scalar(scalar) if scalar.variable => "text from a variable",
            Value::Scalar(Scalar { style: Style::Quoted, .. }) => "a string",
            Value::Scalar(Scalar { text, .. }) if matches!(text.as_str(), "true" | "false") => "a boolean",
            Value::Scalar(Scalar { text, .. }) if number(text) => "a number",
            Value::Scalar(_) => "a string",
        }
    }

    fn mismatch(&self, expected: impl fmt::Display) -> Error {
        Error::new(format!("must be {expected}, and is {}", self.found())).at(self.spot)
    }

    /// The text of a scalar that may be read as a number or boolean: not one that was quoted by hand.
    fn bare(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if scalar.variable || scalar.style != Style::Quoted => Some(scalar.text.trim()),
            _ => None,
        }
    }

    fn string(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if scalar.style != Style::Literal => Some(&scalar.text),
            _ => None,
        }
    }
}

/// Whether YAML reads `text` as a number in base ten.
fn number(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'))
        && text.parse::<f64>().is_ok()
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.bare().map(str::parse::<$type>) {
                Some(Ok(value)) => visitor.$visit(value).map_err(|error: Error| error.at(self.spot)),
                _ if <$type>::MIN == 0 && <$type>::BITS == 64 => Err(self.mismatch("a whole number, 0 or more")),
                _ => Err(self.mismatch(format_args!("a whole number from {} to {}", <$type>::MIN, <$type>::MAX))),
            }
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &Node {
    type Error = Error;

    integers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let scalar = match &self.value {
            Value::Null | Value::Cut => return visitor.visit_unit().map_err(|error: Error| error.at(self.spot)),
            Value::List(_) => return self.deserialize_seq(visitor),
            Value::Map(_) => return self.deserialize_map(visitor),
            Value::Scalar(scalar) => scalar,
        };
        let text = scalar.text.as_str();
        let value = if scalar.style == Style::Quoted {
            visitor.visit_str(text)
        } else if let "true" | "True" | "TRUE" | "false" | "False" | "FALSE" = text {
            visitor.visit_bool(text.starts_with(['t', 'T']))
        } else if !number(text) {
            visitor.visit_str(text)
        } else if let Ok(value) = text.parse() {
            visitor.visit_u64(value)
        } else if let Ok(value) = text.parse() {
            visitor.visit_i64(value)
        } else {
            visitor.visit_f64(text.parse().unwrap_or_default())
        };
        value.map_err(|error: Error| error.at(self.spot))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.bare() {
            Some("true" | "True" | "TRUE") => visitor.visit_bool(true),
            Some("false" | "False" | "FALSE") => visitor.visit_bool(false),
            _ => Err(self.mismatch("`true` or `false`")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.bare().filter(|text| number(text)).map(str::parse) {
            Some(Ok(value)) => visitor.visit_f64(value).map_err(|error: Error| error.at(self.spot)),
            _ => Err(self.mismatch("a number")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.string() {
            Some(text) => visitor.visit_str(text).map_err(|error: Error| error.at(self.spot)),
            None => Err(self.mismatch(&visitor as &dyn de::Expected)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    /// Nothing is absent, and so is what an empty variable leaves behind: `${KEY:-}`.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::Null => visitor.visit_none(),
            Value::Scalar(scalar) if scalar.variable && scalar.text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    /// A key with nothing behind it is an empty list: everything below may be commented out.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::List(items) => visitor.visit_seq(Items { items, next: 0 }),
            Value::Null => visitor.visit_seq(Items { items: &[], next: 0 }),
            _ => return Err(self.mismatch("a list")),
        }
        .map_err(|error: Error| error.at(self.spot))
    }

    /// As with lists, nothing is an empty mapping.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.value {
            Value::Map(entries) => visitor.visit_map(Entries { entries, next: 0 }),
            Value::Null => visitor.visit_map(Entries { entries: &[], next: 0 }),
            _ => return Err(self.mismatch("a mapping")),
        }
        .map_err(|error: Error| error.at(self.spot))
    }

    fn deserialize_struct<V: Visitor<'de>>(self, _: &'static str, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(self, _: &'static str, variants: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        match self.string() {
            Some(text) => {
                let text: StrDeserializer<Error> = text.into_deserializer();
                visitor.visit_enum(text).map_err(|error: Error| error.at(self.spot))
            }
            None => Err(self.mismatch(hint("", variants.iter().copied(), "one of"))),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! { bytes byte_buf unit unit_struct tuple tuple_struct identifier }
}

struct Items<'a> {
    items: &'a [Node],
    next: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        while let Some(item) = self.items.get(self.next) {
            self.next += 1;
            if !matches!(item.value, Value::Cut) {
                return seed.deserialize(item).map(Some).map_err(|error| error.within(Step::Item(self.next - 1)));
            }
        }
        Ok(None)
    }
}

struct Entries<'a> {
    entries: &'a [Entry],
    next: usize,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        while let Some(entry) = self.entries.get(self.next) {
            self.next += 1;
            if !matches!(entry.value.value, Value::Cut) {
                let key: StrDeserializer<Error> = entry.key.as_str().into_deserializer();
                let within = |error: Error| error.at(entry.spot).within(Step::Key(entry.key.clone()));
                return seed.deserialize(key).map(Some).map_err(within);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let entry = self.next.checked_sub(1).and_then(|at| self.entries.get(at));
        let Some(entry) = entry else {
            return Err(Error::new("has a key without a value"));
        };
        seed.deserialize(&entry.value).map_err(|error| error.within(Step::Key(entry.key.clone())))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde::Deserialize;
    use serde::de::DeserializeOwned;
    use serde_json::{Value as Json, json};

    use crate::config::decode::decode;
    use crate::config::{tree, variables};

    /// `text` as a `T`, or the first fault. The variable `N` is 7, `EMPTY` is empty.
    fn read<T: DeserializeOwned>(name: &str, text: &str) -> Result<T, String> {
        let (path, mut faults) = (Path::new(name), Vec::new());
        let mut node = tree::parse(path, text.as_bytes(), &mut faults).unwrap();
        let lookup = |name: &str| Some(if name == "N" { "7".to_owned() } else { String::new() });
        variables::replace(&mut node, &lookup, path, &mut faults);
        let value = decode(node, path, &mut faults);
        match faults.first() {
            Some(fault) => Err(fault.to_string()),
            None => Ok(value.unwrap()),
        }
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Doc<T> {
        x: T,
    }

    fn x<T: DeserializeOwned>(text: &str) -> Result<T, String> {
        read::<Doc<T>>("f.yaml", text).map(|doc| doc.x)
    }

    #[test]
    fn a_variable_is_read_as_the_type_of_its_field() {
        assert_eq!(x::<u16>("x: ${N}"), Ok(7));
        assert_eq!(x::<u16>("x: '${N}'"), Ok(7));
        assert_eq!(x::<f64>("x: ${N}.5"), Ok(7.5));
        assert_eq!(x::<String>("x: ${N}"), Ok("7".into()));
        assert_eq!(x::<Option<String>>("x: ${EMPTY}"), Ok(None));
        assert_eq!(x::<String>("x: ${EMPTY}"), Ok(String::new()));
        assert_eq!(x::<Json>("x: ${N}"), Ok(json!(7)));
        assert_eq!(x::<Json>("x: '${N}'"), Ok(json!("7")));
        assert_eq!(read::<Doc<u16>>("f.json", r#"{"x": "${N}"}"#), Ok(Doc { x: 7 }));
    }

    #[test]
    fn yaml_is_read_as_its_field_needs_and_json_as_it_is() {
        assert_eq!(x::<String>("x: 0123"), Ok("0123".into()));
        assert_eq!(x::<String>("x: no"), Ok("no".into()));
        assert_eq!(x::<bool>("x: true"), Ok(true));
        assert_eq!(x::<Option<u8>>("x: ~"), Ok(None));
        assert_eq!(x::<Vec<u8>>("x:"), Ok(vec![]));
        assert!(x::<u8>("x: '5'").is_err() && x::<u8>("x: 256").is_err() && x::<u8>("x: 1.0").is_err());
        assert!(x::<bool>("x: yes").is_err() && x::<String>("x:").is_err() && x::<f64>("x: nan").is_err());
        assert!(read::<Doc<String>>("f.json", r#"{"x": 5}"#).is_err());
    }

    #[test]
    fn any_value_is_what_it_looks_like() {
        let text = "x: {a: 1, b: -2, c: 1.5, d: true, e: null, f: 'true', g: [x, 1e3], h: 1.2.3, i: +5}";
        let want = json!({"a": 1, "b": -2, "c": 1.5, "d": true, "e": null, "f": "true", "g": ["x", 1000.0], "h": "1.2.3", "i": 5});
        assert_eq!(x::<Json>(text), Ok(want));
    }

    #[test]
    fn every_fault_has_its_place() {
        assert_eq!(x::<u8>("y: 1\nx: 1").unwrap_err(), "f.yaml:1:1: y: is not a key here; did you mean `x`?");
        assert_eq!(x::<Vec<Doc<u8>>>("x:\n- x: 1\n- x: a").unwrap_err().split(": must").next(), Some("f.yaml:3:6: x[1].x"));
        assert_eq!(x::<Vec<Doc<u8>>>("x:\n- {}").unwrap_err(), "f.yaml:2:3: x[0].x: is missing");
    }
}
