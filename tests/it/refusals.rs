//! Requests that cannot be served: what the client is told, in OpenAI's form, and that nothing reaches the upstream.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{Gateway, Live, ScriptedModel, Setup, Step, within};

const CONFIG: &str = r#"
server: { limits: { max_body_bytes: 100000 } }
upstreams: { lm: { base_url: "${LM}" } }
agents: [{ name: Assistant, model: scripted }]
"#;

const JSON: &str = "application/json";

async fn refused(body: impl Into<Bytes>, status: u16, code: Value) -> Value {
    let model = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let error = gateway.post("/v1/chat/completions").body(JSON, body).answer().await.assert_error(status, code);
    assert_eq!(error["type"], "invalid_request_error");
    assert_eq!(model.requests().len(), 0, "nothing reaches the upstream");
    error
}

/// A body that is not JSON.
#[tokio::test]
async fn malformed_json() {
    refused(r#"{"model": "scripted", "messages": ["#, 400, Value::Null).await;
}

/// No body at all.
#[tokio::test]
async fn an_empty_body() {
    refused("", 400, Value::Null).await;
}

/// JSON that is not an object.
#[tokio::test]
async fn an_array() {
    refused("[1, 2]", 400, Value::Null).await;
}

/// Nesting that would eat the stack of a careless parser.
#[tokio::test]
async fn deep_nesting() {
    let body = format!(r#"{{"model": "Assistant", "messages": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    refused(body, 400, Value::Null).await;
}

/// Bytes that are not UTF-8.
#[tokio::test]
async fn invalid_utf8() {
    refused(b"{\"model\": \"Assistant\", \"messages\": [{\"role\": \"user\", \"content\": \"\xff\xfe\"}]}".to_vec(), 400, Value::Null)
        .await;
}

/// Half of a surrogate pair.
#[tokio::test]
async fn a_lone_surrogate() {
    refused(r#"{"model": "Assistant", "messages": [{"role": "user", "content": "\ud800"}]}"#, 400, Value::Null).await;
}

/// `model` twice: never is one checked and the other one served.
#[tokio::test]
async fn a_model_twice() {
    let error = refused(r#"{"model": "Assistant", "messages": [], "model": "scripted"}"#, 400, "duplicate_key".into()).await;
    assert_eq!(error["param"], "model");
}

/// No `model`.
#[tokio::test]
async fn no_model() {
    let error = refused(r#"{"messages": []}"#, 400, "missing_required_parameter".into()).await;
    assert_eq!(error["param"], "model");
}

/// A `model` that is not a string.
#[tokio::test]
async fn a_model_of_the_wrong_type() {
    let error = refused(r#"{"model": 7, "messages": []}"#, 400, "invalid_type".into()).await;
    assert_eq!(error["param"], "model");
}

/// An agent without messages.
#[tokio::test]
async fn no_messages() {
    let error = refused(r#"{"model": "Assistant"}"#, 400, "missing_required_parameter".into()).await;
    assert_eq!(error["param"], "messages");
}

/// An agent with messages of the wrong type.
#[tokio::test]
async fn messages_of_the_wrong_type() {
    let error = refused(r#"{"model": "Assistant", "messages": "x"}"#, 400, "invalid_type".into()).await;
    assert_eq!(error["param"], "messages");
}

/// An agent gives one answer.
#[tokio::test]
async fn several_choices_of_an_agent() {
    let body = r#"{"model": "Assistant", "n": 2, "messages": [{"role": "user", "content": "x"}]}"#;
    let error = refused(body, 400, "unsupported_value".into()).await;
    assert_eq!(error["param"], "n");
}

/// An agent reads JSON only.
#[tokio::test]
async fn another_content_type() {
    let model = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let body = r#"{"model": "Assistant", "messages": [{"role": "user", "content": "x"}]}"#;
    let answer = gateway.post("/v1/chat/completions").body("text/plain", body).answer().await;
    answer.assert_error(415, "unsupported_content_type");
}

/// A body that says it is too large is refused before it is read.
#[tokio::test]
async fn a_large_declared_body() {
    let model = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let request = gateway.post("/v1/chat/completions").header("content-type", JSON).header("content-length", "100001");
    request.answer().await.assert_error(413, "request_too_large");
}

/// A body that turns out too large on the way is refused there, and the connection ends.
#[tokio::test]
async fn a_large_chunked_body() {
    let model = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let mut wire = gateway.post("/v1/chat/completions").chunks(JSON, Vec::new()).head_only().await;
    wire.send_chunk(br#"{"model": "scripted", "messages": [{"role": "user", "content": ""#).await.unwrap();
    let chunk = vec![b'x'; 10_000];
    for _ in 0..11 {
        let _ = wire.send_chunk(&chunk).await;
    }
    let live = within(5, "the refusal", Live::read(wire, true)).await.unwrap();
    live.answer().await.unwrap().assert_error(413, "request_too_large");
}

/// The limit holds for bodies that only pass through, too, whether they say how long they are or not.
#[tokio::test]
async fn a_large_body_that_passes() {
    let model = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let form = "multipart/form-data; boundary=XX";
    let declared = gateway.post("/v1/audio/transcriptions").header("content-type", form).header("content-length", "100001");
    declared.answer().await.assert_error(413, "request_too_large");
    let mut wire = gateway.post("/v1/audio/transcriptions").chunks(form, Vec::new()).head_only().await;
    for _ in 0..11 {
        let _ = wire.send_chunk(&[b'x'; 10_000]).await;
    }
    let live = within(5, "the refusal", Live::read(wire, true)).await.unwrap();
    live.answer().await.unwrap().assert_error(413, "request_too_large");
    assert_eq!(model.requests().len(), 0, "half a body is no request");
}

/// HTTP/1.1 asks for a Host.
#[tokio::test]
async fn no_host() {
    let model = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    assert_eq!(gateway.chat("scripted", json!({})).without("host").answer().await.status(), 400);
}

/// A length and chunks at once is how requests are smuggled: whatever is made of it, the second request is never served.
#[tokio::test]
async fn two_framings() {
    let model = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let smuggled = "0\r\n\r\nGET /api/v0/smuggled HTTP/1.1\r\nhost: x\r\n\r\n";
    let request = gateway.post("/v1/chat/completions").header("transfer-encoding", "chunked").body(JSON, smuggled);
    let mut wire = request.send().await;
    let first = within(5, "an answer", wire.head()).await.unwrap().unwrap();
    assert_eq!(first.start[1], "400");
    within(5, "the end of the connection", wire.closed()).await;
    assert_eq!(model.requests().len(), 0);
}

/// A client that says half of its body and leaves harms nobody.
#[tokio::test]
async fn half_a_body() {
    let model = ScriptedModel::start([Step::says("hello")]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let request = gateway.post("/v1/chat/completions").header("content-type", JSON).header("content-length", "1000");
    let mut wire = request.head_only().await;
    wire.send(br#"{"model": "scripted","#).await.unwrap();
    wire.half_close().await.unwrap();
    within(5, "the end of the connection", wire.closed()).await;
    assert_eq!(gateway.chat("scripted", json!({})).answer().await.content(), "hello");
}

/// The upstream's own refusals pass as they are.
#[tokio::test]
async fn upstream_errors_pass() {
    let refusal = |status: u16| {
        Step::chat(move |e| async move {
            let body = json!({ "error": { "message": format!("no {status}"), "type": "t", "param": null, "code": "c" } }).to_string();
            e.respond(status, &[("content-type", JSON), ("retry-after", "7")], body.as_bytes()).await;
        })
    };
    let statuses = [400, 404, 422, 429, 500, 503];
    let model = ScriptedModel::start(statuses.map(refusal)).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    for status in statuses {
        let answer = gateway.chat("scripted", json!({})).answer().await;
        assert_eq!(answer.assert_error(status, "c")["message"], format!("no {status}"));
        assert_eq!(answer.header("retry-after"), Some("7"));
    }
}

/// Nobody listens at the upstream's address.
#[tokio::test]
async fn a_dead_upstream() {
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", nobody.local_addr().unwrap());
    drop(nobody);
    let gateway = Gateway::start(CONFIG, [("LM", url.as_str())]).await;
    let answer = gateway.chat("scripted", json!({})).answer().await;
    assert_eq!(answer.header("connection"), Some("close"), "a client that asks on this connection would be cut off");
    let error = answer.assert_error(502, "upstream_unreachable");
    assert_eq!(error["type"], "server_error");
    gateway.chat("Assistant", json!({})).answer().await.assert_error(502, "upstream_unreachable");
    gateway.get("/api/v0/models").answer().await.assert_error(502, "upstream_unreachable");
}

/// An upstream that takes the request and says nothing is given up; a POST is never sent twice.
#[tokio::test]
async fn a_silent_upstream() {
    let silent = || {
        Step::chat(|mut e| async move {
            e.client_gone().await;
        })
    };
    let model = ScriptedModel::start([silent(), silent()]).await;
    let config = CONFIG.replace(r#""${LM}""#, r#""${LM}", first_byte_timeout: 300ms"#);
    let gateway = Gateway::start(&config, [("LM", &model.url())]).await;
    gateway.chat("scripted", json!({})).answer().await.assert_error(504, "upstream_timeout");
    gateway.chat("Assistant", json!({})).answer().await.assert_error(504, "upstream_timeout");
}

/// An upstream that closes at once has not answered; a POST is never sent twice.
#[tokio::test]
async fn an_upstream_that_hangs_up() {
    let hangs_up = || Step::chat(|e| async move { drop(e) });
    let model = ScriptedModel::start([hangs_up(), hangs_up()]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    assert_eq!(gateway.chat("scripted", json!({})).answer().await.status(), 502);
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.status(), 502);
    assert_eq!(model.requests().len(), 2);
}

/// With `unknown_models: reject`, a model that nobody has is not found.
#[tokio::test]
async fn an_unknown_model() {
    let model = ScriptedModel::start([]).await;
    let config = r#"
server: { unknown_models: reject }
upstreams: { lm: { base_url: "${LM}" } }
"#;
    let gateway = Setup::new(config).env("LM", model.url()).start().await;
    let error = gateway.chat("nobody", json!({})).answer().await.assert_error(404, "model_not_found");
    assert!(error["message"].as_str().unwrap().contains("nobody"), "{error}");
}

/// The management paths say which methods they take.
#[tokio::test]
async fn a_wrong_method() {
    let model = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let answer = gateway.get("/reload").answer().await;
    answer.assert_error(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), Some("POST"));
}
