//! A tree read as a document's type: serde's deserializer, whose every error knows its place.
//!
//! Serde stops at the first error. So the value at fault is cut out of the tree and the tree is read again, until it
//! can be read: all faults are found, not just the first one.

mod reader;

use std::fmt;
use std::path::Path;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned};

use super::fault::{Fault, Spot, join};
use super::hint::{hint, near};
use super::tree::{Entry, Node, Value};

/// After so many faults the rest is not looked for.
const MAX_FAULTS: usize = 100;

/// Reads `node` as a `T`. `None` when it cannot be read at all; faults may be found although there is a `T`.
pub(super) fn decode<T: DeserializeOwned>(mut node: Node, file: &Path, faults: &mut Vec<Fault>) -> Option<T> {
    for _ in 0..MAX_FAULTS {
        match T::deserialize(&node) {
            Ok(value) => return Some(value),
            Err(error) => {
                if let Some(fault) = error.fault(&node, file) {
                    faults.push(fault);
                }
                cut(&mut node, &error.steps)?;
            }
        }
    }
    faults.push(Fault::whole(file, "has more faults than are listed here"));
    None
}

/// Takes the value at `steps` (innermost first) out. `None` when nothing would be left.
fn cut(node: &mut Node, steps: &[Step]) -> Option<()> {
    let (step, inner) = steps.split_last()?;
    let child = child(node, step)?;
    if inner.is_empty() {
        child.value = Value::Cut;
        return Some(());
    }
    cut(child, inner)
}

fn child<'a>(node: &'a mut Node, step: &Step) -> Option<&'a mut Node> {
    match (&mut node.value, step) {
        (Value::List(items), Step::Item(i)) => items.get_mut(*i),
        (Value::Map(entries), Step::Key(key)) => entries.iter_mut().find(|entry| entry.key == *key).map(|entry| &mut entry.value),
        _ => None,
    }
}

/// One step into a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

/// Why a tree cannot be read as a type.
#[derive(Debug)]
pub(super) struct Error {
    message: String,
    spot: Option<Spot>,
    /// The way to the value at fault, innermost step first.
    steps: Vec<Step>,
    /// The key whose absence is the fault.
    missing: Option<&'static str>,
}

impl Error {
    fn new(message: impl Into<String>) -> Self {
        Error { message: message.into(), spot: None, steps: Vec::new(), missing: None }
    }

    /// The innermost place wins.
    fn at(mut self, spot: Spot) -> Self {
        self.spot.get_or_insert(spot);
        self
    }

    fn within(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// `None` for a key that is missing because its fault was found before.
    fn fault(&self, root: &Node, file: &Path) -> Option<Fault> {
        let mut node = root;
        let mut path = String::new();
        for step in self.steps.iter().rev() {
            match (&node.value, step) {
                (Value::List(items), Step::Item(i)) => {
                    path = join(&path, &format!("[{i}]"));
                    node = items.get(*i).unwrap_or(node);
                }
                (Value::Map(entries), Step::Key(key)) => {
                    path = join(&path, key);
                    node = entries.iter().find(|entry| entry.key == *key).map_or(node, |entry| &entry.value);
                }
                _ => {}
            }
        }
        if let Some(missing) = self.missing {
            let known = |entry: &Entry| matches!(entry.value.value, Value::Cut) && near(&entry.key, [missing]).is_some();
            if matches!(&node.value, Value::Map(entries) if entries.iter().any(known)) {
                return None;
            }
            path = join(&path, missing);
        }
        Some(Fault::at(file, self.spot.unwrap_or(Spot::START), path, self.message.clone()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error::new(message.to_string())
    }

    /// Serde's own words quote the value, which may be a secret.
    fn invalid_type(found: de::Unexpected, expected: &dyn de::Expected) -> Self {
        let found = match found {
            de::Unexpected::Bool(_) => "a boolean",
            de::Unexpected::Unsigned(_) | de::Unexpected::Signed(_) | de::Unexpected::Float(_) => "a number",
            de::Unexpected::Seq => "a list",
            de::Unexpected::Map => "a mapping",
            de::Unexpected::Unit | de::Unexpected::Option => "nothing",
            _ => "a string",
        };
        Error::new(format!("must be {expected}, and is {found}"))
    }

    fn invalid_value(_: de::Unexpected, expected: &dyn de::Expected) -> Self {
        Error::new(format!("must be {expected}"))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Error::new(format!("is not a key here; {}", hint(field, expected.iter().copied(), "allowed are")))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let all = hint("", expected.iter().copied(), "must be one of");
        match near(variant, expected.iter().copied()) {
            Some(near) => Error::new(format!("{all}; did you mean `{near}`?")),
            None => Error::new(all),
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Error { missing: Some(field), ..Error::new("is missing") }
    }
}

/// Reads what `map` holds as a `T`: for visitors that accept a mapping beside something shorter.
pub(super) fn from_map<'de, T: de::Deserialize<'de>, A: de::MapAccess<'de>>(map: A) -> Result<T, A::Error> {
    T::deserialize(MapAccessDeserializer::new(map))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::config::tree;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read, never looked at")]
    struct Item {
        name: String,
        n: u8,
    }

    fn faults(text: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let node = tree::parse(Path::new("f"), text.as_bytes(), &mut faults).unwrap();
        decode::<Vec<Item>>(node, Path::new("f"), &mut faults);
        faults.iter().map(|fault| fault.key.clone() + ": " + &fault.message).collect()
    }

    #[test]
    fn all_faults_are_found_and_indexes_stay() {
        let found = faults("- {name: a, n: x}\n- {name: [], n: 1}\n- {name: c, n: 1}\n- 5\n- {name: d, n: 1, o: 2}");
        let keys: Vec<&str> = found.iter().filter_map(|fault| fault.split(':').next()).collect();
        assert_eq!(keys, ["[0].n", "[1].name", "[3]", "[4].o"]);
    }

    #[test]
    fn one_mistake_is_one_fault() {
        assert_eq!(faults("- {nmae: a, n: 1}"), ["[0].nmae: is not a key here; did you mean `name`?"]);
        assert_eq!(faults("- {name: a, n: x}").len(), 1, "`n` is not also missing");
        assert_eq!(faults("- {xyz: a, n: 1}").len(), 2, "`xyz` is not `name`, which is missing");
    }

    #[test]
    fn there_is_an_end_to_it() {
        let found = faults(&"- {}\n".repeat(1000));
        assert_eq!(found.len(), MAX_FAULTS + 1);
        assert!(found.last().is_some_and(|fault| fault.contains("more faults")));
    }
}
