//! Plain traffic: whatever body a client sends, the upstream receives it byte for byte, and whatever it answers, the client does.

use bytes::Bytes;
use serde_json::json;

use crate::support::{Gateway, ScriptedModel, Step, filler, within};

const CONFIG: &str = r#"
server: { limits: { max_body_bytes: 33554432 } }
upstreams: { lm: { base_url: "${LM}" } }
"#;

const SIZES: [usize; 6] = [1 << 10, (64 << 10) - 1, 64 << 10, (64 << 10) + 1, 1 << 20, 20 << 20];

/// A chat body of exactly `size` bytes with `model` as its first or last key, and white space that only a byte for byte copy keeps.
fn body(size: usize, model: &str, model_first: bool) -> String {
    let (a, b) = if model_first {
        (format!("{{ \"model\" : \"{model}\",\n \"messages\":[{{\"role\":\"user\",\"content\":\""), "\"}] }".to_owned())
    } else {
        ("{\"messages\":[ {\"role\":\"user\",\"content\":\"".to_owned(), format!("\"}}],\n\t\"model\" : \"{model}\" }}"))
    };
    format!("{a}{}{b}", filler(size - a.len() - b.len()))
}

fn pieces(body: &str) -> Vec<Bytes> {
    body.as_bytes().chunks(16_000).map(Bytes::copy_from_slice).collect()
}

