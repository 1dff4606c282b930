//! Tells the pieces of a reply's tool calls apart, as servers of every habit send them: each call has an index, an id and arguments of its own.

use std::collections::HashSet;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::chat::wire::mint_call_id;
use crate::chat::{CallDelta, Object};
use crate::error::{Error, Kind, Result};

/// More calls than any model means to make in one reply.
const MAX_CALLS: usize = 1000;

/// The calls of one choice.
#[derive(Debug, Default)]
pub(super) struct Calls {
    seen: Vec<Seen>,
}

/// A call of which something was read. Its place among the others is the index that it leaves with.
#[derive(Debug)]
struct Seen {
    /// The server's index and id, where it has them. They need not be unique.
    index: Option<u64>,
    id: Option<String>,
    name: Option<String>,
    /// All that was read of the arguments, put together.
    arguments: String,
    /// How much of that has left, in bytes.
    sent: usize,
    /// The last piece, while it looks as if each holds all the arguments so far. Nothing leaves until that is settled.
    latest: Option<String>,
}

/// A piece of a call as the server sent it.
struct Piece<'a> {
    index: Option<u64>,
    id: Option<&'a str>,
    name: Option<&'a str>,
    arguments: String,
}

impl<'a> Piece<'a> {
    /// Empty ids and names say nothing. Arguments may be JSON in place of a string of it.
    fn read(call: &'a Object) -> Piece<'a> {
        let function = call.get("function").and_then(Value::as_object).unwrap_or(call);
        let text = |value: Option<&'a Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty());
        let arguments = match function.get("arguments") {
            Some(Value::String(arguments)) => arguments.clone(),
            None | Some(Value::Null) => String::new(),
            Some(json) => json.to_string(),
        };
        let index = call.get("index").and_then(Value::as_u64);
        Piece { index, id: text(call.get("id")), name: text(function.get("name")), arguments }
    }
}

impl Calls {
    /// Takes the next piece. `whole`: it is a call of a whole message, and no other one's continuation.
    /// `ids` are taken; the call's is added to them.
    pub(super) fn push(&mut self, call: &Object, whole: bool, ids: &mut HashSet<String>) -> Result<CallDelta> {
        let piece = Piece::read(call);
        if let Some(at) = self.find(&piece).filter(|_| !whole) {
            let seen = &mut self.seen[at];
            let name = piece.name.filter(|_| seen.name.is_none()).map(str::to_owned);
            seen.name = seen.name.take().or_else(|| name.clone());
            return Ok(CallDelta { index: at as u32, id: None, name, arguments: seen.push(piece.arguments) });
        }
        if self.seen.len() >= MAX_CALLS {
            return Err(Error::new(Kind::UpstreamError, format!("The model made more than {MAX_CALLS} tool calls at once.")));
        }
        // Results are paired with calls by id: one that is missing, or another call's, is replaced.
        let id = piece.id.filter(|id| !ids.contains(*id)).map_or_else(mint_call_id, str::to_owned);
        ids.insert(id.clone());
        let name = piece.name.map(str::to_owned);
        let begun = CallDelta { index: self.seen.len() as u32, id: Some(id), name: name.clone(), arguments: piece.arguments.clone() };
        let sent = piece.arguments.len();
        self.seen.push(Seen { index: piece.index, id: piece.id.map(str::to_owned), name, arguments: piece.arguments, sent, latest: None });
        Ok(begun)
    }

    /// The call that a piece goes on with: the one of its index, of its id, or the last. `None` when it begins another.
    fn find(&self, piece: &Piece<'_>) -> Option<usize> {
        let of_index = || {
            let index = piece.index?;
            let named = self.seen.iter().rposition(|seen| seen.index == Some(index));
            // A server that left out the index of a call may name it later.
            let counted = usize::try_from(index).ok().filter(|at| self.seen.get(*at).is_some_and(|seen| seen.index.is_none()));
            named.or(counted)
        };
        let of_id = || piece.id.and_then(|id| self.seen.iter().rposition(|seen| seen.id.as_deref() == Some(id)));
        let at = match piece.index {
            Some(_) => of_index()?,
            None => of_id().or_else(|| self.seen.len().checked_sub(1))?,
        };
        (!self.seen[at].is_followed_by(piece)).then_some(at)
    }

    /// The choice has ended: the arguments that were kept back, one piece for each call that has some.
    pub(super) fn end(&mut self) -> Vec<CallDelta> {
        let kept = self.seen.iter_mut().enumerate().filter_map(|(at, seen)| {
            let arguments = seen.settle()?;
            Some(CallDelta { index: at as u32, arguments, ..CallDelta::default() })
        });
        kept.collect()
    }

    /// Whether the model calls anything.
    pub(super) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

impl Seen {
    /// Whether a piece with the same index or id begins another call: its id or name is another, or this call is complete.
    fn is_followed_by(&self, piece: &Piece<'_>) -> bool {
        let (Some(ours), Some(name)) = (self.name.as_deref(), piece.name) else { return false };
        let another_id = self.id.as_deref().zip(piece.id).is_some_and(|(ours, id)| ours != id);
        let repeats = piece.arguments.is_empty() || piece.arguments.starts_with(&self.arguments);
        name != ours || another_id || (!repeats && is_object(&self.arguments))
    }

