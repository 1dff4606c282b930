//! The same servers behind an alias with hooks: what passes on as it comes is mended on its way.

use serde_json::{Value, json};

use super::{Bad, chunk, deltas, events, raw};
use crate::support::{Gateway, ScriptedModel, Setup, Step};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
models: { fast: { upstream: lm, model: scripted, hooks: [scripts/h.lua] } }
"#;

/// A gateway before a server that answers so twice.
async fn answering(bad: fn() -> Bad) -> (Gateway, ScriptedModel) {
    let step = move || Step::chat(move |e| async move { bad().serve(e).await });
    let model = ScriptedModel::start([step(), step()]).await;
    let script = "return { post_response = function(reply) end }";
    let gateway = Setup::new(CONFIG).file("scripts/h.lua", script).env("LM", model.url()).start().await;
    (gateway, model)
}

fn call(index: Value, id: &str, city: &str) -> Value {
    let function = json!({ "name": "get_weather", "arguments": format!("{{\"city\":\"{city}\"}}") });
    json!({ "tool_calls": [{ "index": index, "id": id, "function": function }] })
}

/// Calls are told apart, and the end says that there are some; a thought is none of the text.
#[tokio::test]
async fn calls_reach_the_client_in_order() {
    let (gateway, _model) = answering(|| {
        let thought = json!({ "content": "<think>hm</think>Well." });
        deltas(&[thought, call(json!(0), "a", "Paris"), call(json!(0), "b", "Rome"), call(json!(null), "", "Oslo")], "stop")
    })
    .await;
    let body = gateway.chat("fast", json!({})).answer().await.json();
    let message = &body["choices"][0]["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Well."), &json!("hm")));
    assert_eq!(body["choices"][0]["finish_reason"], "tool_calls");
    let whole: Vec<&str> =
        message["tool_calls"].as_array().unwrap().iter().map(|call| call["function"]["arguments"].as_str().unwrap()).collect();
    let said = gateway.chat("fast", json!({ "stream": true })).stream().await;
    said.assert_well_formed("fast");
    assert_eq!((said.text().as_str(), said.finish().as_str()), ("Well.", "tool_calls"));
    let calls = said.tool_calls();
    assert_eq!(calls.iter().map(|call| call.2.as_str()).collect::<Vec<_>>(), whole);
    assert_eq!(whole, [r#"{"city":"Paris"}"#, r#"{"city":"Rome"}"#, r#"{"city":"Oslo"}"#]);
    assert!(calls[0].0 == "a" && calls[1].0 == "b" && calls[2].0.starts_with("call_"), "{calls:?}");
}

/// A choice that has ended does not end the other: a stream that breaks between is an error.
#[tokio::test]
async fn each_choice_must_end() {
    let (gateway, _model) = answering(|| {
        let mut other = chunk(json!({ "content": "uno" }), None);
        other["choices"][0]["index"] = 1.into();
        events(&[chunk(json!({ "content": "one" }), None), other, chunk(json!({}), Some("stop"))])
    })
    .await;
    gateway.chat("fast", json!({ "n": 2 })).answer().await.assert_error(502, "upstream_error");
    let said = gateway.chat("fast", json!({ "n": 2, "stream": true })).stream().await;
    assert_eq!(said.error().unwrap()["code"], "upstream_error");
    assert!(!said.data().contains(&"[DONE]"));
}

/// A client that speaks of functions as they were before tools is answered so.
#[tokio::test]
async fn functions_of_old_stay_functions() {
    let (gateway, _model) = answering(|| {
        let message = json!({ "content": null, "function_call": { "name": "f", "arguments": "{}" } });
        raw("application/json", json!({ "choices": [{ "message": message, "finish_reason": "function_call" }] }).to_string())
    })
    .await;
    let functions = json!({ "functions": [{ "name": "f", "parameters": { "type": "object" } }] });
    let body = gateway.chat("fast", functions).answer().await.json();
    let choice = &body["choices"][0];
    assert_eq!((&choice["message"]["function_call"]["name"], &choice["finish_reason"]), (&json!("f"), &json!("function_call")));
    let body = gateway.chat("fast", json!({})).answer().await.json();
    let choice = &body["choices"][0];
    assert_eq!((&choice["message"]["tool_calls"][0]["function"]["name"], &choice["finish_reason"]), (&json!("f"), &json!("tool_calls")));
}
