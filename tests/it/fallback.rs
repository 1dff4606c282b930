//! `fallback`: what makes an alias ask the next model, what does not, and how often it may.

use serde_json::{Value, json};

use crate::support::scripted_model::{chunk, reply, spoken};
use crate::support::{Exchange, Gateway, ScriptedModel, Step};

const CONFIG: &str = r#"
upstreams:
  a: { base_url: "${A}", first_byte_timeout: 500ms, max_concurrent: 2, queue: { max: 0 }, health: { interval: 1h } }
  b: { base_url: "${B}", health: { interval: 1h } }
models: { fast: { upstream: a, model: model-of-a, fallback: ["b/org/model-of-b"] } }
"#;

const FALLBACKS: &str = r#"moongate_upstream_fallbacks_total{upstream="a"}"#;
const REFUSED: &str = r#"moongate_upstream_retries_refused_total{upstream="a"}"#;

/// A step for each way to ask: two chats, streamed and not, and what passes as it is.
fn thrice<F, R>(respond: F) -> [Step; 3]
where
    F: Fn(Exchange) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let (first, second) = (respond.clone(), respond.clone());
    [Step::chat(first), Step::chat(second), Step::at("POST", "/v1/embeddings", respond)]
}

async fn says(name: &'static str, exchange: Exchange) {
    let body = exchange.request.json();
    assert_eq!(body["model"], if name == "a" { "model-of-a" } else { "org/model-of-b" });
    match exchange.request.path() {
        "/v1/embeddings" => {
            assert_eq!(body, json!({ "model": body["model"], "input": "hello", "a": 1 }), "nothing else is changed");
            exchange.json(200, &json!({ "served_by": name })).await;
        }
        _ => reply(exchange, spoken(name), "stop").await,
    }
}

fn embed(gateway: &Gateway) -> crate::support::Request {
    gateway.post("/v1/embeddings").json(&json!({ "model": "fast", "input": "hello", "a": 1 }))
}

/// Asks in the three ways, and expects that the other model answers.
async fn falls_over(gateway: &Gateway) {
    assert_eq!(gateway.chat("fast", json!({})).answer().await.content(), "b");
    let streamed = gateway.chat("fast", json!({ "stream": true })).stream().await;
    streamed.assert_well_formed("fast");
    assert_eq!((streamed.text().as_str(), streamed.done()), ("b", true));
    let answer = embed(gateway).answer().await;
    assert_eq!((answer.status(), &answer.json()["served_by"]), (200, &json!("b")), "{}", answer.text());
    assert_eq!(gateway.metric(FALLBACKS).await, 3);
}

/// The first model fails in this way; the second one answers.
async fn the_other_answers<F, R>(respond: F)
where
    F: Fn(Exchange) -> R + Clone + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let a = ScriptedModel::start(thrice(respond)).await;
    let b = ScriptedModel::start(thrice(|exchange| says("b", exchange))).await;
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    falls_over(&gateway).await;
}

/// Nobody listens there.
#[tokio::test]
async fn a_refused_connection() {
    let gone = ScriptedModel::start([]).await.url();
    let b = ScriptedModel::start(thrice(|exchange| says("b", exchange))).await;
    let gateway = Gateway::start(CONFIG, [("A", &gone), ("B", &b.url())]).await;
    falls_over(&gateway).await;
}

/// The name of its host means nothing.
#[tokio::test]
async fn a_name_that_is_not_found() {
    let b = ScriptedModel::start(thrice(|exchange| says("b", exchange))).await;
    let gateway = Gateway::start(CONFIG, [("A", "http://nowhere.invalid/v1"), ("B", &b.url())]).await;
    falls_over(&gateway).await;
}

/// It is silent for longer than its `first_byte_timeout`.
#[tokio::test]
async fn silence() {
    the_other_answers(|mut exchange| async move { _ = exchange.client_gone().await }).await;
}

/// It hangs up in the place of an answer.
#[tokio::test]
async fn a_broken_connection() {
    the_other_answers(|exchange| async move { exchange.reset() }).await;
}

/// It is broken.
#[tokio::test]
async fn an_error_of_the_server() {
    the_other_answers(|exchange| async move { exchange.json(500, &json!({ "error": "out of memory" })).await }).await;
}

/// It is busy.
#[tokio::test]
async fn a_server_that_is_unavailable() {
    the_other_answers(|exchange| async move { exchange.json(503, &json!({ "error": "loading" })).await }).await;
}

/// It has enough of us, and somebody else has not.
#[tokio::test]
async fn a_limit_on_requests() {
    the_other_answers(|exchange| async move { exchange.respond(429, &[("retry-after", "60")], b"{}").await }).await;
}

/// It begins to answer and says an error before its first word: a client has seen nothing of it.
#[tokio::test]
async fn an_error_before_the_first_word() {
    let a = ScriptedModel::start([Step::chat(|mut exchange| async move {
        exchange.start("text/event-stream").await;
        exchange.event(&chunk(&json!({ "role": "assistant", "content": "" }), None)).await.unwrap();
        exchange.event(&json!({ "error": { "message": "the model crashed" } })).await.unwrap();
        exchange.end().await;
    })])
    .await;
    let b = ScriptedModel::start([Step::chat(|exchange| says("b", exchange))]).await;
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    let streamed = gateway.chat("fast", json!({ "stream": true })).stream().await;
    streamed.assert_well_formed("fast");
    assert_eq!(streamed.text(), "b");
}

