//! Limits of a run: hops, calls, tokens, time.

use serde_json::{Value, json};

use super::start;
use crate::support::exchange::Received;
use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::chunk;
use crate::support::{FakeMcp, ScriptedModel, Step};

fn asks(id: &'static str) -> Step {
    Step::calls([(id, "get_weather", r#"{"city":"Paris"}"#)]).when("tools are offered", offers_tools)
}

fn offers_tools(request: &Received) -> bool {
    request.json()["tools"].as_array().is_some_and(|tools| !tools.is_empty())
}

fn last_answer() -> Step {
    Step::says("That is enough.").when("no tools are offered", |r| !offers_tools(r) && r.json()["tool_choice"].is_null())
}

/// A model that asks for tools for ever gets N turns of them, then one call without tools, whose answer is the reply.
#[tokio::test]
async fn the_hop_limit_ends_with_an_answer() {
    for streamed in [false, true] {
        let mcp = FakeMcp::start([Tool::weather()]).await;
        let model = ScriptedModel::start([asks("a"), asks("b"), last_answer()]).await;
        let gateway = start("max_tool_hops: 2", &model, &mcp).await;
        let (text, finish) = if streamed {
            let said = gateway.chat("Assistant", json!({ "stream": true })).stream().await;
            said.assert_well_formed("Assistant");
            (said.text(), said.finish())
        } else {
            let body = gateway.chat("Assistant", json!({})).answer().await;
            (body.content(), body.json()["choices"][0]["finish_reason"].as_str().unwrap().to_owned())
        };
        assert_eq!((text.as_str(), finish.as_str()), ("That is enough.", "stop"));
        assert_eq!(mcp.seen().calls.len(), 2);
        assert_eq!(model.requests().len(), 3);
    }
}

/// With `max_tool_hops: 0` the model is never offered tools.
#[tokio::test]
async fn no_hops_no_tools() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([last_answer()]).await;
    let gateway = start("max_tool_hops: 0", &model, &mcp).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "That is enough.");
}

/// With `on_limit: error` the run ends as an error that SDKs do not repeat.
#[tokio::test]
async fn the_hop_limit_ends_with_an_error_where_asked() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([asks("a"), asks("b"), asks("c")]).await;
    let gateway = start("max_tool_hops: 2, on_limit: error", &model, &mcp).await;
    let answer = gateway.chat("Assistant", json!({})).answer().await;
    answer.assert_error(500, "max_turns_exceeded");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(mcp.seen().calls.len(), 2);
}

/// The same within a stream.
#[tokio::test]
async fn the_hop_limit_ends_a_stream_with_an_error_event() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let mixed = Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        for delta in crate::support::scripted_model::spoken("Looking. ") {
            e.event(&chunk(&delta, None)).await.unwrap();
        }
        for delta in crate::support::scripted_model::asked(&[("a", "get_weather", r#"{"city":"Paris"}"#)]) {
            e.event(&chunk(&delta, None)).await.unwrap();
        }
        e.event(&chunk(&json!({}), Some("tool_calls"))).await.unwrap();
        e.send(b"data: [DONE]\n\n").await.unwrap();
        e.end().await;
    });
    let model = ScriptedModel::start([mixed, asks("b")]).await;
    let gateway = start("max_tool_hops: 1, on_limit: error", &model, &mcp).await;
    let said = gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    assert_eq!(said.text(), "Looking. ");
    assert_eq!(said.error().unwrap()["code"], "max_turns_exceeded");
    assert!(!said.data().contains(&"[DONE]"));
}

/// The number of calls is limited, too.
#[tokio::test]
async fn the_call_limit_ends_with_an_answer() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([asks("a"), asks("b"), last_answer()]).await;
    let gateway = start("max_tool_calls: 2", &model, &mcp).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "That is enough.");
    assert_eq!(mcp.seen().calls.len(), 2);
}

/// Calls of one turn beyond the limit are not made, and each is answered so that the conversation stays whole.
#[tokio::test]
async fn calls_beyond_the_limit_are_not_made() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let three = [("a", "get_weather", r#"{"city":"A"}"#), ("b", "get_weather", r#"{"city":"B"}"#), ("c", "get_weather", r#"{"city":"C"}"#)];
    let model = ScriptedModel::start([Step::calls(three), last_answer()]).await;
    let gateway = start("max_tool_calls: 2", &model, &mcp).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "That is enough.");
    assert_eq!(mcp.seen().calls.len(), 2);
    let second = model.request(2).await.json();
    let answered: Vec<&Value> = second["messages"].as_array().unwrap()[3..].iter().map(|m| &m["tool_call_id"]).collect();
    assert_eq!(answered, ["a", "b", "c"]);
}

/// And so are tokens: each scripted reply costs 15.
#[tokio::test]
async fn the_token_limit_ends_with_an_answer() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([asks("a"), asks("b"), last_answer()]).await;
    let gateway = start("max_total_tokens: 20", &model, &mcp).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "That is enough.");
}

/// A run that takes too long ends: as a status before the first event, and the model's call ends with it.
#[tokio::test]
async fn the_time_limit_is_a_status() {
    let (tell, gone) = tokio::sync::oneshot::channel();
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::chat(|mut e| async move { tell.send(e.client_gone().await).unwrap() })]).await;
    let gateway = start("timeout: 300ms", &model, &mcp).await;
    gateway.chat("Assistant", json!({ "stream": true })).answer().await.assert_error(504, "run_timeout");
    crate::support::within(2, "the end of the model's call", gone).await.unwrap();
}

/// After the first event it is an error event, and no `[DONE]`.
#[tokio::test]
async fn the_time_limit_is_an_error_event() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        e.event(&chunk(&json!({ "content": "Well, " }), None)).await.unwrap();
        e.client_gone().await;
    })])
    .await;
    let gateway = start("timeout: 500ms", &model, &mcp).await;
    let said = gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    assert_eq!(said.text(), "Well, ");
    assert_eq!(said.error().unwrap()["code"], "run_timeout");
    assert!(!said.data().contains(&"[DONE]"));
}
