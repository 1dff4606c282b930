//! The harness itself: a fake that does not notice a fault would make every other test worthless.

use bytes::Bytes;
use serde_json::json;

use crate::support::client::Request;
use crate::support::events::Frame;
use crate::support::scripted_model::chunk;
use crate::support::{Live, ScriptedModel, Step, filler};

fn chat(model: &ScriptedModel) -> Request {
    let address = model.origin().replace("http://localhost", "127.0.0.1").parse().unwrap();
    Request::new(address, "POST", "/v1/chat/completions")
}

/// A streamed reply is read back frame by frame, and its end is seen to be a proper one.
#[tokio::test]
async fn a_scripted_reply_is_read_back() {
    let model = ScriptedModel::start([Step::says("one two three"), Step::calls([("c1", "add", r#"{"a":1}"#)])]).await;
    let said = chat(&model).json(&json!({ "stream": true })).stream().await;
    assert_eq!(said.text(), "one two three");
    assert!(said.done());
    assert_eq!(said.finish(), "stop");
    let asked = chat(&model).json(&json!({ "stream": true })).stream().await;
    assert_eq!(asked.tool_calls(), [("c1".to_owned(), "add".to_owned(), r#"{"a":1}"#.to_owned())]);
}

/// Bodies arrive as they were sent, with a length and in chunks.
#[tokio::test]
async fn bodies_arrive_whole() {
    let echo = || {
        Step::chat(|e| async move {
            let body = e.request.body.clone();
            e.respond(200, &[], &body).await
        })
    };
    let model = ScriptedModel::start([echo(), echo()]).await;
    let text = filler(1 << 20);
    assert_eq!(chat(&model).body("text/plain", text.clone()).answer().await.text(), text);
    let pieces = text.as_bytes().chunks(1000).map(Bytes::copy_from_slice).collect();
    assert_eq!(chat(&model).chunks("text/plain", pieces).answer().await.text(), text);
}

/// A reset in the middle of a stream is no proper end.
#[tokio::test]
async fn a_reset_is_seen() {
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        e.event(&chunk(&json!({ "content": "half" }), None)).await.unwrap();
        e.reset();
    })])
    .await;
    let said = chat(&model).stream().await;
    assert!(!said.clean);
    assert!(matches!(said.frames.first(), None | Some(Frame::Data(_))));
}

/// A client that leaves is seen by the server that is about to answer.
#[tokio::test]
async fn a_client_that_leaves_is_seen() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        tell.send(e.client_gone().await).unwrap();
    })])
    .await;
    let live: Live = chat(&model).open().await;
    drop(live);
    told.await.unwrap();
}

/// A call that the script does not know fails the test.
#[tokio::test]
#[should_panic(expected = "unexpected POST /v1/chat/completions")]
async fn an_unexpected_call_fails() {
    let model = ScriptedModel::start([]).await;
    let wire = chat(&model).send().await;
    assert!(Live::read(wire, true).await.is_err());
}

/// A step that nobody used fails the test.
#[tokio::test]
#[should_panic(expected = "no request came for the step POST /v1/chat/completions")]
async fn an_unused_step_fails() {
    ScriptedModel::start([Step::says("never")]).await;
}
