//! The events of a response, one by one.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use super::{CONFIG, events, names, stage, stage_of, text, told, types, weather};
use crate::support::events::{Frame, Reader, Streamed};
use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::{chunk, reply, spoken};
use crate::support::{Step, within};

/// A text: opened, said word by word, closed; the last event has the whole response.
#[tokio::test]
async fn a_text_comes_piece_by_piece() {
    let stage = stage([Step::says("hello there")]).await;
    let events = stage.events(json!({ "metadata": { "a": "b" } })).await;
    assert_eq!(
        names(&events),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let first = &events[0]["response"];
    assert_eq!((&first["status"], &first["output"], &first["usage"]), (&json!("in_progress"), &json!([]), &Value::Null));
    assert_eq!(first["metadata"], json!({ "a": "b" }));
    assert_eq!(events[2]["item"]["content"], json!([]));
    let words: Vec<&str> = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(words, ["hello ", "there"]);
    assert_eq!((&events[6]["text"], &events[6]["content_index"]), (&json!("hello there"), &json!(0)));
    let response = told(&events);
    assert_eq!((&response["status"], text(&response).as_str()), (&json!("completed"), "hello there"));
    assert_eq!(response["usage"]["total_tokens"], 15);
}

/// Each piece leaves at once: the model says its next word only when the client has the last one.
#[tokio::test]
async fn pieces_leave_at_once() {
    let heard = Arc::new(Notify::new());
    let gate = heard.clone();
    let stage = stage([Step::chat(move |mut e| async move {
        e.start("text/event-stream").await;
        for i in 0..20 {
            e.event(&chunk(&json!({ "content": format!("{i} ") }), None)).await.unwrap();
            gate.notified().await;
        }
        e.event(&chunk(&json!({}), Some("stop"))).await.unwrap();
        e.send(b"data: [DONE]\n\n").await.unwrap();
        e.end().await;
    })])
    .await;
    let live = stage.ask(json!({ "stream": true })).open().await;
    assert_eq!(live.head.header("cache-control"), Some("no-cache"));
    let mut reader = Reader::new(live);
    for i in 0..20 {
        loop {
            let frame = within(5, &format!("word {i}"), reader.next()).await.expect("the stream goes on");
            if matches!(frame, Frame::Other(text) if text.contains(&format!("\"delta\":\"{i} \""))) {
                break;
            }
        }
        heard.notify_one();
    }
}

/// Reasoning, the gateway's tool, then the text: items in their order, and the call while it works.
#[tokio::test]
async fn reasoning_and_tools_are_told() {
    let thinking = |e| reply(e, vec![json!({ "reasoning_content": "h" }), json!({ "reasoning_content": "m" })], "stop");
    let mut first = vec![json!({ "reasoning_content": "hmm" })];
    first.extend(crate::support::scripted_model::asked(&[("w", "get_weather", r#"{"city":"Paris"}"#)]));
    let stage = stage([Step::chat(|e| reply(e, first, "tool_calls")), Step::says("Sunny."), Step::chat(thinking)]).await;
    let events = stage.events(json!({})).await;
    assert_eq!(
        names(&events)[2..16],
        [
            "response.output_item.added",
            "response.content_part.added",
            "response.reasoning_text.delta",
            "response.reasoning_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.output_item.added",
            "response.mcp_call.in_progress",
            "response.mcp_call_arguments.delta",
            "response.mcp_call_arguments.done",
            "response.mcp_call.completed",
            "response.output_item.done",
            "response.output_item.added",
            "response.content_part.added",
        ]
    );
    let response = told(&events);
    assert_eq!(types(&response), ["reasoning", "mcp_call", "message"]);
    let call = &response["output"][1];
    assert_eq!((&call["name"], &call["arguments"]), (&json!("get_weather"), &json!(r#"{"city":"Paris"}"#)));
    assert_eq!((&call["output"], &call["status"], &call["error"]), (&json!("sunny in Paris"), &json!("completed"), &Value::Null));
    assert_eq!(call["server_label"], "Assistant");

    // A model that only thinks has said nothing: the response has a message all the same.
    let thought = told(&stage.events(json!({})).await);
    assert_eq!((types(&thought), text(&thought).as_str()), (vec!["reasoning", "message"], ""));
    assert_eq!(thought["output"][0]["content"][0]["text"], "hm");
}

/// What a text refers to is told with it, in the form that responses have.
#[tokio::test]
async fn citations_are_told() {
    let said = |e| {
        let citation = json!({ "url": "http://a", "title": "A", "start_index": 0, "end_index": 5 });
        let citation = json!({ "type": "url_citation", "url_citation": citation });
        reply(e, vec![json!({ "content": "Sunny" }), json!({ "content": ".", "annotations": [citation] })], "stop")
    };
    let stage = stage([Step::chat(said)]).await;
    let events = stage.events(json!({})).await;
    let citation = json!({ "type": "url_citation", "url": "http://a", "title": "A", "start_index": 0, "end_index": 5 });
    let added: Vec<&Value> = events.iter().filter(|event| event["type"] == "response.output_text.annotation.added").collect();
    assert_eq!((added.len(), &added[0]["annotation"], &added[0]["annotation_index"]), (1, &citation, &json!(0)));
    let response = told(&events);
    assert_eq!((text(&response).as_str(), &response["output"][0]["content"][0]["annotations"]), ("Sunny.", &json!([citation])));
}

/// What was cut off ends with an event of its own.
#[tokio::test]
async fn a_cut_answer_is_incomplete() {
    let stage = stage([Step::chat(|e| reply(e, spoken("too lo"), "length"))]).await;
    let events = stage.events(json!({})).await;
    assert_eq!(names(&events).last(), Some(&"response.incomplete"));
    let response = told(&events);
    assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
}

/// A stream that is silent for long shows by comments that it lives, and no event is lost or numbered wrong by them.
#[tokio::test]
async fn a_silent_stream_pings() {
    let (open, gate) = oneshot::channel::<()>();
    let stage = stage_of(CONFIG, Tool::gated(gate), [weather(), Step::says("Sunny.")]).await;
    let live = stage.ask(json!({ "stream": true })).open().await;
    let head = live.head.clone();
    let mut reader = Reader::new(live);
    let mut frames = Vec::new();
    while !matches!(frames.last(), Some(Frame::Comment(_))) {
        frames.push(within(20, "a ping", reader.next()).await.expect("the stream goes on"));
    }
    open.send(()).unwrap();
    while let Some(frame) = within(10, "the rest", reader.next()).await {
        frames.push(frame);
    }
    let response = told(&events(&Streamed { head, frames, clean: reader.clean }));
    assert_eq!(text(&response), "Sunny.");
}
