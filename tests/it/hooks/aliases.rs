//! Hooks of `models:` aliases: a run of one model call in which everything that the client sent survives.

use serde_json::{Value, json};

use crate::support::scripted_model::{chunk, usage};
use crate::support::{Gateway, ScriptedModel, Setup, Step};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
models:
  fast: { upstream: lm, model: scripted, hooks: [HOOKS] }
  bare: { upstream: lm, model: scripted }
"#;

async fn gateway(hooks: &str, script: &str, model: &ScriptedModel) -> Gateway {
    let setup = Setup::new(&CONFIG.replace("HOOKS", hooks)).file("scripts/h.lua", script);
    setup.env("LM", model.url()).start().await
}

/// A model that streams these chunks, then its usage.
fn streams(chunks: Vec<Value>) -> Step {
    Step::chat(move |mut exchange| async move {
        exchange.start("text/event-stream").await;
        let mut last = chunk(&json!({}), None);
        last["choices"] = json!([]);
        last["usage"] = usage();
        for chunk in chunks.iter().chain([&last]) {
            exchange.event(chunk).await.unwrap();
        }
        exchange.send(b"data: [DONE]\n\n").await.unwrap();
        exchange.end().await;
    })
}

fn choice(index: u32, delta: Value, finish: Option<&str>) -> Value {
    let mut chunk = chunk(&delta, finish);
    chunk["choices"][0]["index"] = index.into();
    chunk
}

/// What the hook does not touch reaches the model as the client sent it, under the model's own name.
#[tokio::test]
async fn unknown_fields_survive() {
    let model = ScriptedModel::start([Step::says("hello")]).await;
    let script = "return { pre_prompt = function(prompt) prompt.temperature = 0.25 end }";
    let gateway = gateway("scripts/h.lua", script, &model).await;
    let tool = json!({ "type": "function", "function": { "name": "paint", "parameters": { "type": "object" } } });
    let more = json!({ "ttl": 300, "top_k": 7, "response_format": { "type": "json_schema", "json_schema": { "name": "x", "schema": {} } }, "tools": [tool], "tool_choice": "auto", "n": 1 });
    let answer = gateway.chat("fast", more.clone()).answer().await;
    assert_eq!((answer.content().as_str(), &answer.json()["model"]), ("hello", &json!("fast")));
    let sent = model.request(1).await.json();
    assert_eq!((&sent["model"], &sent["temperature"]), (&json!("scripted"), &json!(0.25)));
    for (name, value) in more.as_object().unwrap() {
        assert_eq!(&sent[name], value, "{name}");
    }
}

/// With `n: 2` both choices arrive, streamed and whole, and each passes the hooks.
#[tokio::test]
async fn each_choice_passes_the_hooks() {
    let reply = || {
        streams(vec![
            choice(0, json!({ "role": "assistant", "content": "one " }), None),
            choice(1, json!({ "role": "assistant", "content": "uno " }), None),
            choice(0, json!({ "content": "two" }), None),
            choice(1, json!({ "content": "due" }), None),
            choice(1, json!({}), Some("length")),
            choice(0, json!({}), Some("stop")),
        ])
    };
    let script = r#"return {
      on_chunk = function(chunk) chunk.text = chunk.text:upper() end,
      post_response = function(reply) reply.content = reply.content .. " #" .. reply.choice end,
    }"#;
    let model = ScriptedModel::start([reply(), reply()]).await;
    let gateway = gateway("{ script: scripts/h.lua, hold: true }", script, &model).await;
    let whole = gateway.chat("fast", json!({ "n": 2 })).answer().await.json();
    let said = |choice: usize| whole["choices"][choice]["message"]["content"].clone();
    assert_eq!((said(0), said(1)), (json!("ONE TWO #0"), json!("UNO DUE #1")));
    assert_eq!((&whole["choices"][0]["finish_reason"], &whole["choices"][1]["finish_reason"]), (&json!("stop"), &json!("length")));
    assert_eq!(model.request(1).await.json()["n"], 2);

    let streamed = gateway.chat("fast", json!({ "n": 2, "stream": true })).stream().await;
    assert!(streamed.done());
    for (index, expected) in [(0, "ONE TWO #0"), (1, "UNO DUE #1")] {
        let chunks = streamed.chunks();
        let deltas = chunks.iter().flat_map(|chunk| chunk["choices"].as_array().cloned().unwrap_or_default());
        let of_choice: Vec<Value> = deltas.filter(|choice| choice["index"] == index).collect();
        let text: String = of_choice.iter().filter_map(|choice| choice["delta"]["content"].as_str()).collect();
        assert_eq!(text, expected);
        let roles = of_choice.iter().filter(|choice| choice["delta"]["role"] == "assistant").count();
        assert_eq!((roles, of_choice[0]["delta"]["role"].as_str()), (1, Some("assistant")), "the role comes first and once");
    }
}

