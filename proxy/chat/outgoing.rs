//! A prompt as the request that its server understands.

use serde_json::{Value, json};

use super::{Object, Prompt};
use crate::config::{DeveloperRole, Repair, TokenLimit};

const MAX_TOKENS: &str = "max_tokens";
const MAX_COMPLETION_TOKENS: &str = "max_completion_tokens";

/// The request's body: the prompt's own fields win over what else it carries. `model` is its name at the server, `host` the server's.
pub fn encode(prompt: &Prompt, model: &str, repair: &Repair, host: &str) -> Vec<u8> {
    let mut body = prompt.rest.clone();
    name_limit(&mut body, repair.max_tokens.unwrap_or_else(|| usual_limit(host)));
    if repair.json_object_as_schema.unwrap_or(!is_openai(host)) {
        name_object(&mut body);
    }
    body.insert("model".into(), Value::from(model));
    let mut messages = json!(prompt.messages);
    name_roles(&mut messages, repair.developer_role);
    body.insert("messages".into(), messages);
    if !prompt.tools.is_empty() {
        body.insert("tools".into(), json!(prompt.tools));
    }
    body.insert("stream".into(), true.into());
    body.insert("stream_options".into(), json!({ "include_usage": true }));
    Value::Object(body).to_string().into_bytes()
}

/// Whether the server can hold to a `response_format` while it offers tools.
pub fn takes_format_with_tools(repair: &Repair, host: &str) -> bool {
    repair.response_format_with_tools.unwrap_or(is_openai(host))
}

/// Whether the server is OpenAI's own, which knows what its documentation says.
fn is_openai(host: &str) -> bool {
    host == "api.openai.com" || host.ends_with(".openai.com") || host.ends_with(".openai.azure.com")
}

fn usual_limit(host: &str) -> TokenLimit {
    if is_openai(host) { TokenLimit::Keep } else { TokenLimit::MaxTokens }
}

/// Sends the limit under one name. Where a client gave both, the newer one is what it means.
fn name_limit(body: &mut Object, limit: TokenLimit) {
    let name = match limit {
        TokenLimit::Keep => return,
        TokenLimit::MaxTokens => MAX_TOKENS,
        TokenLimit::MaxCompletionTokens => MAX_COMPLETION_TOKENS,
    };
    let (newer, older) = (body.shift_remove(MAX_COMPLETION_TOKENS), body.shift_remove(MAX_TOKENS));
    if let Some(limit) = newer.filter(|limit| !limit.is_null()).or(older) {
        body.insert(name.into(), limit);
    }
}

/// Any object, as a schema.
fn name_object(body: &mut Object) {
    if let Some(format) = body.get_mut("response_format").filter(|format| format["type"] == "json_object") {
        *format = json!({ "type": "json_schema", "json_schema": { "name": "object", "schema": { "type": "object" } } });
    }
}

fn name_roles(messages: &mut Value, role: DeveloperRole) {
    let (from, to) = match role {
        DeveloperRole::Keep => return,
        DeveloperRole::System => ("developer", "system"),
        DeveloperRole::Developer => ("system", "developer"),
    };
    for message in messages.as_array_mut().into_iter().flatten() {
        if let Some(role) = message.get_mut("role").filter(|role| role.as_str() == Some(from)) {
            *role = to.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;

    fn encoded(rest: Value, repair: &Repair, host: &str) -> Value {
        let rest = rest.as_object().unwrap().clone();
        let prompt = Prompt { model: "other".into(), messages: vec![Message::text("developer", "hi")], tools: vec![], rest };
        serde_json::from_slice(&encode(&prompt, "m", repair, host)).unwrap()
    }

    #[test]
    fn the_prompt_wins_over_what_it_carries() {
        assert_eq!(
            encoded(json!({ "temperature": 0, "stream": false, "model": "x" }), &Repair::default(), "h"),
            json!({
                "model": "m", "messages": [{ "role": "system", "content": "hi" }], "temperature": 0,
                "stream": true, "stream_options": { "include_usage": true },
            })
        );
    }

    #[test]
    fn openais_own_servers_get_the_limit_as_it_came() {
        let limit =
            |host: &str, repair: &Repair| encoded(json!({ "max_completion_tokens": 7 }), repair, host)["max_completion_tokens"].clone();
        let usual = Repair::default();
        for host in ["api.openai.com", "eu.api.openai.com", "x.openai.azure.com"] {
            assert_eq!(limit(host, &usual), 7, "{host}");
        }
        for host in ["localhost", "openai.com.example", "notopenai.com"] {
            assert_eq!(limit(host, &usual), Value::Null, "{host}");
        }
        let renamed = Repair { max_tokens: Some(TokenLimit::MaxTokens), ..usual };
        assert_eq!(encoded(json!({ "max_completion_tokens": null, "max_tokens": 9 }), &renamed, "api.openai.com")["max_tokens"], 9);
    }
}
