//! Amounts of memory as a person writes them: `512MiB`, `2GiB`, or a number of bytes.

use std::fmt;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

const FORM: &str = "an amount such as `512MiB` or `2GiB`, or a number of bytes";
const UNITS: [(&str, u64); 3] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads an amount in bytes, for `#[serde(with)]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    deserializer.deserialize_any(Written)
}

/// Writes an amount in its largest whole unit, for `#[serde(with)]`.
pub(super) fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    match UNITS.iter().rev().find(|(_, unit)| *bytes > 0 && bytes.is_multiple_of(*unit)) {
        Some((name, unit)) => serializer.serialize_str(&format!("{}{name}", bytes / unit)),
        None => serializer.serialize_u64(*bytes),
    }
}

/// The JSON Schema, for `#[schemars(schema_with)]`.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string", "pattern": "^[0-9]+(KiB|MiB|GiB)$" }, { "type": "integer", "minimum": 0 }] })
}

fn parse(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let count: u64 = text[..digits].parse().ok()?;
    match &text[digits..] {
        "" => Some(count),
        name => count.checked_mul(UNITS.iter().find(|(unit, _)| *unit == name)?.1),
    }
}

struct Written;

impl Visitor<'_> for Written {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORM)
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
        Ok(bytes)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        parse(text).ok_or_else(|| E::custom(format_args!("must be {FORM}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read() {
        assert_eq!(parse("512MiB"), Some(512 << 20));
        assert_eq!(parse("2GiB"), Some(2 << 30));
        assert_eq!(parse("4096"), Some(4096));
        for text in ["", "MiB", "1 GiB", "1GB", "-1", "1.5GiB", "99999999999GiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