async fn every_body_arrives(asked: &str, declared: bool) {
    let model = ScriptedModel::start([Step::every_chat(|e| async move { e.json(200, &json!({ "ok": true })).await })]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let mut n = 0;
    for size in SIZES {
        for model_first in [true, false] {
            let sent = body(size, asked, model_first);
            let request = gateway.post("/v1/chat/completions");
            let request = match declared {
                true => request.body("application/json; charset=utf-8", sent.clone()),
                false => request.chunks("application/json; charset=utf-8", pieces(&sent)),
            };
            let answer = request.answer().await;
            let case = format!("{size} bytes, model first: {model_first}");
            assert_eq!((answer.status(), answer.text().as_str()), (200, r#"{"ok":true}"#), "{case}");
            n += 1;
            let received = model.request(n).await;
            let wanted = sent.replacen(asked, "scripted", 1);
            assert!(received.body == wanted.as_bytes(), "{case}: {} bytes came, {} were meant to", received.body.len(), wanted.len());
            assert_eq!(received.header("content-type"), Some("application/json; charset=utf-8"), "{case}");
            if let Some(length) = received.header("content-length") {
                assert_eq!(length, wanted.len().to_string(), "{case}");
            }
        }
    }
}

/// With a declared length: from 1 KB to 20 MB, around the 64 KiB at which buffers usually end.
#[tokio::test]
async fn declared_bodies_arrive() {
    every_body_arrives("scripted", true).await;
}

/// In chunks.
#[tokio::test]
async fn chunked_bodies_arrive() {
    every_body_arrives("scripted", false).await;
}

/// `upstream/model` loses its prefix on the way, nothing else changes, and the length is right again.
#[tokio::test]
async fn the_prefix_is_stripped() {
    every_body_arrives("lm/scripted", true).await;
}

/// The same in chunks.
#[tokio::test]
async fn the_prefix_is_stripped_from_chunks() {
    every_body_arrives("lm/scripted", false).await;
}

/// The prefix chooses the upstream; without one the model's own server is found by its list.
#[tokio::test]
async fn the_model_chooses_the_upstream() {
    let a = ScriptedModel::listing(&["alpha"], [Step::says("from a")]).await;
    let b = ScriptedModel::listing(&["beta"], [Step::says("from b"), Step::says("from b again")]).await;
    let config = r#"
upstreams: { a: { base_url: "${A}" }, b: { base_url: "${B}" } }
"#;
    let gateway = Gateway::start(config, [("A", &a.url()), ("B", &b.url())]).await;
    assert_eq!(gateway.chat("b/beta", json!({})).answer().await.content(), "from b");
    assert_eq!(gateway.chat("beta", json!({})).answer().await.content(), "from b again");
    assert_eq!(gateway.chat("nobody-lists-this", json!({})).answer().await.content(), "from a");
}

/// An alias with only an upstream and a model is plain traffic under another name: unknown fields and `n` survive.
#[tokio::test]
async fn an_alias_replaces_the_model() {
    let model = ScriptedModel::start([Step::says("hello")]).await;
    let config = r#"
upstreams: { lm: { base_url: "${LM}" } }
models: { fast: { upstream: lm, model: scripted } }
"#;
    let gateway = Gateway::start(config, [("LM", &model.url())]).await;
    let answer = gateway.chat("fast", json!({ "n": 1, "made_up": { "kept": [1, 2] } })).answer().await;
    assert_eq!(answer.content(), "hello");
    let received = model.request(1).await.json();
    assert_eq!(received["model"], "scripted");
    assert_eq!(received["n"], 1);
    assert_eq!(received["made_up"], json!({ "kept": [1, 2] }));
}

/// A multipart upload is not JSON and not ours to read: it goes to the default upstream as it is.
#[tokio::test]
async fn a_multipart_body_passes() {
    let model = ScriptedModel::start([Step::at("POST", "/v1/audio/transcriptions", |e| async move {
        e.json(200, &json!({ "text": "hello" })).await;
    })])
    .await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let content_type = "multipart/form-data; boundary=XX";
    let part = "content-disposition: form-data; name";
    let body = format!("--XX\r\n{part}=\"model\"\r\n\r\nwhisper\r\n--XX\r\n{part}=\"file\"\r\n\r\n{}\r\n--XX--\r\n", filler(100_000));
    let answer = gateway.post("/v1/audio/transcriptions").body(content_type, body.clone()).answer().await;
    assert_eq!(answer.json(), json!({ "text": "hello" }));
    let received = model.request(1).await;
    assert!(received.body == body.as_bytes());
    assert_eq!(received.header("content-type"), Some(content_type));
}

/// Every other path goes to the default upstream: below `/v1` to its `base_url`, else to its origin, with its query.
#[tokio::test]
async fn other_paths_pass() {
    let answer = |text: &'static str| move |e: crate::support::Exchange| async move { e.respond(200, &[], text.as_bytes()).await };
    let model = ScriptedModel::start([
        Step::at("GET", "/api/v0/models?a=b%20c", answer("state")),
        Step::at("POST", "/v1/embeddings", answer("vectors")),
        Step::at("DELETE", "/v1/files/1", answer("gone")),
    ])
    .await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    assert_eq!(gateway.get("/api/v0/models?a=b%20c").answer().await.text(), "state");
    assert_eq!(gateway.post("/v1/embeddings").json(&json!({ "model": "lm/scripted", "input": "x" })).answer().await.text(), "vectors");
    assert_eq!(model.request(2).await.json()["model"], "scripted");
    let delete = crate::support::Request::new(gateway.address, "DELETE", "/v1/files/1");
    assert_eq!(delete.answer().await.text(), "gone");
}

/// A client that waits for "100 Continue" before it sends its body gets it at once.
#[tokio::test]
async fn expect_is_answered() {
    let model = ScriptedModel::start([Step::says("hello")]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let body = body(200_000, "scripted", true);
    let request = gateway.post("/v1/chat/completions").body("application/json", body.clone()).header("expect", "100-continue");
    let mut wire = request.head_only().await;
    let interim = within(1, "100 Continue", wire.head()).await.unwrap().unwrap();
    assert_eq!(interim.start[1], "100");
    wire.send(body.as_bytes()).await.unwrap();
    let answer = crate::support::Live::read(wire, true).await.unwrap().answer().await.unwrap();
    assert_eq!(answer.content(), "hello");
    assert!(model.request(1).await.body == body.as_bytes());
}

/// Two requests on one connection, the first with a large body, are two requests.
#[tokio::test]
async fn a_connection_is_used_again() {
    let model = ScriptedModel::start([Step::says("first"), Step::says("second")]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let first = body(100_000, "scripted", false);
    let mut wire = gateway.post("/v1/chat/completions").body("application/json", first).send().await;
    let head = wire.head().await.unwrap().unwrap();
    let framing = head.framing(crate::support::wire::Framing::Close);
    assert!(String::from_utf8_lossy(&wire.body(framing).await.unwrap()).contains("first"));
    let second = body(1_000, "scripted", true);
    let length = second.len();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n");
    wire.send(head.as_bytes()).await.unwrap();
    wire.send(second.as_bytes()).await.unwrap();
    let answer = crate::support::Live::read(wire, true).await.unwrap().answer().await.unwrap();
    assert_eq!(answer.content(), "second");
    assert!(model.request(2).await.body == second.as_bytes());
}

/// A POST below `/v1` that says JSON and has no body, or no model in it, passes as it is.
#[tokio::test]
async fn bodies_without_a_model_pass() {
    let echo = || Step::at("POST", "/v1/batches/b/cancel", |e| async move { e.json(200, &json!({ "ok": true })).await });
    let model = ScriptedModel::start([echo(), echo(), echo()]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    for body in ["", "[1, {}]", "{\"x\": 1}"] {
        let answer = gateway.post("/v1/batches/b/cancel").body("application/json", body).answer().await;
        assert_eq!(answer.json(), json!({ "ok": true }), "{body:?}");
    }
    let bodies: Vec<_> = model.requests().iter().map(|request| request.body.clone()).collect();
    assert_eq!(bodies, [&b""[..], b"[1, {}]", b"{\"x\": 1}"]);
}
