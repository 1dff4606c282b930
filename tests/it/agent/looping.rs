//! The loop itself: prompt, tool calls, results, answer.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Barrier;

use super::{messages, start};
use crate::support::fake_mcp::{Tool, ToolAnswer};
use crate::support::{FakeMcp, Gateway, ScriptedModel, Step};

/// The model asks for a tool, reads its result, and answers; the client sees one plain answer.
#[tokio::test]
async fn a_tool_is_called_and_its_result_read() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([
        Step::calls([("call_1", "get_weather", r#"{"city": "Paris"}"#)]),
        Step::says("It is sunny.").after_tool("sunny in Paris"),
    ])
    .await;
    let gateway = start("", &model, &mcp).await;
    let answer = gateway.chat("Assistant", json!({})).answer().await;
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "Assistant");
    let choice = &body["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["index"]), (&json!("stop"), &json!(0)));
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], "It is sunny.");
    assert!(choice["message"].get("tool_calls").is_none(), "the gateway's own tools never show: {choice}");
    assert!(choice["message"].get("refusal").is_some() && choice.get("logprobs").is_some(), "keys that OpenAI requires: {choice}");
    assert!(answer.header("server-timing").is_some());

    assert_eq!(mcp.seen().calls, [("current".to_owned(), json!({ "city": "Paris" }))]);
    let first = model.request(1).await.json();
    assert_eq!(messages(&first), [("system".into(), "Be brief.".into()), ("user".into(), "hello".into())]);
    assert_eq!(first["model"], "scripted");
    assert_eq!(first["stream"], true, "the upstream is always streamed from");
    let tool = &first["tools"][0];
    assert_eq!((&tool["type"], &tool["function"]["name"]), (&json!("function"), &json!("get_weather")));
    assert_eq!(tool["function"]["parameters"]["required"], json!(["city"]));
    let second = model.request(2).await.json();
    let last_two = &second["messages"].as_array().unwrap()[2..];
    assert_eq!(last_two[0]["tool_calls"][0]["id"], "call_1");
    assert_eq!(last_two[0]["tool_calls"][0]["function"]["arguments"], r#"{"city": "Paris"}"#);
    assert_eq!(last_two[1], json!({ "role": "tool", "tool_call_id": "call_1", "content": "sunny in Paris" }));
}

/// The same run as a stream.
#[tokio::test]
async fn a_tool_is_called_while_streaming() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([
        Step::calls([("call_1", "get_weather", r#"{"city": "Paris"}"#)]),
        Step::says("It is sunny.").after_tool("sunny in Paris"),
    ])
    .await;
    let gateway = start("", &model, &mcp).await;
    let said = gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    said.assert_well_formed("Assistant");
    assert_eq!((said.text().as_str(), said.finish().as_str()), ("It is sunny.", "stop"));
    assert!(said.tool_calls().is_empty());
}

/// Two calls of one turn run at the same time: the server answers neither until both have arrived. Results keep the order asked.
#[tokio::test]
async fn calls_of_one_turn_run_in_parallel() {
    let both = Arc::new(Barrier::new(2));
    let mcp = FakeMcp::start([Tool::new("current", json!({ "type": "object" }), move |arguments: Value| {
        let both = both.clone();
        async move {
            both.wait().await;
            ToolAnswer::Text(format!("weather of {}", arguments["city"]))
        }
    })])
    .await;
    let model = ScriptedModel::start([
        Step::calls([("a", "get_weather", r#"{"city":"Paris"}"#), ("b", "get_weather", r#"{"city":"Rome"}"#)]),
        Step::says("Both are sunny."),
    ])
    .await;
    let gateway = start("", &model, &mcp).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "Both are sunny.");
    let second = model.request(2).await.json();
    let results = &second["messages"].as_array().unwrap()[3..];
    assert_eq!(results[0], json!({ "role": "tool", "tool_call_id": "a", "content": "weather of \"Paris\"" }));
    assert_eq!(results[1], json!({ "role": "tool", "tool_call_id": "b", "content": "weather of \"Rome\"" }));
}

/// With `parallel_tool_calls: false` they run one after the other.
#[tokio::test]
async fn calls_run_one_by_one_where_asked() {
    let busy = Arc::new(tokio::sync::Mutex::new(()));
    let mcp = FakeMcp::start([Tool::new("current", json!({ "type": "object" }), move |_| {
        let busy = busy.clone();
        async move {
            let alone = busy.try_lock();
            tokio::task::yield_now().await;
            ToolAnswer::Text(if alone.is_ok() { "alone" } else { "crowded" }.into())
        }
    })])
    .await;
    let model = ScriptedModel::start([
        Step::calls([("a", "get_weather", "{}"), ("b", "get_weather", "{}"), ("c", "get_weather", "{}")]),
        Step::says("done"),
    ])
    .await;
    let gateway = start("parallel_tool_calls: false", &model, &mcp).await;
    gateway.chat("Assistant", json!({})).answer().await;
    let second = model.request(2).await.json();
    let results: Vec<&Value> = second["messages"].as_array().unwrap()[3..].iter().map(|m| &m["content"]).collect();
    assert_eq!(results, ["alone", "alone", "alone"]);
}

/// Usage is the sum over all model calls.
#[tokio::test]
async fn usage_is_summed() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([
        Step::calls([("a", "get_weather", r#"{"city":"Paris"}"#)]),
        Step::calls([("b", "get_weather", r#"{"city":"Rome"}"#)]),
        Step::says("done"),
    ])
    .await;
    let gateway = start("", &model, &mcp).await;
    let body = gateway.chat("Assistant", json!({})).answer().await.json();
    let usage = &body["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]), (&json!(30), &json!(15), &json!(45)));
}

/// Fields that the gateway does not know reach the model as they came; those that it does are its own.
#[tokio::test]
async fn unknown_fields_are_forwarded() {
    let model = ScriptedModel::start([Step::says("hello")]).await;
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let gateway = start("", &model, &mcp).await;
    let more = json!({ "temperature": 0.25, "reasoning_effort": "low", "made_up": { "a": [1, null] }, "max_tokens": 7, "seed": 3, "stop": ["x"], "logprobs": true });
    gateway.chat("Assistant", more.clone()).answer().await;
    let received = model.request(1).await.json();
    for (name, value) in more.as_object().unwrap() {
        assert_eq!(&received[name], value, "{name}");
    }
}

/// `tool_choice: required` holds for the first turn; else the loop would never end.
#[tokio::test]
async fn a_required_tool_is_required_once() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::calls([("a", "get_weather", r#"{"city":"Paris"}"#)]), Step::says("done")]).await;
    let gateway = start("", &model, &mcp).await;
    gateway.chat("Assistant", json!({ "tool_choice": "required" })).answer().await;
    assert_eq!(model.request(1).await.json()["tool_choice"], "required");
    assert_ne!(model.request(2).await.json()["tool_choice"], "required");
}

/// Content in parts and an image reach the model as they came.
#[tokio::test]
async fn content_in_parts_survives() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::says("a cat")]).await;
    let gateway = start("", &model, &mcp).await;
    let content =
        json!([{ "type": "text", "text": "what is this?" }, { "type": "image_url", "image_url": { "url": "data:image/png;base64,AA==" } }]);
    gateway.chat("Assistant", json!({ "messages": [{ "role": "user", "content": content, "name": "ann" }] })).answer().await;
    assert_eq!(model.request(1).await.json()["messages"][1], json!({ "role": "user", "content": content, "name": "ann" }));
}

/// A model that says `stop` and asks for tools all the same is believed about the tools.
#[tokio::test]
async fn calls_count_whatever_the_finish_reason() {
    use crate::support::scripted_model::{asked, reply};
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([
        Step::chat(|e| reply(e, asked(&[("a", "get_weather", r#"{"city":"Paris"}"#)]), "stop")),
        Step::says("done").after_tool("sunny in Paris"),
    ])
    .await;
    let gateway = start("", &model, &mcp).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "done");
}

/// Calls without ids, or with the same id twice, are told apart all the same.
#[tokio::test]
async fn missing_ids_are_minted() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([
        Step::calls([
            ("", "get_weather", r#"{"city":"Paris"}"#),
            ("x", "get_weather", r#"{"city":"Rome"}"#),
            ("x", "get_weather", r#"{"city":"Oslo"}"#),
        ]),
        Step::says("done"),
    ])
    .await;
    let gateway = start("", &model, &mcp).await;
    gateway.chat("Assistant", json!({})).answer().await;
    let second = model.request(2).await.json();
    let messages = second["messages"].as_array().unwrap();
    let asked: Vec<&Value> = messages[2]["tool_calls"].as_array().unwrap().iter().map(|call| &call["id"]).collect();
    let answered: Vec<&Value> = messages[3..].iter().map(|message| &message["tool_call_id"]).collect();
    assert_eq!(asked, answered);
    assert!(asked.iter().all(|id| id.as_str().is_some_and(|id| !id.is_empty())));
    assert!(asked[0] != asked[1] && asked[1] != asked[2] && asked[0] != asked[2], "{asked:?}");
    let cities: Vec<&Value> = messages[3..].iter().map(|message| &message["content"]).collect();
    assert_eq!(cities, ["sunny in Paris", "sunny in Rome", "sunny in Oslo"]);
}

/// Many tools of one server at once, by pattern and with a prefix.
#[tokio::test]
async fn tools_are_included_by_pattern() {
    let tool = |name: &str| {
        let said = format!("{name} was here");
        Tool::new(name, json!({ "type": "object" }), move |_| {
            let said = said.clone();
            async move { ToolAnswer::Text(said) }
        })
    };
    let mcp = FakeMcp::start([tool("read_file"), tool("read_folder"), tool("write_file")]).await;
    let model =
        ScriptedModel::start([Step::calls([("a", "fs_read_file", "{}")]), Step::says("done").after_tool("read_file was here")]).await;
    let config = r#"
upstreams: { lm: { base_url: "${LM}" } }
mcp_servers: { files: { transport: http, url: "${MCP}" } }
agents:
  - { name: Assistant, model: scripted, tools: [{ provider: mcp, mcp_server: files, include: ["read_*"], exclude: ["*_folder"], prefix: fs_ }] }
"#;
    let gateway = Gateway::start(config, [("LM", &model.url()), ("MCP", &mcp.url())]).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "done");
    let offered = model.request(1).await.json()["tools"].clone();
    let names: Vec<&Value> = offered.as_array().unwrap().iter().map(|tool| &tool["function"]["name"]).collect();
    assert_eq!(names, ["fs_read_file"]);
}

/// No secret of one server reaches another one.
#[tokio::test]
async fn secrets_stay_where_they_belong() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::calls([("a", "get_weather", r#"{"city":"Paris"}"#)]), Step::says("done")]).await;
    let gateway = start("", &model, &mcp).await;
    gateway.chat("Assistant", json!({})).key("client-secret").header("cookie", "client-cookie").answer().await;
    for received in model.requests() {
        assert_eq!(received.header("authorization"), Some("Bearer upstream-secret"));
        assert!(!["client-secret", "client-cookie", "mcp-secret"].iter().any(|secret| received.mentions(secret)));
    }
    for received in mcp.seen().requests {
        assert_eq!(received.header("authorization"), Some("Bearer mcp-secret"));
        assert!(!["client-secret", "client-cookie", "upstream-secret"].iter().any(|secret| received.mentions(secret)));
    }
}
