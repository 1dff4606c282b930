//! Failures in every dress: each is an error in OpenAI's form, a status before the first word and an event after it.

use serde_json::{Value, json};

use super::{Bad, Case, Ending, Outcome, breaks, chunk, deltas, events, fails, misbehave, raw};

const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";

/// What stands behind "Well, ", which has left by then.
fn after(rest: &[u8]) -> Bad {
    let mut bad = events(&[chunk(json!({ "content": "Well, " }), None)]);
    bad.body.extend_from_slice(rest);
    bad
}

fn refused(status: u16) -> Outcome {
    Outcome::Fails { status, code: None, said: "" }
}

/// Errors that come as a good answer.
#[tokio::test]
async fn errors_with_status_200() {
    let case = |name, answer, outcome| Case { name, answer, outcome };
    let error = |error: Value| json!({ "error": error }).to_string();
    let failed = || fails(502, "upstream_error");
    misbehave(
        "",
        vec![
            case("a string", raw(JSON, error(json!("Unexpected endpoint or method. (POST /v1/chat/completions)"))), failed()),
            case("an object", raw(JSON, error(json!({ "message": "model crashed", "code": 7 }))), failed()),
            case("a string as an event", raw(SSE, format!("data: {}\n\n", error(json!("model crashed")))), failed()),
            case("a bare line", raw(SSE, format!("{}\n", error(json!("model crashed")))), failed()),
            case(
                "an object that is an error",
                raw(JSON, json!({ "object": "error", "message": "model crashed", "code": 40303 }).to_string()),
                failed(),
            ),
            case(
                "an event called error",
                raw(SSE, format!("event: error\ndata: {}\n\n", error(json!({ "message": "model crashed" })))),
                failed(),
            ),
            case("the same without the key", raw(SSE, "event: error\ndata: {\"message\":\"model crashed\"}\n\n"), failed()),
            case("the same in words", raw(SSE, "event: error\ndata: model crashed\n\ndata: [DONE]\n\n"), failed()),
            case(
                "an error in the choice",
                events(&[json!({ "choices": [{ "index": 0, "delta": { "content": "" }, "finish_reason": "error",
            "error": { "code": 502, "message": "provider gone" } }] })]),
                failed(),
            ),
            case("a reason that is an error", deltas(&[], "error"), failed()),
            case(
                "the client's fault",
                raw(
                    JSON,
                    error(json!({ "message": "No models loaded.", "type": "invalid_request_error", "param": "model",
            "code": null })),
                ),
                refused(400),
            ),
            case(
                "the client's fault as an event",
                raw(SSE, format!("event: error\ndata: {}\n\n", error(json!({ "message": "context too long", "code": 400 })))),
                refused(400),
            ),
            case("our key", raw(JSON, error(json!({ "message": "bad key", "code": 401 }))), fails(502, "upstream_auth")),
            case("too many requests", raw(JSON, error(json!({ "message": "slow down", "code": 429 }))), fails(429, "rate_limit_exceeded")),
        ],
    )
    .await;
}

/// Answers with nothing in them.
#[tokio::test]
async fn empty_answers() {
    let case = |name, answer| Case { name, answer, outcome: fails(502, "upstream_empty_response") };
    misbehave(
        "",
        vec![
            case("no byte", raw(JSON, "")),
            case("no event", raw(SSE, "")),
            case("comments alone", raw(SSE, ": processing\n\n: processing\n\n")),
            case("[DONE] alone", raw(SSE, "data: [DONE]\n\n")),
            case("a reason alone", deltas(&[], "stop")),
            case("empty text", deltas(&[json!({ "role": "assistant", "content": "" })], "stop")),
            case("an empty thought", deltas(&[json!({ "content": "<think>" }), json!({ "content": "\n</think>" })], "stop")),
            case("no choice", raw(JSON, json!({ "object": "chat.completion", "choices": [] }).to_string())),
            case(
                "a message of nothing",
                raw(JSON, json!({ "choices": [{ "message": { "content": null }, "finish_reason": "stop" }] }).to_string()),
            ),
            case("usage alone", events(&[json!({ "choices": [], "usage": { "prompt_tokens": 3 } })])),
        ],
    )
    .await;
}

