//! Plain streams: no byte lost, none gained, none late; and a broken one looks broken to the client.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::Semaphore;

use crate::support::scripted_model::chunk;
use crate::support::{Gateway, ScriptedModel, Step, within};

const CONFIG: &str = r#"upstreams: { lm: { base_url: "${LM}" } }"#;

/// The upstream sends chunk n + 1 only when the client has chunk n in its hands: nothing is held back, nothing is changed.
#[tokio::test]
async fn each_chunk_passes_at_once() {
    const N: usize = 1000;
    // Frames as odd as upstreams make them: comments, names, empty deltas, any white space.
    let frame = |i: usize| match i % 4 {
        0 => format!("data: {{\"n\": {i}, \"choices\":[]}}\n\n"),
        1 => format!(": comment {i}\n\n"),
        2 => format!("event: odd\r\nid: {i}\r\ndata:{i}\r\n\r\n"),
        _ => format!("{i}, half a fra"),
    };
    let received = Arc::new(Semaphore::new(1));
    let gate = received.clone();
    let model = ScriptedModel::start([Step::chat(move |mut e| async move {
        e.start("text/event-stream").await;
        for i in 0..N {
            gate.acquire().await.unwrap().forget();
            e.send(frame(i).as_bytes()).await.unwrap();
        }
        e.end().await;
    })])
    .await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let mut live = gateway.chat("scripted", json!({ "stream": true })).open().await;
    assert_eq!(live.head.header("content-type"), Some("text/event-stream"));
    for i in 0..N {
        let wanted = frame(i);
        let mut got = Vec::new();
        while got.len() < wanted.len() {
            let piece = within(5, &format!("chunk {i}"), live.piece()).await.unwrap().expect("the stream goes on");
            got.extend_from_slice(&piece);
        }
        assert_eq!(String::from_utf8(got).unwrap(), wanted);
        received.add_permits(1);
    }
    assert!(within(5, "the end", live.piece()).await.unwrap().is_none());
}

/// An upstream that breaks off resets the client's connection too: no client takes half an answer for a whole one.
#[tokio::test]
async fn a_reset_reaches_the_client() {
    let half = || {
        Step::chat(|mut e| async move {
            e.start("text/event-stream").await;
            e.event(&chunk(&json!({ "content": "half" }), None)).await.unwrap();
            e.reset();
        })
    };
    let model = ScriptedModel::start([half(), Step::says("whole")]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let mut live = gateway.chat("scripted", json!({ "stream": true })).open().await;
    let mut body = Vec::new();
    let end = loop {
        match within(5, "the end of a broken stream", live.piece()).await {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            end => break end,
        }
    };
    let body = String::from_utf8(body).unwrap();
    assert!(end.is_err(), "a broken stream ended as if it were whole: {body:?}");
    assert!(!body.contains("error") && !body.contains("[DONE]"), "a plain stream gains nothing: {body:?}");
    assert_eq!(gateway.chat("scripted", json!({})).answer().await.content(), "whole");
}

/// A body with a length that ends too early is broken, too.
#[tokio::test]
async fn a_short_body_reaches_the_client_as_broken() {
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"half\":").await.unwrap();
    })])
    .await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let live = gateway.chat("scripted", json!({})).open().await;
    assert!(within(5, "the end", live.answer()).await.is_err());
}

/// An upstream that falls silent is given up after `first_byte_timeout`, which holds for every read of plain traffic, and its client's connection ends as broken.
#[tokio::test]
async fn a_stalled_stream_is_given_up() {
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        e.event(&chunk(&json!({ "content": "half" }), None)).await.unwrap();
        e.client_gone().await;
    })])
    .await;
    let config = r#"upstreams: { lm: { base_url: "${LM}", first_byte_timeout: 300ms } }"#;
    let gateway = Gateway::start(config, [("LM", &model.url())]).await;
    let live = gateway.chat("scripted", json!({ "stream": true })).open().await;
    assert!(within(5, "the end of a stalled stream", live.answer()).await.is_err());
}

/// A client that leaves a plain stream ends it at the upstream, too.
#[tokio::test]
async fn a_client_that_leaves_ends_the_stream() {
    let (tell, gone) = tokio::sync::oneshot::channel();
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        e.event(&chunk(&json!({ "content": "one" }), None)).await.unwrap();
        let _ = tell.send(e.client_gone().await);
    })])
    .await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let mut live = gateway.chat("scripted", json!({ "stream": true })).open().await;
    live.piece().await.unwrap();
    let left = std::time::Instant::now();
    drop(live);
    let seen = within(5, "the end at the upstream", gone).await.unwrap();
    assert!(seen - left < std::time::Duration::from_secs(1), "seen after {:?}", seen - left);
}

/// A large whole answer arrives byte for byte.
#[tokio::test]
async fn large_answers_pass() {
    let text = crate::support::filler(20 << 20);
    let sent = text.clone();
    let model = ScriptedModel::start([Step::chat(|e| async move {
        e.respond(200, &[("content-type", "application/json")], sent.as_bytes()).await;
    })])
    .await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let answer = gateway.chat("scripted", json!({})).answer().await;
    assert!(answer.body == text.as_bytes(), "{} bytes of {}", answer.body.len(), text.len());
}
