//! What crosses the gateway in the headers and what never does; what browsers are told.

use serde_json::json;

use crate::support::{Gateway, Request, ScriptedModel, Setup, Step};

const CONFIG: &str = r#"
server: { cors: { allow_origins: ["http://localhost:3000"] } }
upstreams: { lm: { base_url: "${LM}", api_key: upstream-secret } }
"#;

/// The client's credentials stay here; the upstream gets its own.
#[tokio::test]
async fn credentials_are_swapped() {
    let model = ScriptedModel::start([
        Step::says("hello"),
        Step::at("GET", "/api/v0/models", |e| async move {
            e.json(200, &json!([])).await;
        }),
    ])
    .await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let private =
        |request: Request| request.key("client-secret").header("cookie", "session=client-cookie").header("x-api-key", "client-secret");
    private(gateway.chat("scripted", json!({}))).answer().await;
    private(gateway.get("/api/v0/models")).answer().await;
    for received in model.requests() {
        assert_eq!(received.header("authorization"), Some("Bearer upstream-secret"), "{}", received.path());
        for secret in ["client-secret", "client-cookie"] {
            assert!(!received.mentions(secret), "{secret} reached the upstream: {:?}", received.head.headers);
        }
    }
    gateway.logged("/api/v0/models").await;
    let log = gateway.log();
    assert!(!log.contains("client-secret") && !log.contains("upstream-secret"), "{log}");
}

/// An upstream that is trusted with it gets the client's own key.
#[tokio::test]
async fn authorization_is_forwarded_where_asked() {
    let model = ScriptedModel::start([Step::says("hello")]).await;
    let config = r#"upstreams: { lm: { base_url: "${LM}", forward_authorization: true } }"#;
    let gateway = Gateway::start(config, [("LM", &model.url())]).await;
    gateway.chat("scripted", json!({})).key("client-key").answer().await;
    assert_eq!(model.request(1).await.header("authorization"), Some("Bearer client-key"));
}

/// Headers about one connection end with it; all others pass, in both directions. Host is the upstream's.
#[tokio::test]
async fn hop_by_hop_headers_end_here() {
    let model = ScriptedModel::start([Step::chat(|e| async move {
        let headers =
            [("x-from-upstream", "kept"), ("connection", "x-private, keep-alive"), ("x-private", "1"), ("keep-alive", "timeout=5")];
        e.respond(200, &headers, b"{}").await;
    })])
    .await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let answer = gateway
        .chat("scripted", json!({}))
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("te", "trailers")
        .header("proxy-authorization", "Basic x")
        .header("openai-organization", "kept")
        .answer()
        .await;
    let received = model.request(1).await;
    for gone in ["x-hop", "te", "proxy-authorization"] {
        assert_eq!(received.header(gone), None, "{gone} reached the upstream");
    }
    assert_eq!(received.header("openai-organization"), Some("kept"));
    assert_eq!(received.header("host"), model.origin().strip_prefix("http://"));
    assert_eq!(answer.header("x-from-upstream"), Some("kept"));
    assert_eq!(answer.header("x-private"), None);
    assert_eq!(answer.header("keep-alive"), None);
}

/// Every answer has an id of its own, and passes on the one that a client brought.
#[tokio::test]
async fn every_answer_has_a_request_id() {
    let model = ScriptedModel::start([Step::says("hello"), Step::says("hello")]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let id = |answer: crate::support::Answer| answer.header("x-request-id").map(str::to_owned).unwrap_or_default();
    let first = id(gateway.chat("scripted", json!({})).answer().await);
    let second = id(gateway.chat("scripted", json!({})).answer().await);
    assert!(first.len() >= 8 && second.len() >= 8, "{first:?} {second:?}");
    assert_ne!(first, second);
    assert!(!id(gateway.post("/v1/chat/completions").body("application/json", "{").answer().await).is_empty());
    assert!(!id(gateway.get("/healthz").answer().await).is_empty());
}

fn preflight(gateway: &Gateway, origin: &str) -> Request {
    Request::new(gateway.address, "OPTIONS", "/v1/chat/completions")
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization, content-type, x-session-id")
}

/// A browser's question before a request is answered here, with what the page may do.
#[tokio::test]
async fn a_preflight_is_answered() {
    let model = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let answer = preflight(&gateway, "http://localhost:3000").answer().await;
    assert!([200, 204].contains(&answer.status()));
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("POST"));
    let allowed = answer.header("access-control-allow-headers").unwrap().to_lowercase();
    assert!(allowed == "*" || ["authorization", "content-type", "x-session-id"].iter().all(|h| allowed.contains(h)), "{allowed}");
    assert!(answer.header("vary").is_some_and(|vary| vary.to_lowercase().contains("origin")));

    let foreign = preflight(&gateway, "http://evil.test").answer().await;
    assert_eq!(foreign.header("access-control-allow-origin"), None);
}

/// An answer names the page's origin once, whatever the upstream says; a page that is not listed is not named.
#[tokio::test]
async fn answers_name_the_origin_once() {
    let step = || {
        Step::chat(|e| async move {
            e.respond(200, &[("access-control-allow-origin", ""), ("content-type", "application/json")], b"{}").await;
        })
    };
    let model = ScriptedModel::start([step(), step()]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let origins = |answer: crate::support::Answer| {
        let headers = answer.head.headers.into_iter().filter(|(name, _)| name == "access-control-allow-origin");
        headers.map(|(_, value)| value).collect::<Vec<_>>()
    };
    let listed = gateway.chat("scripted", json!({})).header("origin", "http://localhost:3000").answer().await;
    assert_eq!(origins(listed), ["http://localhost:3000"]);
    let foreign = gateway.chat("scripted", json!({})).header("origin", "http://evil.test").answer().await;
    assert!(!origins(foreign).iter().any(|origin| origin == "http://evil.test" || origin == "*"));
}

/// Our own errors can be read by the page too.
#[tokio::test]
async fn errors_name_the_origin() {
    let model = ScriptedModel::start([]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let answer =
        gateway.post("/v1/chat/completions").body("application/json", "{").header("origin", "http://localhost:3000").answer().await;
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://localhost:3000"));
}

/// An upstream over HTTPS is used when its certificate is trusted, and refused when it is not.
#[tokio::test]
async fn https_upstreams_are_checked() {
    let (acceptor, certificate) = crate::support::tls::localhost();
    let model = ScriptedModel::over_tls(acceptor, [Step::says("over TLS"), Step::says("an agent over TLS")]).await;
    let config = r#"
upstreams:
  trusted: { base_url: "${LM}", ca_file: certs/ca.pem, health: { interval: 1h } }
  stranger: { base_url: "${LM}", health: { interval: 1h } }
agents: [{ name: Assistant, upstream: trusted, model: scripted }]
"#;
    let gateway = Setup::new(config).file("certs/ca.pem", &certificate).env("LM", model.url()).start().await;
    assert_eq!(gateway.chat("trusted/scripted", json!({})).answer().await.content(), "over TLS");
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "an agent over TLS");
    gateway.chat("stranger/scripted", json!({})).answer().await.assert_error(502, "upstream_unreachable");
}
