//! How much keys, users and agents may use, as clients see it: refusals that SDKs understand, headers, budgets, costs.

use serde_json::json;
use tokio::sync::mpsc;

use crate::support::client::Answer;
use crate::support::events::Reader;
use crate::support::scripted_model::{chunk, reply, spoken};
use crate::support::{Gateway, Request, ScriptedModel, Setup, Step, within};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
prices: { "lm/scripted": { input: 1000, output: 2000 } }
agents:
  - { name: Assistant, model: scripted }
  - { name: scarce, model: scripted, limits: { requests_per_minute: 1 } }
auth:
  failed_attempts: { per_minute: 5, exempt: [] }
  keys:
    - { id: free, key: key-free, admin: true }
    - { id: few, key: key-few, limits: { requests_per_minute: 2 } }
    - { id: tokens, key: key-tokens, limits: { tokens_per_minute: 6000 } }
    - { id: single, key: key-single, limits: { concurrent: 1 } }
    - { id: daily, key: key-daily, limits: { tokens_per_day: 10 } }
    - { id: poor, key: key-poor, limits: { cost_per_day: 0.01 } }
    - { id: webui, key: key-webui, client: openwebui, user_limits: { requests_per_minute: 1 } }
"#;

/// What the scripted model says that an answer used.
const PROMPT: u64 = 10;
const REPLY: u64 = 5;

async fn start<const N: usize>(steps: [Step; N]) -> (ScriptedModel, Gateway) {
    let model = ScriptedModel::start(steps).await;
    let mut gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    gateway.admin_key = Some("key-free");
    (model, gateway)
}

fn ask(gateway: &Gateway, model: &str, key: &str) -> Request {
    gateway.chat(model, json!({})).key(key)
}

fn number(answer: &Answer, header: &str) -> u64 {
    answer.header(header).unwrap_or_else(|| panic!("no {header}")).parse().unwrap()
}

async fn reload(gateway: &Gateway) -> u16 {
    gateway.post("/reload").key("key-free").header("content-length", "0").answer().await.status()
}

/// A key's requests: plain ones and runs count together, lists do not, and a refused one costs nobody anything.
#[tokio::test]
async fn requests_per_minute() {
    let (model, gateway) = start([Step::says("plain"), Step::says("run"), Step::says("other key")]).await;
    let first = ask(&gateway, "scripted", "key-few").answer().await;
    assert_eq!((number(&first, "x-ratelimit-limit-requests"), number(&first, "x-ratelimit-remaining-requests")), (2, 1));
    assert!(first.header("x-ratelimit-reset-requests").unwrap().ends_with('s'));
    let second = ask(&gateway, "Assistant", "key-few").answer().await;
    assert_eq!((second.content(), number(&second, "x-ratelimit-remaining-requests")), ("run".into(), 0));
    for target in ["scripted", "Assistant"] {
        let refused = ask(&gateway, target, "key-few").answer().await;
        let error = refused.assert_error(429, "rate_limit_exceeded");
        assert_eq!(error["type"], "requests");
        let (seconds, ms) = (number(&refused, "retry-after"), number(&refused, "retry-after-ms"));
        assert!((1..=30).contains(&seconds) && (1..=30_000).contains(&ms) && ms <= seconds * 1000, "{seconds} s, {ms} ms");
        assert_eq!(number(&refused, "x-ratelimit-remaining-requests"), 0);
    }
    assert_eq!(gateway.get("/v1/models").key("key-few").answer().await.status(), 200);
    let other = ask(&gateway, "Assistant", "key-free").answer().await;
    assert_eq!((other.content(), other.header("x-ratelimit-limit-requests")), ("other key".into(), None));
    assert_eq!(model.requests().len(), 3);
    gateway.counts(r#"moongate_limits_refused_total{limit="requests_per_minute"}"#, 2).await;
}

/// Tokens are counted as the server reports them: of plain answers and streams, whose bytes stay as they are, and of runs.
#[tokio::test]
async fn tokens_per_minute() {
    let unsaid = Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        for _ in 0..3 {
            e.event(&chunk(&json!({ "content": "word " }), None)).await.unwrap();
        }
        e.send(b"data: [DONE]\n\n").await.unwrap();
        e.end().await;
    });
    let (_model, gateway) = start([Step::says("a"), Step::says("b"), Step::says("c"), unsaid]).await;
    let mut left = 6000;
    let usage = json!({ "include_usage": true });
    for (target, body) in
        [("scripted", json!({})), ("scripted", json!({ "stream": true, "stream_options": usage })), ("Assistant", json!({}))]
    {
        let answer = gateway.chat(target, body).key("key-tokens").answer().await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let now = number(&answer, "x-ratelimit-remaining-tokens");
        assert!(now < left, "{now} of {left} are left");
        left -= PROMPT + REPLY;
        let estimate = left + PROMPT + REPLY - now;
        assert!((1..100).contains(&estimate), "before the answer the request counts for its length: {estimate}");
    }
    let unsaid = gateway.chat("scripted", json!({ "stream": true })).key("key-tokens").stream().await;
    assert_eq!(unsaid.text(), "word word word ");
    gateway.logged(r#""estimated":true"#).await;
    let long = "word ".repeat(6000);
    let refused = gateway.chat("Assistant", json!({ "messages": [{ "role": "user", "content": long }] })).key("key-tokens").answer().await;
    assert_eq!(refused.assert_error(429, "rate_limit_exceeded")["type"], "tokens");
    assert!(number(&refused, "retry-after-ms") > 0 && number(&refused, "x-ratelimit-remaining-tokens") > 5000);
}