/// The client's own tool calls, log probabilities and usage reach it.
#[tokio::test]
async fn what_the_client_asked_for_comes_back() {
    let logprobs = json!({ "content": [{ "token": "hm", "logprob": -0.5, "bytes": null, "top_logprobs": [] }] });
    let mut first = choice(0, json!({ "content": "hm" }), None);
    first["choices"][0]["logprobs"] = logprobs.clone();
    let call = |arguments: &str| json!({ "tool_calls": [{ "index": 0, "id": "c1", "type": "function", "function": { "name": "paint", "arguments": arguments } }] });
    let reply = streams(vec![
        first,
        choice(0, call(""), None),
        choice(0, json!({ "tool_calls": [{ "index": 0, "function": { "arguments": "{\"colour\":\"red\"}" } }] }), None),
        choice(0, json!({}), Some("tool_calls")),
    ]);
    let model = ScriptedModel::start([reply]).await;
    let gateway = gateway("scripts/h.lua", "return { on_tool_call = function() error('not a call of the gateway') end }", &model).await;
    let more = json!({ "stream": true, "stream_options": { "include_usage": true }, "logprobs": true });
    let streamed = gateway.chat("fast", more).stream().await;
    streamed.assert_well_formed("fast");
    assert_eq!(streamed.tool_calls(), [("c1".to_owned(), "paint".to_owned(), "{\"colour\":\"red\"}".to_owned())]);
    assert_eq!(streamed.finish(), "tool_calls");
    let chunks = streamed.chunks();
    assert!(chunks.iter().any(|chunk| chunk["choices"][0]["logprobs"] == logprobs));
    assert_eq!(chunks.last().unwrap()["usage"]["total_tokens"], 15);
}

/// A hook decides here as it does for agents, and is told that its point knows no other verdict.
#[tokio::test]
async fn hooks_decide() {
    let script = r#"return {
      on_request = function(head, run) if head.headers["x-block"] then return run:reject("blocked " .. head.model) end end,
      pre_prompt = function(prompt, run) return run:answer("instead of " .. prompt.model) end,
    }"#;
    let model = ScriptedModel::start([]).await;
    let gateway = gateway("scripts/h.lua", script, &model).await;
    assert_eq!(gateway.chat("fast", json!({})).answer().await.content(), "instead of scripted");
    let refused = gateway.chat("fast", json!({})).header("x-block", "1").answer().await;
    assert_eq!(refused.assert_error(403, "request_rejected")["message"], "blocked fast");
}

/// The other endpoints pass requests through, so that they would be a way round the hook: they are refused.
#[tokio::test]
async fn nobody_walks_round_the_hook() {
    let model = ScriptedModel::start([Step::says("plain")]).await;
    let gateway = gateway("scripts/h.lua", "return { pre_prompt = function() end }", &model).await;
    for path in ["/v1/completions", "/v1/embeddings"] {
        let asked = gateway.post(path).json(&json!({ "model": "fast", "input": "x", "prompt": "x" })).answer().await;
        asked.assert_error(400, "unsupported_value");
    }
    assert_eq!(gateway.chat("bare", json!({})).answer().await.content(), "plain", "an alias without hooks is plain traffic");
}
