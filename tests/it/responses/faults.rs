//! What goes wrong, told as the Responses API tells it: a status before the first byte, an event after it.

use serde_json::{Value, json};

use super::{events, names, stage, text, told};
use crate::support::scripted_model::chunk;
use crate::support::{Gateway, ScriptedModel, Setup, Step};

/// Each wrong shape is a 400 that names its parameter, and no model is asked.
#[tokio::test]
async fn wrong_requests_are_refused() {
    let stage = stage([]).await;
    let item = |item: Value| json!({ "input": [item] });
    let tool = |tool: Value| json!({ "tools": [tool] });
    let message = |content: Value| json!({ "input": [{ "role": "user", "content": content }] });
    let cases = [
        (json!({ "input": null }), "missing_required_parameter", "input"),
        (json!({ "input": 7 }), "invalid_type", "input"),
        (json!({ "input": [] }), "invalid_value", "input"),
        (json!({ "input": [1] }), "invalid_type", "input[0]"),
        (item(json!({})), "missing_required_parameter", "input[0].type"),
        (item(json!({ "type": "computer_call" })), "unsupported_value", "input[0].type"),
        (item(json!({ "role": "user" })), "missing_required_parameter", "input[0].content"),
        (item(json!({ "role": "robot", "content": "x" })), "invalid_value", "input[0].role"),
        (message(json!([7])), "invalid_type", "input[0].content[0]"),
        (message(json!([{ "type": "input_text" }])), "missing_required_parameter", "input[0].content[0].text"),
        (message(json!([{ "type": "input_hologram" }])), "unsupported_value", "input[0].content[0].type"),
        (message(json!([{ "type": "input_image", "file_id": "f" }])), "unsupported_value", "input[0].content[0].file_id"),
        (item(json!({ "type": "function_call", "call_id": "c", "arguments": "{}" })), "missing_required_parameter", "input[0].name"),
        (item(json!({ "type": "function_call_output", "call_id": "c" })), "missing_required_parameter", "input[0].output"),
        (json!({ "stream": "yes" }), "invalid_type", "stream"),
        (json!({ "store": 1 }), "invalid_type", "store"),
        (json!({ "instructions": ["x"] }), "invalid_type", "instructions"),
        (json!({ "metadata": "x" }), "invalid_type", "metadata"),
        (json!({ "parallel_tool_calls": "x" }), "invalid_type", "parallel_tool_calls"),
        (json!({ "temperature": 99 }), "invalid_value", "temperature"),
        (json!({ "top_p": 2 }), "invalid_value", "top_p"),
        (json!({ "max_output_tokens": 0 }), "invalid_value", "max_output_tokens"),
        (json!({ "background": true }), "unsupported_value", "background"),
        (json!({ "conversation": "conv_1" }), "unsupported_value", "conversation"),
        (json!({ "prompt": { "id": "pmpt_1" } }), "unsupported_value", "prompt"),
        (json!({ "tools": {} }), "invalid_type", "tools"),
        (tool(json!({ "type": "web_search" })), "unsupported_value", "tools[0].type"),
        (tool(json!({ "type": "function" })), "missing_required_parameter", "tools[0].name"),
        (json!({ "tool_choice": "perhaps" }), "invalid_value", "tool_choice"),
        (json!({ "tool_choice": { "type": "file_search" } }), "unsupported_value", "tool_choice.type"),
        (json!({ "text": { "format": { "type": "grammar" } } }), "unsupported_value", "text.format.type"),
        (json!({ "text": { "format": { "type": "json_schema", "name": "x" } } }), "missing_required_parameter", "text.format.schema"),
    ];
    for (more, code, param) in cases {
        for stream in [false, true] {
            let mut more = more.clone();
            if more["stream"].is_null() {
                more["stream"] = stream.into();
            }
            let error = stage.ask(more.clone()).answer().await.assert_error(400, code);
            assert_eq!(error["param"], param, "{more}");
        }
    }
    let twice = stage.gateway.post("/v1/responses").body("application/json", r#"{"model":"Assistant","input":"a","input":"b"}"#);
    assert_eq!(twice.answer().await.assert_error(400, "duplicate_key")["param"], "input");
    let unknown = stage.gateway.post("/v1/responses").json(&json!({ "input": "a" })).answer().await;
    assert_eq!(unknown.assert_error(400, "missing_required_parameter")["param"], "model");
}

/// Before the first byte a failure is a real status, streamed or not.
#[tokio::test]
async fn early_failures_have_a_status() {
    for stream in [false, true] {
        let stage = stage([Step::json(500, json!({ "error": { "message": "broken" } }))]).await;
        let answer = stage.ask(json!({ "stream": stream })).answer().await;
        assert_eq!((answer.status(), answer.header("content-type")), (502, Some("application/json")));
        answer.assert_error(502, "upstream_error");
    }
}

/// A wait for the upstream shows nothing here, so that its end in vain is a status, too.
#[tokio::test]
async fn a_wait_in_vain_has_a_status() {
    let config = r#"
upstreams: { lm: { base_url: "${LM}", max_concurrent: 1, queue: { timeout: 300ms } } }
agents: [{ name: Assistant, model: scripted }]
"#;
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        e.event(&chunk(&json!({ "content": "I take my time" }), None)).await.unwrap();
        e.client_gone().await;
    })])
    .await;
    let gateway = Gateway::start(config, [("LM", &model.url())]).await;
    let ask = || gateway.post("/v1/responses").json(&json!({ "model": "Assistant", "input": "hi", "stream": true }));
    let first = ask().open().await;
    model.request(1).await;
    ask().answer().await.assert_error(429, "concurrency_limit_exceeded");
    drop(first);
}

