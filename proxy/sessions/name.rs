//! What a session is called: the id that a client chose, within the scope of its key.

use crate::error::{Error, Kind, Result};

/// The longest id, in bytes.
const MAX_ID: usize = 512;

/// A session's name. The same id of another key is another session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// Whose it is.
    pub scope: String,
    /// The client's id for it.
    pub id: String,
}

impl Name {
    /// A name, of an id that was checked.
    pub fn new(scope: &str, id: &str) -> Name {
        Name { scope: scope.to_owned(), id: id.to_owned() }
    }
}

/// The id as it counts: without blanks around it; `None` where nothing is left. `Err` names `place`, where it came from, when it is no id.
pub fn check(id: &str, place: &str) -> Result<Option<String>> {
    let id = id.trim();
    if id.is_empty() {
        return Ok(None);
    }
    if id.len() > MAX_ID || id.chars().any(char::is_control) {
        let message = format!("The session in '{place}' must have at most {MAX_ID} bytes and no control characters.");
        return Err(Error::new(Kind::InvalidValue, message).param(place));
    }
    Ok(Some(id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_plain() {
        assert_eq!(check(" chat 1 é ", "h").unwrap().as_deref(), Some("chat 1 é"));
        assert_eq!(check(" \t", "h").unwrap(), None);
        for id in ["a\nb", "a\0", "x\u{85}x", &"x".repeat(MAX_ID + 1), &"x".repeat(1 << 20)] {
            let error = check(id, "metadata.session_id").unwrap_err();
            assert_eq!((error.kind, error.param.as_deref()), (Kind::InvalidValue, Some("metadata.session_id")));
        }
        assert!(check(&"x".repeat(MAX_ID), "h").unwrap().is_some());
    }
}
