//! The tokens that a server says it used, wherever and however it says so.

use serde_json::Value;

use crate::chat::{Object, Usage};

/// More tokens than one call can use: a number above is none.
const MAX_TOKENS: u64 = 1 << 32;

/// Takes the usage out of a chunk: its own, its choice's, or that of a field of the vendor's.
pub(super) fn take(chunk: &mut Object) -> Option<Usage> {
    let of_choice = |chunk: &Object| chunk.get("choices")?.get(0)?.get("usage").cloned();
    let of_vendor = |chunk: &Object| chunk.get("x_groq")?.get("usage").cloned();
    let own = chunk.remove("usage").and_then(read);
    own.or_else(|| of_choice(chunk).and_then(read)).or_else(|| of_vendor(chunk).and_then(read))
}

/// Reads the usage of a chat or of a response. `None` for what says nothing, or nothing that can be.
pub fn read(value: Value) -> Option<Usage> {
    let Value::Object(mut fields) = value else { return None };
    for (name, chats) in
        [("input_tokens", "prompt_tokens"), ("output_tokens", "completion_tokens"), ("input_tokens_details", "prompt_tokens_details")]
    {
        if let Some(value) = fields.remove(name) {
            fields.entry(chats).or_insert(value);
        }
    }
    let mut count = |name: &str| fields.remove(name).map_or(0, |value| tokens(&value));
    let (prompt, completion, total) = (count("prompt_tokens"), count("completion_tokens"), count("total_tokens"));
    fields.retain(|_, value| !value.is_null());
    let plausible = prompt.max(completion).max(total) <= MAX_TOKENS && prompt.max(completion).max(total) > 0;
    plausible.then_some(Usage { prompt_tokens: prompt, completion_tokens: completion, total_tokens: total, details: fields })
}

/// A count, written as a whole number, a fraction or digits; 0 when it is none.
fn tokens(value: &Value) -> u64 {
    let number = match value {
        Value::String(digits) => digits.trim().parse().ok(),
        value => value.as_u64().map(|whole| whole as f64).or(value.as_f64()),
    };
    // A cast of what is too large, negative or no number is bounded.
    number.unwrap_or(0.0) as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_that_are_none_do_not_count() {
        let total = |usage: Value| read(usage).map(|usage| (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens));
        assert_eq!(total(json!({ "prompt_tokens": 1, "completion_tokens": 2.0, "total_tokens": "3" })), Some((1, 2, 3)));
        assert_eq!(total(json!({ "prompt_tokens": -1, "completion_tokens": 2, "total_tokens": null })), Some((0, 2, 0)));
        assert_eq!(total(json!({ "prompt_tokens": u64::MAX })), None);
        assert_eq!(total(json!({ "prompt_tokens": 1e300, "completion_tokens": "NaN" })), None);
        assert_eq!(total(json!({})), None);
        assert_eq!(total(json!("many")), None);
    }
}
