//! What each hook's argument is made of, what a script may change in it, and what an answer means there. No Lua in here.

mod call;
mod chunk;
mod failure;
mod head;
mod prompt;
mod reply;
mod result;

use serde_json::Value;

pub use self::call::CallView;
pub use self::chunk::ChunkView;
pub use self::failure::FailureView;
pub use self::head::Head;
pub use self::reply::ReplyView;
pub use self::result::ResultView;
use super::point::Point;
use crate::chat::{Message, Object};

/// A value that hooks are called with.
pub(super) trait Subject: Default + Sized {
    /// What `run:answer(x)` means.
    type Answer;

    /// The hook.
    const POINT: Point;

    /// The fields that scripts see, each under its name.
    fn into_fields(self) -> Object;

    /// The value with these fields, each of which is an original or passed `check`.
    fn from_fields(fields: Object) -> Self;

    /// What is wrong with the new value of a field, `None` if it was removed, in words for the script's author.
    fn check(name: &str, value: Option<&Value>) -> Result<(), String>;

    /// The answer that a script gave.
    fn answer(value: Value) -> Result<Self::Answer, String>;

    /// Whether changes come too late to matter.
    fn is_settled(&self) -> bool {
        false
    }
}

/// Why a field that is not to be changed may not be, or that there is none of that name.
fn fixed(argument: &str, name: &str, known: &[&str]) -> String {
    if known.contains(&name) { format!("{argument}.{name} cannot be changed") } else { format!("{argument} has no field `{name}`") }
}

/// An answer in the model's place: text, or a whole message.
fn message(value: Value) -> Result<Message, String> {
    match value {
        Value::String(text) => Ok(Message::text("assistant", text)),
        Value::Object(fields) if fields.get("tool_calls").is_some_and(|calls| !calls.is_null()) => {
            Err("run:answer(message): a hook's answer cannot have `tool_calls`: it is text that the client reads".into())
        }
        Value::Object(mut fields) if fields.contains_key("content") => {
            if !fields.get("content").is_some_and(|content| content.is_string() || content.is_array()) {
                return Err("run:answer(message): its content must be text or a list of parts".into());
            }
            fields.entry("role").or_insert_with(|| "assistant".into());
            if fields.get("role").and_then(Value::as_str) != Some("assistant") {
                return Err("run:answer(message): its role must be `assistant`".into());
            }
            Ok(Message(fields))
        }
        _ => Err("run:answer(x): x must be text or a message".into()),
    }
}

fn text(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

fn number(value: Option<&Value>) -> u32 {
    value.and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

fn items(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(Object::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::chat::Prompt;

    /// The names after `---@field` of a class in the file that editors read.
    fn documented(class: &str) -> Vec<String> {
        let meta = include_str!("../../lua-stdlib/_meta/hooks.lua");
        let (_, rest) = meta.split_once(&format!("---@class {class}\n")).expect("the class");
        let fields = rest.lines().map_while(|line| line.strip_prefix("---@field "));
        fields.filter_map(|field| field.split(' ').next()).map(|name| name.trim_end_matches('?').to_owned()).collect()
    }

    #[test]
    fn the_meta_file_names_every_field() {
        fn check<S: Subject>() {
            let fields: Vec<String> = S::default().into_fields().keys().cloned().collect();
            let mut documented = documented(S::POINT.row().argument.1);
            // A prompt has whatever else the request had.
            documented.retain(|name| S::POINT != Point::PrePrompt || (name != "[string]" && name != "temperature"));
            let sorted = |mut names: Vec<String>| {
                names.sort();
                names
            };
            assert_eq!(sorted(documented), sorted(fields), "{}", S::POINT.name());
        }
        check::<Head>();
        check::<Prompt>();
        check::<ChunkView>();
        check::<CallView>();
        check::<ResultView>();
        check::<ReplyView>();
        check::<FailureView>();
    }

    #[test]
    fn an_answer_is_text_or_an_assistants_message() {
        assert_eq!(message(json!("hi")).unwrap(), Message::text("assistant", "hi"));
        assert_eq!(message(json!({ "content": "hi" })).unwrap().role(), "assistant");
        for wrong in [
            json!(3),
            json!({ "x": 1 }),
            json!({ "content": 3 }),
            json!({ "role": "user", "content": "x" }),
            json!({ "content": null }),
            json!({ "tool_calls": [{ "id": "a" }] }),
            json!({ "content": "x", "tool_calls": [] }),
        ] {
            assert!(message(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