/// After it, the stream ends with a failed response; nobody takes the part for the whole, and it is not kept.
#[tokio::test]
async fn late_failures_are_an_event() {
    let broken = || {
        Step::chat(|mut e| async move {
            e.start("text/event-stream").await;
            e.event(&chunk(&json!({ "content": "half" }), None)).await.unwrap();
            e.reset();
        })
    };
    let stage = stage([broken(), broken()]).await;
    let events = stage.events(json!({})).await;
    assert_eq!(names(&events).last(), Some(&"response.failed"));
    let failed = &events.last().unwrap()["response"];
    assert_eq!((&failed["status"], &failed["error"]["code"]), (&json!("failed"), &json!("upstream_error")));
    assert!(failed["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert_eq!((text(failed).as_str(), &failed["output"][0]["status"]), ("half", &json!("incomplete")));
    let again = stage.ask(json!({ "previous_response_id": failed["id"] })).answer().await;
    assert_eq!(again.assert_error(404, "not_found")["param"], "previous_response_id");
    stage.ask(json!({})).answer().await.assert_error(502, "upstream_error");
}

const SCRIPT: &str = r#"
return {
  on_request = function(head, run) if head.headers["x-block"] then return run:reject("blocked " .. head.path) end end,
  on_chunk = function(chunk) chunk.text = chunk.text:upper() end,
  post_response = function(reply, run) reply.content = reply.content .. " [" .. run.id .. " " .. tostring(run.session) .. "]" end,
}"#;

/// A hook acts as it does in chats, for agents and for aliases; a run has its response's id.
#[tokio::test]
async fn hooks_decide() {
    let (model, gateway) = scripted(SCRIPT, [Step::says("hello"), Step::says("hello"), Step::says("hello")]).await;
    let ask = |model: &str, stream: bool| {
        gateway.post("/v1/responses").json(&json!({ "model": model, "input": "hi", "stream": stream, "metadata": { "session_id": "s1" } }))
    };
    let blocked = ask("Assistant", true).header("x-block", "1").answer().await;
    assert_eq!(blocked.assert_error(403, "request_rejected")["message"], "blocked /v1/responses");
    for name in ["Assistant", "fast"] {
        let response = ask(name, false).answer().await.json();
        assert_eq!(text(&response), format!("HELLO [{} s1]", response["id"].as_str().unwrap()), "{name}");
        assert_eq!(response["model"], name);
    }
    let response = told(&events(&ask("Assistant", true).stream().await));
    assert_eq!(text(&response), format!("HELLO [{} s1]", response["id"].as_str().unwrap()));
    assert_eq!(model.requests().len(), 3);
}

/// A hook's answer in the place of a failed run is a response like any other.
#[tokio::test]
async fn a_hook_recovers() {
    let script = "return { on_error = function(failure, run) return run:answer('sorry') end }";
    let (_model, gateway) = scripted(script, [Step::json(500, json!({}))]).await;
    let ask = gateway.post("/v1/responses").json(&json!({ "model": "Assistant", "input": "hi", "stream": true }));
    let response = told(&events(&ask.stream().await));
    assert_eq!((text(&response).as_str(), &response["status"]), ("sorry", &json!("completed")));
}

async fn scripted<const N: usize>(script: &str, steps: [Step; N]) -> (ScriptedModel, Gateway) {
    let config = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents: [{ name: Assistant, model: scripted, hooks: [{ script: scripts/h.lua, hold: true }] }]
models: { fast: { upstream: lm, model: scripted, hooks: [scripts/h.lua] } }
"#;
    let model = ScriptedModel::start(steps).await;
    let gateway = Setup::new(config).file("scripts/h.lua", script).env("LM", model.url()).start().await;
    (model, gateway)
}