/// After the first word an error is the end, and nobody else is asked.
#[tokio::test]
async fn nothing_is_repeated_after_the_first_word() {
    let a = ScriptedModel::start([Step::chat(|mut exchange| async move {
        exchange.start("text/event-stream").await;
        exchange.event(&chunk(&json!({ "content": "Once" }), None)).await.unwrap();
        exchange.reset();
    })])
    .await;
    let b = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    let streamed = gateway.chat("fast", json!({ "stream": true })).stream().await;
    assert_eq!((streamed.text().as_str(), &streamed.error().unwrap()["code"]), ("Once", &json!("upstream_error")));
    assert_eq!(gateway.metric(FALLBACKS).await, 0);
}

/// What the server says of the request, or of our credentials, is the answer: another one is not asked.
#[tokio::test]
async fn a_fault_of_the_request_is_no_reason() {
    let steps = [400, 404, 422, 401].map(|status| Step::json(status, json!({ "error": { "message": "no" } })));
    let embedding = Step::at("POST", "/v1/embeddings", |exchange| async move { exchange.json(401, &json!({ "error": "no" })).await });
    let [w, x, y, z] = steps;
    let a = ScriptedModel::start([w, x, y, z, embedding]).await;
    let b = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    for status in [400, 404, 422] {
        gateway.chat("fast", json!({})).answer().await.assert_error(status, Value::Null);
    }
    gateway.chat("fast", json!({})).answer().await.assert_error(502, "upstream_auth");
    let answer = embed(&gateway).answer().await;
    assert_eq!((answer.status(), answer.json()), (401, json!({ "error": "no" })), "as it came");
    assert_eq!(gateway.metric(FALLBACKS).await, 0);
}

/// When everybody fails, the last one's failure is told; what passes as it is keeps its status and words.
#[tokio::test]
async fn the_last_failure_is_told() {
    let a = ScriptedModel::start(thrice(|exchange| async move { exchange.json(500, &json!({ "error": "first" })).await })).await;
    let b = ScriptedModel::start(thrice(|exchange| async move { exchange.json(503, &json!({ "error": "last" })).await })).await;
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    for streamed in [true, false] {
        let error = gateway.chat("fast", json!({ "stream": streamed })).answer().await.assert_error(502, "upstream_error");
        assert!(error["message"].as_str().unwrap().contains("503"), "{error}");
    }
    let answer = embed(&gateway).answer().await;
    assert_eq!((answer.status(), answer.json()), (503, json!({ "error": "last" })));
}

/// A chunked body of several pieces is sent whole to whoever answers, where the first one cannot be reached.
#[tokio::test]
async fn a_chunked_body_goes_along() {
    let gone = ScriptedModel::start([]).await.url();
    let b = ScriptedModel::start([Step::at("POST", "/v1/embeddings", |exchange| says("b", exchange))]).await;
    let gateway = Gateway::start(CONFIG, [("A", &gone), ("B", &b.url())]).await;
    let pieces = [r#"{"model": "fast", "#, r#""input": "hello", "a": 1}"#].map(|piece| piece.into());
    let answer = gateway.post("/v1/embeddings").chunks("application/json", pieces.into()).answer().await;
    assert_eq!((answer.status(), &answer.json()["served_by"]), (200, &json!("b")), "{}", answer.text());
}

/// Five failures in a row open the breaker: from then on the other model is asked at once.
#[tokio::test]
async fn an_open_breaker_is_passed_over() {
    let broken = || Step::json(500, json!({ "error": "out of memory" }));
    let a = ScriptedModel::start([broken(), broken(), broken(), broken(), broken()]).await;
    let b = ScriptedModel::start([Step::every_chat(|exchange| says("b", exchange))]).await;
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    for _ in 0..6 {
        assert_eq!(gateway.chat("fast", json!({})).answer().await.content(), "b");
    }
    assert_eq!(a.requests().len(), 5, "the sixth did not come here");
    assert_eq!(gateway.metric(r#"moongate_upstream_breaker_opened_total{upstream="a"}"#).await, 1);
}

/// Where all places are taken and nobody may wait, another server has one.
#[tokio::test]
async fn a_full_queue() {
    let hold = || Step::chat(|mut exchange| async move { _ = exchange.client_gone().await });
    let a = ScriptedModel::start([hold(), hold()]).await;
    let b = ScriptedModel::start(thrice(|exchange| says("b", exchange))).await;
    let config = CONFIG.replace("500ms", "60s");
    let gateway = Gateway::start(&config, [("A", &a.url()), ("B", &b.url())]).await;
    let _held = [gateway.chat("a/m", json!({})).send().await, gateway.chat("fast", json!({})).send().await];
    a.request(2).await;
    falls_over(&gateway).await;
}

/// A server that fails three times of four: the requests of the last seconds earn so many retries and no more, then its failures are told.
#[tokio::test]
async fn retries_are_a_share_of_the_requests() {
    let mut n = 0;
    let a = ScriptedModel::start([Step::every_chat(move |exchange| {
        n += 1;
        let works = n % 4 == 0;
        async move { if works { says("a", exchange).await } else { exchange.json(500, &json!({ "error": "no" })).await } }
    })])
    .await;
    let b = ScriptedModel::start([Step::every_chat(|exchange| says("b", exchange))]).await;
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    let (mut elsewhere, mut failed) = (0, 0);
    for _ in 0..400 {
        let answer = gateway.chat("fast", json!({})).answer().await;
        match answer.status() {
            200 => elsewhere += i64::from(answer.content() == "b"),
            _ => {
                answer.assert_error(502, "upstream_error");
                failed += 1;
            }
        }
    }
    assert_eq!(elsewhere + failed, 300);
    assert!(elsewhere >= 100 && failed > 0, "{elsewhere} were answered elsewhere, {failed} failed");
    assert_eq!((gateway.metric(FALLBACKS).await, gateway.metric(REFUSED).await), (elsewhere, failed));
}