    /// Takes more of the arguments, and gives what may leave of them. Servers are known that send all the arguments so far in each piece,
    /// or once more at the end: from the first piece that looks so, none leaves until one shows that it is new, or the end has come.
    fn push(&mut self, piece: String) -> String {
        if piece.is_empty() {
            return piece;
        }
        let so_far = self.latest.as_ref().unwrap_or(&self.arguments);
        let repeats = so_far.starts_with('{') && piece.starts_with(so_far.as_str());
        self.arguments.push_str(&piece);
        if repeats {
            self.latest = Some(piece);
            return String::new();
        }
        if self.latest.take().is_some() {
            let kept = self.arguments[self.sent..].to_owned();
            self.sent = self.arguments.len();
            return kept;
        }
        self.sent = self.arguments.len();
        piece
    }

    /// What was kept back: as the pieces say together if that is JSON, else as the last one says.
    fn settle(&mut self) -> Option<String> {
        let latest = self.latest.take()?;
        if !is_object(&self.arguments) && is_object(&latest) {
            self.arguments = latest;
        }
        let kept = self.arguments.get(self.sent..).unwrap_or_default().to_owned();
        self.sent = self.arguments.len();
        (!kept.is_empty()).then_some(kept)
    }
}

fn is_object(text: &str) -> bool {
    text.starts_with('{') && text.trim_end().ends_with('}') && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The calls that these pieces are, as `(name, arguments)`.
    fn put_together(pieces: &[Value]) -> Vec<(String, String)> {
        let (mut calls, mut ids) = (Calls::default(), HashSet::new());
        let mut deltas: Vec<CallDelta> =
            pieces.iter().map(|piece| calls.push(piece.as_object().unwrap(), false, &mut ids).unwrap()).collect();
        deltas.extend(calls.end());
        let mut whole: Vec<(String, String)> = Vec::new();
        for delta in deltas {
            if delta.id.is_some() {
                whole.push((delta.name.unwrap(), String::new()));
            }
            whole[delta.index as usize].1 += &delta.arguments;
        }
        whole
    }

    fn split(pieces: &[&str]) -> String {
        let pieces = pieces.iter().enumerate().map(|(i, arguments)| {
            let name = if i == 0 { "f" } else { "" };
            json!({ "index": 0, "function": { "name": name, "arguments": arguments } })
        });
        let mut whole = put_together(&pieces.collect::<Vec<_>>());
        assert_eq!(whole.len(), 1);
        whole.remove(0).1
    }

    #[test]
    fn any_split_gives_the_same_arguments() {
        for text in [r#"{"a":{"a":{"a":1}},"b":"{\"a\":"}"#, r#"{"{":"{"}"#, "{}", "{{", "", "not JSON"] {
            for first in 0..=text.len() {
                for second in first..=text.len() {
                    assert_eq!(split(&[&text[..first], &text[first..second], &text[second..]]), text, "{text} {first} {second}");
                }
            }
        }
    }

    #[test]
    fn any_way_of_saying_all_so_far_gives_the_same_arguments() {
        let text = r#"{"a":{"b":1}}"#;
        for first in 1..=text.len() {
            for second in first..=text.len() {
                assert_eq!(split(&["", &text[..first], &text[..second], text]), text, "{first} {second}");
                assert_eq!(split(&[&text[..first], &text[first..second], &text[second..], text]), text, "{first} {second}, once more");
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_repetition_is_none() {
        assert_eq!(split(&[r#"{"a":"#, r#"{"a":1}}"#]), r#"{"a":{"a":1}}"#);
        assert_eq!(split(&[r#"{"a":"#, r#"{"a":"#, "1}}"]), r#"{"a":{"a":1}}"#);
    }

    #[test]
    fn calls_without_index_or_id_are_told_apart() {
        let call =
            |id: Option<&str>, name: &str, arguments: Value| json!({ "id": id, "function": { "name": name, "arguments": arguments } });
        let whole = put_together(&[
            call(Some("a"), "f", json!("")),
            call(Some("a"), "f", json!("{}")),
            call(None, "g", json!({ "x": 1 })),
            json!({ "index": 1, "function": { "name": "", "arguments": "," } }),
        ]);
        assert_eq!(whole, [("f".into(), "{}".into()), ("g".into(), r#"{"x":1},"#.into())]);
    }

    #[test]
    fn each_call_has_an_id_of_its_own() {
        let (mut calls, mut ids) = (Calls::default(), HashSet::from(["call_0".to_owned()]));
        let mut id = |index: u32, id: &str| {
            let call = json!({ "index": index, "id": id, "function": { "name": "f" } });
            calls.push(call.as_object().unwrap(), false, &mut ids).unwrap().id.unwrap()
        };
        assert_eq!(id(0, "call_1"), "call_1");
        assert!(id(1, "call_1").len() > 20 && id(2, "").len() > 20 && id(3, "call_0").len() > 20, "of this reply, none, of an earlier one");
    }

    #[test]
    fn too_many_calls_are_an_error() {
        let (mut calls, mut ids) = (Calls::default(), HashSet::new());
        let outcome = (0..=MAX_CALLS).try_for_each(|index| {
            let call = json!({ "index": index, "function": { "name": "f" } });
            calls.push(call.as_object().unwrap(), false, &mut ids).map(drop)
        });
        assert_eq!(outcome.unwrap_err().kind, Kind::UpstreamError);
    }
}
