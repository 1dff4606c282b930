//! Durations as a person writes them: `500ms`, `30s`, `5m`, `24h`, `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

const FORM: &str = "a duration such as `500ms`, `30s`, `5m` or `24h`";
/// Far beyond what a timeout can mean, and near enough that no clock overflows.
const MAX: Duration = Duration::from_secs(3650 * 86_400);
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a duration, for `#[serde(with)]`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Written)
}

/// Writes a duration in its largest unit, for `#[serde(with)]`.
pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&written(*duration))
}

/// The JSON Schema, for `#[schemars(schema_with)]`.
pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$" })
}

/// The duration that `text` writes.
fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(rest.len());
        let (_, millis) = UNITS.iter().find(|(unit, _)| *unit == &rest[..letters])?;
        rest = &rest[letters..];
        total = total.checked_add(Duration::from_millis(count.checked_mul(*millis)?))?;
    }
    (!text.is_empty() && total <= MAX).then_some(total)
}

fn written(duration: Duration) -> Cow<'static, str> {
    let millis = duration.as_millis();
    let whole = UNITS.iter().rev().find(|(_, unit)| millis > 0 && millis.is_multiple_of(u128::from(*unit)));
    match whole {
        // Two days and fewer read better in hours.
        Some(("d", unit)) if millis <= 2 * u128::from(*unit) => format!("{}h", millis / 3_600_000).into(),
        Some((name, unit)) => format!("{}{name}", millis / u128::from(*unit)).into(),
        None => "0s".into(),
    }
}

struct Written;

impl Visitor<'_> for Written {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORM)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        parse(text).ok_or_else(|| E::custom(format_args!("must be {FORM}, at most 3650d")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        let cases = [("500ms", 500), ("4s", 4_000), ("2m", 120_000), ("1h30m", 5_400_000), ("24h", 86_400_000), ("0s", 0)];
        for (text, millis) in cases {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(parse(&written(Duration::from_millis(millis))), Some(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(written(Duration::from_secs(86_400)), "24h");
        assert_eq!(written(Duration::from_secs(300)), "5m");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "5", "s", "5x", "5 s", "-5s", "1.5s", "5S", "99999999999999999999s", "3651d", "5s!", "18446744073709551615d"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
