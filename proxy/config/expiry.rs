//! The moment from which a key is refused, as a person writes it: a day or an instant of RFC 3339.

use std::fmt;
use std::time::SystemTime;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::{OffsetDateTime, Time};

const FORM: &str = "a day such as `2027-01-31`, which begins in UTC, or an instant such as `2027-01-31T18:00:00+01:00`";

/// A moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry(OffsetDateTime);

impl Expiry {
    /// Whether it has come.
    pub fn is_over(&self, now: SystemTime) -> bool {
        OffsetDateTime::from(now) >= self.0
    }
}

fn parse(text: &str) -> Option<Expiry> {
    if let Ok(instant) = OffsetDateTime::parse(text, &Rfc3339) {
        return Some(Expiry(instant));
    }
    // A day is the beginning of an instant.
    let is_day = text.len() == "2027-01-31".len();
    let midnight = OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339).ok().filter(|_| is_day)?;
    Some(Expiry(midnight.replace_time(Time::MIDNIGHT)))
}

impl<'de> Deserialize<'de> for Expiry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl Visitor<'_> for Written {
            type Value = Expiry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(FORM)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Expiry, E> {
                parse(text).ok_or_else(|| E::custom(format_args!("must be {FORM}")))
            }
        }
        deserializer.deserialize_str(Written)
    }
}

impl Serialize for Expiry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.format(&Rfc3339).unwrap_or_default())
    }
}

impl JsonSchema for Expiry {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expiry".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}([Tt].+)?$" })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn days_and_instants_are_read() {
        let seconds = |text: &str| parse(text).map(|expiry| expiry.0.unix_timestamp());
        assert_eq!(seconds("1970-01-02"), Some(86_400));
        assert_eq!(seconds("1970-01-02T01:00:00+01:00"), Some(86_400));
        for text in ["", "tomorrow", "2027-13-01", "2027-1-1", "2027-01-31T18:00", "2027-01-31 ", "20270131"] {
            assert_eq!(seconds(text), None, "{text}");
        }
        let expiry = parse("1970-01-02").unwrap();
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        assert!(!expiry.is_over(at(86_399)) && expiry.is_over(at(86_400)));
    }
}