/// What is no answer at all.
#[tokio::test]
async fn answers_that_are_none() {
    let case = |name, answer, outcome| Case { name, answer, outcome };
    let failed = || fails(502, "upstream_error");
    let page = "<!doctype html>\n<html><body><h1>It works!</h1></body></html>\n";
    let long = || [b"data: {\"x\": \"".to_vec(), vec![b'x'; 5 << 20]].concat();
    misbehave(
        "",
        vec![
            case("a page", raw("text/html", page), failed()),
            case("a page that says it is events", raw(SSE, page), failed()),
            case("a page that says it is JSON", raw(JSON, page), failed()),
            case("a page of a gateway in between", raw("text/html", page).status(502), failed()),
            case("a page that was not found", raw("text/html", page).status(404), refused(404)),
            case("a way elsewhere", raw("text/html", page).status(302), failed()),
            case("an answer to another question", raw(JSON, json!({ "object": "list", "data": [] }).to_string()), failed()),
            case("an array", raw(JSON, "[1]"), failed()),
            case("a number as an event", raw(SSE, "data: 7\n\n"), failed()),
            case("half an object", raw(JSON, "{\"choices\": [{\"message\": {\"content\": \"Ye"), failed()),
            case("an event that is not JSON", raw(SSE, "data: {\"choices\": [\n\ndata: [DONE]\n\n"), failed()),
            case("an endless line", raw(SSE, long()), failed()),
            case("a reset at once", raw(SSE, "").ending(Ending::Reset), failed()),
            case("silence at once", raw(SSE, "").ending(Ending::Silence), fails(504, "upstream_timeout")),
            case("half an object and silence", raw(JSON, "{\"choices\": [").ending(Ending::Silence), fails(504, "upstream_timeout")),
        ],
    )
    .await;
}

/// Answers that break after the first word.
#[tokio::test]
async fn answers_that_break() {
    let case = |name, answer, outcome| Case { name, answer, outcome };
    let broken = || breaks("upstream_error", "Well, ");
    let event = |value: Value| format!("data: {value}\n\n").into_bytes();
    let long = || [b"data: {\"x\": \"".to_vec(), vec![b'x'; 5 << 20]].concat();
    misbehave(
        "",
        vec![
            case("an end without a reason", after(b""), broken()),
            case("a reset", after(b"").ending(Ending::Reset), broken()),
            case("silence", after(b"").ending(Ending::Silence), breaks("upstream_timeout", "Well, ")),
            case("an event called error", after(b"event: error\ndata: {\"error\":{\"message\":\"model crashed\"}}\n\n"), broken()),
            case("a string", after(&event(json!({ "error": "model crashed" }))), broken()),
            case(
                "an error beside choices",
                after(&event(json!({ "error": { "message": "model crashed" }, "choices": [{ "index": 0, "delta": {} }] }))),
                broken(),
            ),
            case("a reason that is an error", after(&event(chunk(json!({}), Some("error")))), broken()),
            case("half an event", after(b"data: {\"choices\": [\n\ndata: [DONE]\n\n"), broken()),
            case("half an event at the end", after(b"data: {\"choices\": [{\"delta\""), broken()),
            case("an endless line", after(&long()), broken()),
            case("bytes that are no text", after(b"data: {\"choices\":[{\"delta\":{\"content\":\"\xff\xfe\"}}]}\n\n"), broken()),
            case("a NUL", after(b"data: {\"choices\":[{\"delta\":{\"content\":\"\0\"}}]}\n\n"), broken()),
            case(
                "an error behind the end",
                after(&[event(chunk(json!({}), Some("stop"))), event(json!({ "error": "model crashed" }))].concat()),
                broken(),
            ),
        ],
    )
    .await;
}
