//! Every decision about access in one table: who asks for what, and whether it is there, is refused, or looks as if it were not there.

use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::scripted_model::{reply, spoken};
use crate::support::{Gateway, Request, ScriptedModel, Step};

const CONFIG: &str = r#"
server: { unknown_models: UNKNOWN }
upstreams: { lm: { base_url: "${LM}" } }
models: { fast: { upstream: lm, model: scripted }, kept: { upstream: lm, model: scripted, allow: ["wi*"] } }
agents:
  - { name: open, model: scripted }
  - { name: private, model: scripted, allow: [wide] }
  - { name: team/writer, model: scripted }
auth:
  keys:
    - { id: wide, key: key-wide }
    - { id: other, key: key-other, models: ["*"] }
    - { id: team, key: key-team, models: ["team/*", private] }
    - { id: off, key: key-off, disabled: true }
    - { id: old, key: key-old, expires: 2001-01-01 }
    - { id: admin, key: key-admin, admin: true, models: [open] }
"#;

const KEYS: [&str; 8] = ["wide", "other", "team", "admin", "off", "old", "wrong", "none"];

/// What becomes of a request: it is answered, or refused with this status.
const YES: u16 = 200;

/// Models, and what each key of `KEYS` gets for them where unknown models are rejected.
#[rustfmt::skip]
const MODELS: [(&str, [u16; 8]); 9] = [
    // wide other team admin off  old wrong none
    ("open",        [YES, YES, 403, YES, 401, 401, 401, 401]),
    ("private",     [YES, 404, 404, 403, 401, 401, 401, 401]),
    ("team/writer", [YES, YES, YES, 403, 401, 401, 401, 401]),
    ("fast",        [YES, YES, 403, 403, 401, 401, 401, 401]),
    ("kept",        [YES, 404, 403, 403, 401, 401, 401, 401]),
    ("scripted",    [YES, YES, 403, 403, 401, 401, 401, 401]),
    ("lm/scripted", [YES, YES, 403, 403, 401, 401, 401, 401]),
    ("team/none",   [404, 404, 404, 403, 401, 401, 401, 401]),
    ("none",        [404, 404, 403, 403, 401, 401, 401, 401]),
];

/// Paths, and what each key gets there.
#[rustfmt::skip]
const PATHS: [(&str, &str, [u16; 8]); 10] = [
    ("GET",  "/v1/models",    [YES, YES, YES, YES, 401, 401, 401, 401]),
    ("GET",  "/v1/models/open", [YES, YES, 404, YES, 401, 401, 401, 401]),
    ("GET",  "/v1/models/private", [YES, 404, 404, 404, 401, 401, 401, 401]),
    ("GET",  "/v1/models/none", [404, 404, 404, 404, 401, 401, 401, 401]),
    ("GET",  "/api/v0/other", [YES, YES, 403, 403, 401, 401, 401, 401]),
    ("GET",  "/agents",       [403, 403, 403, YES, 401, 401, 401, 401]),
    ("GET",  "/metrics",      [403, 403, 403, YES, 401, 401, 401, 401]),
    ("POST", "/reload",       [403, 403, 403, YES, 401, 401, 401, 401]),
    ("GET",  "/healthz",      [YES; 8]),
    ("GET",  "/readyz",       [YES; 8]),
];

/// `n_other`: how many requests for a path of the server's own reach it.
async fn start(unknown: &str, n_other: usize) -> (ScriptedModel, Gateway) {
    let other = || Step::at("GET", "/api/v0/other", |e| async move { e.json(200, &json!({})).await });
    let mut steps = vec![Step::every_chat(|e| reply(e, spoken("yes"), "stop"))];
    steps.extend((0..n_other).map(|_| other()));
    let model = ScriptedModel::start_all(steps).await;
    let gateway = Gateway::start(&CONFIG.replace("UNKNOWN", unknown), [("LM", &model.url())]).await;
    (model, gateway)
}

fn by(request: Request, key: &str) -> Request {
    if key == "none" { request } else { request.key(&format!("key-{key}")) }
}

/// An answer with the one word that the client itself chose taken out of it.
fn without(answer: &Answer, word: &str) -> (u16, String) {
    (answer.status(), answer.text().replace(word, "X"))
}

