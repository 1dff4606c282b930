//! The fields of a delta or message under all the names and in all the forms that servers give them: text, thoughts, why it ended.

use serde_json::{Value, json};

use crate::chat::Object;
use crate::error::{Error, Kind, Result};

/// Takes the content out of the fields: its text, and the thoughts among its parts. Images go to `images`, where clients look for them.
pub(super) fn content(fields: &mut Object) -> (Option<String>, Option<String>) {
    let parts = match fields.remove("content") {
        Some(Value::String(text)) => return (Some(text), None),
        Some(Value::Array(parts)) => parts,
        Some(Value::Object(part)) => vec![Value::Object(part)],
        _ => return (None, None),
    };
    let (mut text, mut thought, mut images) = (String::new(), String::new(), Vec::new());
    for part in parts {
        match part.get("type").and_then(Value::as_str) {
            Some("thinking" | "reasoning") => thought.push_str(&words(&part)),
            Some("image_url") => images.push(part),
            _ => text.push_str(&words(&part)),
        }
    }
    if !images.is_empty() {
        let place = fields.entry("images").or_insert_with(|| json!([]));
        if let Some(all) = place.as_array_mut() {
            all.append(&mut images);
        }
    }
    (Some(text), some(thought))
}

/// Takes the reasoning out of the fields, of whatever spelling. Details that say the same in other words go with it; others stay.
pub(super) fn reasoning(fields: &mut Object) -> Option<String> {
    let mut found = String::new();
    for spelling in ["reasoning_content", "reasoning", "thinking"] {
        if let Some(value) = fields.remove(spelling).filter(|_| found.is_empty()) {
            found = match value {
                Value::String(text) => text,
                other => words(&other),
            };
        }
    }
    let Some(Value::Array(details)) = fields.get_mut("reasoning_details") else { return some(found) };
    let mut detailed = String::new();
    details.retain_mut(|detail| {
        let said = words(detail);
        detailed.push_str(&said);
        let Some(detail) = detail.as_object_mut().filter(|_| !said.is_empty()) else { return true };
        detail.remove("text");
        detail.remove("summary");
        // A signature is checked when the client sends it back.
        detail.get("signature").is_some_and(|signature| !signature.is_null())
    });
    if details.is_empty() {
        fields.remove("reasoning_details");
    }
    some(if found.is_empty() { detailed } else { found })
}

/// The text in a value: itself, its items', or that of the field that holds it.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(words).collect(),
        Value::Object(fields) => {
            let names = ["text", "content", "thinking", "reasoning", "summary"];
            names.iter().filter_map(|name| fields.get(*name)).map(words).find(|text| !text.is_empty()).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Why a choice ended, in OpenAI's words. `Err` when it ended by a failure.
pub(super) fn finish(reason: Option<Value>) -> Result<Option<String>> {
    let Some(Value::String(reason)) = reason else { return Ok(None) };
    let known = match reason.as_str() {
        "" => return Ok(None),
        "stop" | "length" | "tool_calls" | "content_filter" | "function_call" => return Ok(Some(reason)),
        _ => reason.to_ascii_lowercase(),
    };
    Ok(Some(match known.as_str() {
        "error" | "abort" | "aborted" | "cancelled" | "canceled" => {
            return Err(Error::new(Kind::UpstreamError, format!("The upstream ended its answer with `{known}`.")));
        }
        "max_tokens" | "max_length" | "max_output_tokens" | "length" => "length".into(),
        "safety" | "content_filter" | "refusal" => "content_filter".into(),
        "tool_use" | "tool_call" | "tool_calls" => "tool_calls".into(),
        _ => "stop".into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Object {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn reasoning_of_any_spelling() {
        let of = |value: Value| reasoning(&mut fields(value));
        let hm = Some("hm".to_owned());
        assert_eq!(of(json!({ "reasoning_content": "", "thinking": "hm" })), hm);
        assert_eq!(of(json!({ "reasoning": { "summary": [{ "text": "h" }, { "text": "m" }] } })), hm);
        assert_eq!(of(json!({ "reasoning": true })), None);
        assert_eq!(of(json!({ "content": "hm" })), None);
    }

    #[test]
    fn details_stay_where_they_say_more() {
        let mut all = fields(json!({ "reasoning": "hm", "reasoning_details": [
            { "type": "reasoning.text", "text": "hm" },
            { "type": "reasoning.text", "text": "so", "signature": "s" },
            { "type": "reasoning.encrypted", "data": "d" },
        ] }));
        assert_eq!(reasoning(&mut all).as_deref(), Some("hm"));
        let rest = json!({ "reasoning_details": [
            { "type": "reasoning.text", "signature": "s" }, { "type": "reasoning.encrypted", "data": "d" },
        ] });
        assert_eq!(all, fields(rest));
    }

    #[test]
    fn content_in_parts() {
        let image = json!({ "type": "image_url", "image_url": { "url": "data:," } });
        let mut all = fields(json!({ "content": [{ "type": "text", "text": "a" }, image, { "type": "thinking", "thinking": "t" }, "b"] }));
        assert_eq!(content(&mut all), (Some("ab".into()), Some("t".into())));
        assert_eq!(all, fields(json!({ "images": [image] })));
    }

    #[test]
    fn reasons_in_openais_words() {
        let of = |reason: &str| finish(Some(reason.into())).map(|reason| reason.unwrap_or_default()).unwrap_or("failure".into());
        let reasons = ["stop", "", "eos", "MAX_TOKENS", "SAFETY", "tool_use", "abort"].map(of);
        assert_eq!(reasons, ["stop", "", "stop", "length", "content_filter", "tool_calls", "failure"]);
        assert_eq!(finish(Some(Value::Null)).unwrap(), None);
    }
}
