//! `/sessions` and `/sessions/{id}`: for admins every key's, for others their own.

use http::{Method, StatusCode};
use serde_json::json;

use super::{Page, Visitor};
use crate::downstream::Answer;
use crate::error::{Error, Kind, Result};
use crate::sessions::name::Name;
use crate::snapshot::Snapshot;

/// How many sessions a page of the list has, at most and unless it is asked for fewer.
const MAX_LISTED: usize = 1000;
const LISTED: usize = 100;

/// Answers a request for the list, or for one session.
pub(super) async fn open(page: &Page, visitor: &Visitor<'_>, snapshot: &Snapshot) -> Result<Answer> {
    let asked = Asked::parse(visitor.query)?;
    let scope = scope(page, visitor, snapshot, asked.key)?;
    let sessions = &snapshot.around.sessions;
    let Page::Session(id) = page else {
        let listed = sessions.list(scope.as_deref(), asked.after.as_deref(), asked.limit + 1).await?;
        let has_more = listed.len() > asked.limit;
        return Ok(Answer::json(&json!({ "sessions": listed.iter().take(asked.limit).collect::<Vec<_>>(), "has_more": has_more })));
    };
    let name = Name::new(scope.as_deref().unwrap_or_default(), id);
    if visitor.method == Method::DELETE {
        return if sessions.delete(&name).await? { Ok(Answer::empty(StatusCode::NO_CONTENT)) } else { Err(unknown(id)) };
    }
    let turns = sessions.read(&name).await?;
    if turns.is_empty() {
        return Err(unknown(id));
    }
    Ok(Answer::json(&json!({ "id": name.id, "key": name.scope, "turns": turns })))
}

/// Another key's session is as unknown as one that never was.
fn unknown(id: &str) -> Error {
    Error::new(Kind::NotFound, format!("There is no session '{id}'."))
}

/// Whose sessions are meant: `None` is everybody's, in a list for admins who name no key.
fn scope(page: &Page, visitor: &Visitor<'_>, snapshot: &Snapshot, key: Option<String>) -> Result<Option<String>> {
    if !snapshot.access.has_keys() {
        visitor.authorize(snapshot)?;
        return Ok(Some(String::new()));
    }
    let caller = snapshot.access.check(visitor.headers)?;
    match key {
        Some(key) if caller.is_admin() || key == caller.scope() => Ok(Some(key)),
        Some(_) => Err(Error::new(Kind::Rejected, "This key may see its own sessions only.")),
        None if caller.is_admin() && *page == Page::Sessions => Ok(None),
        None => Ok(Some(caller.scope().to_owned())),
    }
}

/// What the query asks for.
#[derive(Debug, PartialEq)]
struct Asked {
    key: Option<String>,
    after: Option<String>,
    limit: usize,
}

impl Asked {
    fn parse(query: &str) -> Result<Asked> {
        let mut asked = Asked { key: None, after: None, limit: LISTED };
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "key" => asked.key = Some(value.into_owned()),
                "after" => asked.after = Some(value.into_owned()),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=MAX_LISTED).contains(limit));
                    let wrong =
                        || Error::new(Kind::InvalidValue, format!("'limit' must be a number from 1 to {MAX_LISTED}.")).param("limit");
                    asked.limit = limit.ok_or_else(wrong)?;
                }
                _ => return Err(Error::new(Kind::InvalidValue, format!("There is no parameter '{name}' here.")).param(name)),
            }
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_is_read_strictly() {
        let asked = |key: Option<&str>, after: Option<&str>, limit| Asked { key: key.map(Into::into), after: after.map(Into::into), limit };
        assert_eq!(Asked::parse("").unwrap(), asked(None, None, LISTED));
        assert_eq!(Asked::parse("key=a%20b&limit=5&after=x").unwrap(), asked(Some("a b"), Some("x"), 5));
        for wrong in ["limit=0", "limit=x", "limit=1001", "page=2"] {
            assert_eq!(Asked::parse(wrong).unwrap_err().kind, Kind::InvalidValue, "{wrong}");
        }
    }
}
