//! A run's stream, chunk by chunk.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use super::start;
use crate::support::events::Reader;
use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::{asked, chunk, reply, spoken};
use crate::support::{FakeMcp, ScriptedModel, Step, within};

/// Each delta of the model leaves at once: the model says its second word only when the client has its first.
#[tokio::test]
async fn deltas_leave_at_once() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let heard = Arc::new(Notify::new());
    let gate = heard.clone();
    let model = ScriptedModel::start([Step::chat(move |mut e| async move {
        e.start("text/event-stream").await;
        for i in 0..50 {
            e.event(&chunk(&json!({ "content": format!("{i} ") }), None)).await.unwrap();
            gate.notified().await;
        }
        e.event(&chunk(&json!({}), Some("stop"))).await.unwrap();
        e.send(b"data: [DONE]\n\n").await.unwrap();
        e.end().await;
    })])
    .await;
    let gateway = start("", &model, &mcp).await;
    let live = gateway.chat("Assistant", json!({ "stream": true })).open().await;
    assert_eq!(live.head.header("content-type").map(|v| v.starts_with("text/event-stream")), Some(true));
    assert_eq!(live.head.header("cache-control"), Some("no-cache"));
    assert_eq!(live.head.header("x-accel-buffering"), Some("no"));
    assert_eq!(live.head.header("content-length"), None);
    let mut reader = Reader::new(live);
    for i in 0..50 {
        loop {
            let chunk = within(5, &format!("word {i}"), reader.json()).await.expect("the stream goes on");
            match chunk["choices"][0]["delta"]["content"].as_str() {
                None | Some("") => {}
                Some(word) => {
                    assert_eq!(word, format!("{i} "));
                    break;
                }
            }
        }
        heard.notify_one();
    }
}

/// Text before a tool call streams on as content: the client has it while the tool still works.
#[tokio::test]
async fn text_before_a_tool_call_streams_on() {
    let (open, gate) = oneshot::channel::<()>();
    let mcp = FakeMcp::start([Tool::gated(gate)]).await;
    let mut first = spoken("Let me look. ");
    first.extend(asked(&[("a", "get_weather", "{}")]));
    let model = ScriptedModel::start([Step::chat(|e| reply(e, first, "tool_calls")), Step::says("It is sunny.")]).await;
    let gateway = start("", &model, &mcp).await;
    let mut reader = Reader::new(gateway.chat("Assistant", json!({ "stream": true })).open().await);
    let mut text = String::new();
    while text != "Let me look. " {
        let chunk = within(5, "the text before the call", reader.json()).await.expect("the stream goes on");
        text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    open.send(()).unwrap();
    while let Some(chunk) = within(5, "the rest", reader.json()).await {
        text += chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    assert_eq!(text, "Let me look. It is sunny.");
}

/// With `include_usage`: every chunk says `usage: null`, then one more chunk with no choices has the sum of all hops.
#[tokio::test]
async fn usage_comes_last_where_asked() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::calls([("a", "get_weather", r#"{"city":"Paris"}"#)]), Step::says("It is sunny.")]).await;
    let gateway = start("", &model, &mcp).await;
    let said = gateway.chat("Assistant", json!({ "stream": true, "stream_options": { "include_usage": true } })).stream().await;
    said.assert_well_formed("Assistant");
    let chunks = said.chunks();
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["prompt_tokens"], 20);
    assert_eq!(last["usage"]["completion_tokens"], 10);
    assert_eq!(last["usage"]["total_tokens"], 30);
    assert!(others.iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)), "{others:?}");
}

/// Without it there is no usage, and no chunk without choices.
#[tokio::test]
async fn usage_stays_away_where_not_asked() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::says("hello there")]).await;
    let gateway = start("", &model, &mcp).await;
    let said = gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    said.assert_well_formed("Assistant");
    assert!(said.chunks().iter().all(|chunk| chunk["choices"] != json!([]) && chunk["usage"].is_null()));
}

/// Reasoning, however the upstream spells it, leaves as `reasoning_content` and is no content.
#[tokio::test]
async fn reasoning_leaves_in_one_form() {
    for spelling in ["reasoning_content", "reasoning"] {
        let mcp = FakeMcp::start([Tool::weather()]).await;
        let model = ScriptedModel::start([Step::chat(move |e| async move {
            let mut thought = json!({});
            thought[spelling] = "hmm ".into();
            let mut deltas = vec![thought];
            deltas.extend(spoken("Yes."));
            reply(e, deltas, "stop").await;
        })])
        .await;
        let gateway = start("", &model, &mcp).await;
        let said = gateway.chat("Assistant", json!({ "stream": true })).stream().await;
        assert_eq!(said.text(), "Yes.", "{spelling}");
        let thoughts: String =
            said.chunks().iter().filter_map(|c| c["choices"][0]["delta"]["reasoning_content"].as_str().map(str::to_owned)).collect();
        assert_eq!(thoughts, "hmm ", "{spelling}");
    }
}

/// A refusal stays a refusal.
#[tokio::test]
async fn a_refusal_stays_a_refusal() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::chat(|e| reply(e, vec![json!({ "refusal": "I will not." })], "stop"))]).await;
    let gateway = start("", &model, &mcp).await;
    let body = gateway.chat("Assistant", json!({})).answer().await.json();
    assert_eq!(body["choices"][0]["message"]["refusal"], "I will not.");
}

/// The reason to end is the model's own where it says more than `stop`.
#[tokio::test]
async fn a_cut_answer_says_length() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::chat(|e| reply(e, spoken("too lo"), "length"))]).await;
    let gateway = start("", &model, &mcp).await;
    let said = gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    assert_eq!(said.finish(), "length");
}
