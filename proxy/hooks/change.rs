//! What a hook did to the fields of its argument, and the doing of it: what it left alone is moved, not copied.

use std::mem;

use serde_json::Value;

use crate::chat::Object;

/// What a hook did to a field: what is there now, or none if it is gone.
pub(super) type Change = (String, Option<Now>);

/// The new value of a field.
#[derive(Debug)]
pub(super) enum Now {
    Whole(Value),
    /// The field is a list and was one.
    List(Vec<Item>),
}

/// An item of a list.
#[derive(Debug)]
pub(super) enum Item {
    /// The item that was at this index, as it was. No other item of the list is the same one.
    Kept(usize),
    Made(Value),
}

impl Now {
    /// Whether this is what was there before.
    pub(super) fn is(&self, before: &Value) -> bool {
        match (self, before) {
            (Now::Whole(value), before) => value == before,
            (Now::List(items), Value::Array(before)) => {
                let is_same = |(place, item): (usize, &Item)| match item {
                    Item::Kept(from) => *from == place || before.get(*from) == before.get(place),
                    Item::Made(value) => Some(value) == before.get(place),
                };
                items.len() == before.len() && items.iter().enumerate().all(is_same)
            }
            (Now::List(_), _) => false,
        }
    }
}

/// What takes a change back.
struct Undo {
    name: String,
    before: Option<Value>,
    /// Of a list: where the items that were moved stood, and where they stand now.
    moved: Vec<(usize, usize)>,
}

/// Makes the changes if `check` passes each of them and `keeps` is set. Otherwise the fields are as they were.
pub(super) fn apply(
    fields: &mut Object,
    changes: Vec<Change>,
    check: impl Fn(&str, Option<&Value>) -> Result<(), String>,
    keeps: bool,
) -> Result<(), String> {
    let (mut undos, mut gone) = (Vec::new(), Vec::new());
    let result = changes.into_iter().try_for_each(|(name, now)| {
        let Some(now) = now else {
            let result = check(&name, None);
            gone.push(name);
            return result;
        };
        let undo = set(fields, name, now);
        let result = check(&undo.name, fields.get(&undo.name));
        undos.push(undo);
        result
    });
    if keeps && result.is_ok() {
        gone.iter().for_each(|name| _ = fields.shift_remove(name));
    } else {
        undos.into_iter().rev().for_each(|undo| take_back(fields, undo));
    }
    result
}

fn set(fields: &mut Object, name: String, now: Now) -> Undo {
    let mut moved = Vec::new();
    let value = match now {
        Now::Whole(value) => value,
        Now::List(items) => {
            let mut before = fields.get_mut(&name).and_then(Value::as_array_mut);
            let mut item = |(place, item)| match item {
                Item::Made(value) => value,
                Item::Kept(from) => {
                    moved.push((from, place));
                    before.as_mut().and_then(|before| before.get_mut(from)).map(mem::take).unwrap_or_default()
                }
            };
            items.into_iter().enumerate().map(&mut item).collect()
        }
    };
    match fields.get_mut(&name) {
        Some(slot) => Undo { name, before: Some(mem::replace(slot, value)), moved },
        None => {
            fields.insert(name.clone(), value);
            Undo { name, before: None, moved }
        }
    }
}

fn take_back(fields: &mut Object, Undo { name, before, moved }: Undo) {
    let Some(mut before) = before else {
        fields.shift_remove(&name);
        return;
    };
    let Some(slot) = fields.get_mut(&name) else { return };
    if let (Some(before), Some(now)) = (before.as_array_mut(), slot.as_array_mut()) {
        for (from, place) in moved {
            if let (Some(before), Some(now)) = (before.get_mut(from), now.get_mut(place)) {
                mem::swap(before, now);
            }
        }
    }
    *slot = before;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields() -> Object {
        json!({ "list": [{ "a": 1 }, { "b": 2 }, 3], "text": "x", "gone": true }).as_object().cloned().unwrap()
    }

    fn changes() -> Vec<Change> {
        let items = vec![Item::Kept(1), Item::Made(json!("new")), Item::Kept(0), Item::Made(json!(3))];
        vec![
            ("list".into(), Some(Now::List(items))),
            ("text".into(), Some(Now::Whole(json!("y")))),
            ("gone".into(), None),
            ("added".into(), Some(Now::Whole(json!(1)))),
        ]
    }

    #[test]
    fn changes_are_made_in_place() {
        let mut fields = fields();
        apply(&mut fields, changes(), |_, _| Ok(()), true).unwrap();
        let text = serde_json::to_string(&fields).unwrap();
        assert_eq!(text, r#"{"list":[{"b":2},"new",{"a":1},3],"text":"y","added":1}"#);
    }

    #[test]
    fn changes_that_do_not_pass_leave_no_trace() {
        fn late(name: &str, _: Option<&Value>) -> Result<(), String> {
            if name == "added" { Err("no".into()) } else { Ok(()) }
        }
        let mut after = fields();
        assert_eq!(apply(&mut after, changes(), late, true).unwrap_err(), "no");
        assert_eq!(serde_json::to_string(&after).unwrap(), serde_json::to_string(&fields()).unwrap());
        apply(&mut after, changes(), |_, _| Ok(()), false).unwrap();
        assert_eq!(serde_json::to_string(&after).unwrap(), serde_json::to_string(&fields()).unwrap());
    }

    #[test]
    fn a_list_with_the_same_items_is_the_same() {
        let before = json!([{ "a": 1 }, { "a": 1 }, 3]);
        let now = |items| Now::List(items).is(&before);
        assert!(now(vec![Item::Kept(1), Item::Kept(0), Item::Made(json!(3))]));
        assert!(!now(vec![Item::Kept(0), Item::Kept(1)]));
        assert!(!now(vec![Item::Kept(0), Item::Kept(1), Item::Made(json!(4))]));
    }
}
