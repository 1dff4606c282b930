//! What is wrong with a configuration, and where.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in a file, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named.
    pub file: PathBuf,
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// Something wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where. Absent when there is no such place: a file that cannot be read.
    pub place: Option<Place>,
    /// Which key, as a path: `agents[0].tools[1].name`. Empty for the file as a whole.
    pub key: String,
    /// What is wrong, and what would be right. Names may be quoted, other values not: they may be secrets.
    pub message: String,
}

/// `file:line:col: key: message`.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { file, line, column }) = &self.place {
            write!(f, "{}:{line}:{column}: ", file.display())?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Where a value or a key stands in its file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub line: usize,
    pub column: usize,
}

impl Spot {
    /// The beginning of a file.
    pub(super) const START: Spot = Spot { line: 1, column: 1 };
}

/// Where each key of one file stands.
#[derive(Debug)]
pub(super) struct Places {
    pub file: PathBuf,
    pub spots: HashMap<String, Spot>,
}

/// Where a document stands: turns its keys into places.
#[derive(Debug, Clone)]
pub struct Origin {
    places: Arc<Places>,
    prefix: String,
}

impl Origin {
    pub(super) fn new(places: Places) -> Self {
        Origin { places: Arc::new(places), prefix: String::new() }
    }

    /// The origin of the part at `key`: the keys of its faults are relative to that part.
    pub fn part(&self, key: &str) -> Origin {
        Origin { places: self.places.clone(), prefix: join(&self.prefix, key) }
    }

    /// The file that the document is in, as it was named.
    pub fn file(&self) -> &Path {
        &self.places.file
    }

    /// Every key that is written below this origin, relative to it.
    pub(super) fn written(&self) -> impl Iterator<Item = &str> {
        let below = self.places.spots.keys().filter_map(|key| key.strip_prefix(self.prefix.as_str()));
        below.map(|key| key.strip_prefix('.').unwrap_or(key)).filter(|key| !key.is_empty())
    }

    /// A fault in the value at `key` (`tools[1].name`; empty for the whole document).
    /// A key that is not written there gets the place of the nearest one around it.
    pub fn fault(&self, key: &str, message: impl Into<String>) -> Fault {
        let key = join(&self.prefix, key);
        let mut around = key.as_str();
        let spot = loop {
            match self.places.spots.get(around) {
                Some(spot) => break *spot,
                None if around.is_empty() => break Spot::START,
                None => around = &around[..around.rfind(['.', '[']).unwrap_or(0)],
            }
        };
        Fault::at(&self.places.file, spot, key, message)
    }
}

impl Fault {
    pub(super) fn at(file: &Path, spot: Spot, key: impl Into<String>, message: impl Into<String>) -> Self {
        let place = Place { file: file.to_owned(), line: spot.line, column: spot.column };
        Fault { place: Some(place), key: key.into(), message: message.into() }
    }

    /// A fault of a file or folder as a whole, which has no lines: it cannot be read.
    pub(super) fn whole(path: &Path, message: impl fmt::Display) -> Self {
        Fault { place: None, key: String::new(), message: format!("{}: {message}", path.display()) }
    }
}

/// The path of `key` below `path`.
pub(super) fn join(path: &str, key: &str) -> String {
    match (path.is_empty(), key.is_empty() || key.starts_with('[')) {
        (true, _) => key.to_owned(),
        (false, true) => format!("{path}{key}"),
        (false, false) => format!("{path}.{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        let spots = [("", 1), ("agents[0]", 3), ("agents[0].tools[1]", 5), ("agents[0].tools[1].name", 6)];
        let spots = spots.map(|(key, line)| (key.to_owned(), Spot { line, column: 2 })).into();
        Origin::new(Places { file: "g.yaml".into(), spots })
    }

    #[test]
    fn a_fault_reads_as_file_line_column_key_message() {
        let fault = origin().part("agents[0]").fault("tools[1].name", "is taken");
        assert_eq!(fault.to_string(), "g.yaml:6:2: agents[0].tools[1].name: is taken");
        assert_eq!(Fault::whole(Path::new("a"), "is not there").to_string(), "a: is not there");
    }

    #[test]
    fn an_unwritten_key_gets_the_nearest_place_around_it() {
        let at = |key: &str| origin().fault(key, "").place.map(|place| place.line);
        assert_eq!(at("agents[0].tools[1].url"), Some(5));
        assert_eq!(at("agents[0].policies.timeout"), Some(3));
        assert_eq!(at("upstreams.x"), Some(1));
    }
}