#[tokio::test]
async fn the_table() {
    let (_model, gateway) = start("reject", 2).await;
    let mut wrong = Vec::new();
    for (model, wanted) in MODELS {
        for (key, wanted) in KEYS.into_iter().zip(wanted) {
            for path in ["/v1/chat/completions", "/v1/responses"] {
                if path == "/v1/responses" && wanted == YES && !["open", "private", "team/writer"].contains(&model) {
                    // Plain models answer there as their server does.
                    continue;
                }
                let body = json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }], "input": "hi" });
                let status = by(gateway.post(path).json(&body), key).answer().await.status();
                if status != wanted {
                    wrong.push(format!("{path} {model} by {key}: {status}, not {wanted}"));
                }
            }
        }
    }
    for (method, path, wanted) in PATHS {
        for (key, wanted) in KEYS.into_iter().zip(wanted) {
            let request = if method == "GET" { gateway.get(path) } else { gateway.post(path).header("content-length", "0") };
            let status = by(request, key).answer().await.status();
            if status != wanted {
                wrong.push(format!("{method} {path} by {key}: {status}, not {wanted}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is there and refused, and what is not there, look the same to whoever may not have it.
#[tokio::test]
async fn nothing_tells_what_exists() {
    let (_model, gateway) = start("reject", 0).await;
    let ask = async |model: &str, key: &str| without(&by(gateway.chat(model, json!({})), key).answer().await, model);
    let pairs = [
        ("other", "private", "no-such-agent"),
        ("other", "kept", "no-such-alias"),
        ("team", "private", "team/no-such"),
        ("team", "open", "no-such-agent"),
        ("team", "scripted", "no-such-model"),
        ("admin", "team/writer", "team/no-such"),
    ];
    for (key, there, not_there) in pairs {
        assert_eq!(ask(there, key).await, ask(not_there, key).await, "{there} and {not_there} by {key}");
        let listed = async |model: &str| without(&by(gateway.get(&format!("/v1/models/{model}")), key).answer().await, model);
        assert_eq!(listed(there).await, listed(not_there).await, "{there} and {not_there} by {key}");
    }
    let wrong = async |key: &str| without(&by(gateway.chat("private", json!({})), key).answer().await, "");
    assert_eq!(wrong("off").await, wrong("wrong").await);
    assert_eq!(wrong("old").await, wrong("wrong").await);
    for key in ["wide", "other", "team", "admin"] {
        let list = by(gateway.get("/v1/models"), key).answer().await.json();
        let ids: Vec<&str> = list["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
        for (model, wanted) in MODELS.iter().filter(|(model, _)| *model != "lm/scripted") {
            let may = wanted[KEYS.iter().position(|other| *other == key).unwrap()] == YES;
            assert_eq!(ids.contains(model), may, "{model} for {key}: {ids:?}");
        }
    }
}

/// An agent that uses others does so with the rights of whoever asks it.
#[tokio::test]
async fn rights_do_not_grow_on_the_way() {
    let config = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents:
  - { name: open, model: scripted, tools: [{ name: ask_private, provider: agent, agent: private }] }
  - { name: private, model: scripted, allow: [wide] }
auth: { keys: [{ id: wide, key: key-wide }, { id: other, key: key-other }] }
"#;
    let asks = || Step::calls([("c", "ask_private", r#"{"input":"hi"}"#)]);
    let steps = [asks(), Step::says("secret"), Step::says("told"), asks(), Step::says("not told")];
    let model = ScriptedModel::start(steps).await;
    let gateway = Gateway::start(config, [("LM", &model.url())]).await;
    assert_eq!(gateway.chat("open", json!({})).key("key-wide").answer().await.content(), "told");
    assert_eq!(gateway.chat("open", json!({})).key("key-other").answer().await.content(), "not told");
    let result = |n: usize| {
        let requests = model.requests();
        let messages = requests[n].json()["messages"].as_array().unwrap().clone();
        messages.last().map(|message| message["content"].clone()).unwrap_or(Value::Null)
    };
    assert_eq!(result(2), "secret");
    assert!(result(4).as_str().unwrap().contains("the agent `private` is not available"), "{}", result(4));
}