/// So many at once: the next is refused, and one that leaves makes room.
#[tokio::test]
async fn requests_at_once() {
    let (tell, mut left) = mpsc::unbounded_channel();
    let held = Step::chat(move |mut e| async move {
        e.start("text/event-stream").await;
        e.event(&chunk(&json!({ "content": "…" }), None)).await.unwrap();
        tell.send(e.client_gone().await).unwrap();
    });
    let (model, gateway) = start([held, Step::says("there is room")]).await;
    let live = gateway.chat("Assistant", json!({ "stream": true })).key("key-single").open().await;
    model.request(1).await;
    let refused = ask(&gateway, "scripted", "key-single").answer().await;
    assert_eq!(refused.assert_error(429, "concurrency_limit_exceeded")["type"], "requests");
    assert_eq!(number(&refused, "retry-after"), 1);
    drop(live);
    within(10, "the cancelled model call", left.recv()).await.unwrap();
    gateway.counts("moongate_runs_total{agent=\"Assistant\",outcome=\"client_cancelled\"}", 1).await;
    assert_eq!(ask(&gateway, "scripted", "key-single").answer().await.content(), "there is room");
}

/// A day's tokens and money: overdrawn once, then refused without hope, so that SDKs do not try again.
#[tokio::test]
async fn budgets_of_a_day() {
    let (_model, gateway) = start([Step::says("a"), Step::says("b")]).await;
    for key in ["key-daily", "key-poor"] {
        let answer = ask(&gateway, if key == "key-poor" { "Assistant" } else { "scripted" }, key).answer().await;
        assert_eq!(answer.status(), 200);
        let refused = ask(&gateway, "scripted", key).answer().await;
        assert_eq!(refused.assert_error(429, "insufficient_quota")["type"], "insufficient_quota");
        assert_eq!(refused.header("x-should-retry"), Some("false"));
        assert!(number(&refused, "retry-after") <= 24 * 3600);
    }
    let cost = (PROMPT * 1000 + REPLY * 2000) as f64 / 1e6;
    gateway.logged(&format!(r#""cost":{cost}"#)).await;
    assert!(
        gateway
            .get("/metrics")
            .key("key-free")
            .answer()
            .await
            .text()
            .contains(&format!(r#"moongate_cost_total{{target="Assistant"}} {cost}"#))
    );
}

/// Whoever leaves in the midst of an answer pays for what it has heard: of a run, of a plain stream, and on a path of the server's own.
#[tokio::test]
async fn leaving_is_not_free() {
    let (tell, mut left) = mpsc::unbounded_channel();
    let words = |path: &'static str| {
        let tell = tell.clone();
        Step::at("POST", path, move |mut e| async move {
            e.start("text/event-stream").await;
            for _ in 0..50 {
                e.event(&chunk(&json!({ "content": "word " }), None)).await.unwrap();
            }
            tell.send(e.client_gone().await).unwrap();
        })
    };
    let (chat, other) = ("/v1/chat/completions", "/api/v0/chat/completions");
    let (_model, gateway) = start([words(chat), words(chat), words(other), Step::says("end")]).await;
    for (path, target) in [(chat, "Assistant"), (chat, "scripted"), (other, "scripted")] {
        let body = json!({ "model": target, "stream": true, "messages": [{ "role": "user", "content": "hi" }] });
        let mut reader = Reader::new(gateway.post(path).json(&body).key("key-tokens").open().await);
        let mut words = 0;
        while words < 50 {
            let event = within(10, "a word", reader.json()).await.unwrap();
            words += usize::from(event["choices"][0]["delta"]["content"] == "word ");
        }
        drop(reader);
        within(10, "the cancelled stream", left.recv()).await.unwrap();
    }
    let enough = async {
        while gateway.log().matches(r#""estimated":true"#).count() < 3 {
            tokio::task::yield_now().await;
        }
    };
    within(10, "three records", enough).await;
    let remaining = number(&ask(&gateway, "scripted", "key-tokens").answer().await, "x-ratelimit-remaining-tokens");
    assert!(remaining <= 6000 - 3 * 50, "{remaining} are left");
}

/// Each user of a trusted client has its own, and so has an agent.
#[tokio::test]
async fn users_and_agents() {
    let (_model, gateway) = start(["ada", "bob", "scarce"].map(Step::says)).await;
    let user = |name: &str| ask(&gateway, "scripted", "key-webui").header("x-openwebui-user-id", name);
    assert_eq!(user("ada").answer().await.content(), "ada");
    assert_eq!(user("bob").answer().await.content(), "bob");
    let refused = user("ada").answer().await;
    assert!(refused.assert_error(429, "rate_limit_exceeded")["message"].as_str().unwrap().contains("this user"));
    assert_eq!(ask(&gateway, "scarce", "key-free").answer().await.content(), "scarce");
    ask(&gateway, "scarce", "key-few").answer().await.assert_error(429, "rate_limit_exceeded");
    assert_eq!(ask(&gateway, "scarce", "key-few").answer().await.header("x-ratelimit-remaining-requests"), Some("0"));
}

/// What is used stays used when the configuration changes, and a changed limit holds at once.
#[tokio::test]
async fn a_reload_forgives_nothing() {
    let (_model, gateway) = start(["a", "b", "c"].map(Step::says)).await;
    ask(&gateway, "scripted", "key-few").answer().await;
    ask(&gateway, "scripted", "key-few").answer().await;
    gateway.write("config/gateway.yaml", &format!("{CONFIG}\ntelemetry: {{ logs: json }}\n"));
    assert_eq!(reload(&gateway).await, 200);
    ask(&gateway, "scripted", "key-few").answer().await.assert_error(429, "rate_limit_exceeded");
    gateway.write("config/gateway.yaml", &CONFIG.replace("requests_per_minute: 2", "requests_per_minute: 200000"));
    assert_eq!(reload(&gateway).await, 200);
    assert_eq!(ask(&gateway, "scripted", "key-few").answer().await.content(), "c");
}

/// Scripts know what a run has cost so far.
#[tokio::test]
async fn scripts_see_the_cost() {
    let script = "return { post_response = function(reply, run)
      return run:answer(string.format('%.3f %.3f', run.usage.cost, reply.usage.cost))
    end }";
    let config = CONFIG.replace("{ name: Assistant, model: scripted }", "{ name: Assistant, model: scripted, hooks: [scripts/cost.lua] }");
    let model = ScriptedModel::start([Step::says("dear")]).await;
    let gateway = Setup::new(&config).file("scripts/cost.lua", script).env("LM", model.url()).start().await;
    let answer = ask(&gateway, "Assistant", "key-free").answer().await;
    assert_eq!(answer.content(), "0.020 0.020");
    assert_eq!(answer.json()["usage"]["cost"], 0.02);
}

/// Whoever guesses keys is told to wait, and then no key helps.
#[tokio::test]
async fn guesses_are_limited() {
    let (_model, gateway) = start([Step::says("in")]).await;
    assert_eq!(ask(&gateway, "scripted", "key-free").answer().await.content(), "in");
    for n in 0..5 {
        ask(&gateway, "scripted", &format!("guess-{n}")).answer().await.assert_error(401, "invalid_api_key");
    }
    for key in ["guess-6", "key-free"] {
        let refused = ask(&gateway, "scripted", key).answer().await;
        refused.assert_error(429, "rate_limit_exceeded");
        assert!((1..=12).contains(&number(&refused, "retry-after")));
    }
    let list = gateway.get("/v1/models").key("key-free").answer().await;
    list.assert_error(429, "rate_limit_exceeded");
    assert_eq!(gateway.get("/healthz").answer().await.status(), 200);
}

/// A key that has come to its end is as good as none.
#[tokio::test]
async fn an_expired_key_is_refused() {
    let config = CONFIG
        .replace("key: key-few,", "key: key-few, expires: 2020-01-01,")
        .replace("key: key-free,", "key: key-free, expires: 2999-01-01T00:00:00Z,");
    let model = ScriptedModel::start([Step::chat(|e| reply(e, spoken("still good"), "stop"))]).await;
    let gateway = Gateway::start(&config, [("LM", &model.url())]).await;
    ask(&gateway, "scripted", "key-few").answer().await.assert_error(401, "invalid_api_key");
    assert_eq!(ask(&gateway, "scripted", "key-free").answer().await.content(), "still good");
    let wrong = Setup::new(&CONFIG.replace("key: key-few,", "key: key-few, expires: soon,"))
        .env("LM", "http://localhost:1/v1")
        .run(&["check"])
        .await;
    assert!(wrong.stderr.contains("auth.keys[1].expires: must be a day such as"), "{}", wrong.stderr);
    assert_eq!(wrong.code, Some(1));
}
