//! Keys: who may use which model, and what the others are told.

use serde_json::{Value, json};

use crate::support::{Gateway, ScriptedModel, Step};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents:
  - { name: Assistant, model: scripted }
  - { name: private, model: scripted, allow: [all] }
auth:
  keys:
    - { id: all, key: "key-of-all", models: ["*"] }
    - { id: some, key: "key-of-some", models: [Assistant, private] }
    - { id: hashed, key_sha256: "${SHA}", models: ["Assi*"] }
    - { id: off, key: "key-of-nobody", disabled: true }
"#;

/// SHA-256 of `key-of-hashed`.
const SHA: &str = "23103fd4613dc54280071c004678686c4a9cb1a0b1901d15e94129b9d2ad22b3";

async fn start<const N: usize>(steps: [Step; N]) -> (ScriptedModel, Gateway) {
    let model = ScriptedModel::start(steps).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url()), ("SHA", SHA)]).await;
    (model, gateway)
}

/// No key, a wrong one, a disabled one, another scheme, two at once: 401, and the key is not repeated.
#[tokio::test]
async fn bad_keys_are_refused() {
    let (model, gateway) = start([]).await;
    let chat = || gateway.chat("Assistant", json!({}));
    let answer = chat().answer().await;
    answer.assert_error(401, Value::Null);
    assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    for value in ["Bearer wrong-key-123", "Bearer key-of-nobody", "Basic a2V5LW9mLWFsbA==", "key-of-all", "Bearer "] {
        let answer = chat().header("authorization", value).answer().await;
        answer.assert_error(401, "invalid_api_key");
        assert!(!answer.text().contains("wrong-key-123"), "{}", answer.text());
    }
    let twice = chat().key("key-of-all").key("key-of-all").answer().await;
    twice.assert_error(401, "invalid_api_key");
    for path in ["/v1/models", "/api/v0/models"] {
        gateway.get(path).answer().await.assert_error(401, Value::Null);
    }
    assert_eq!(model.requests().len(), 0);
    gateway.logged("/api/v0/models").await;
    assert!(!gateway.log().contains("wrong-key-123"));
}

/// A key uses what its `models` and the agent's `allow` both say.
#[tokio::test]
async fn models_are_granted() {
    let (_model, gateway) = start(["a", "b", "c", "d"].map(Step::says)).await;
    let chat = |model: &str, key: &str| gateway.chat(model, json!({})).key(key);
    assert_eq!(chat("Assistant", "key-of-some").answer().await.content(), "a");
    assert_eq!(chat("private", "key-of-all").answer().await.content(), "b");
    assert_eq!(chat("scripted", "key-of-all").answer().await.content(), "c");
    assert_eq!(chat("Assistant", "key-of-hashed").answer().await.content(), "d");
    for (model, key) in [("scripted", "key-of-some"), ("lm/scripted", "key-of-some"), ("private", "key-of-some")] {
        chat(model, key).answer().await.assert_error(403, "model_not_found");
    }
}

/// The list shows what a key may use, and nothing else.
#[tokio::test]
async fn the_list_is_the_keys_own() {
    let (_model, gateway) = start([]).await;
    let mut lists = Vec::new();
    for key in ["key-of-all", "key-of-some"] {
        let list = gateway.get("/v1/models").key(key).answer().await.json();
        let mut ids: Vec<String> = list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        lists.push(ids);
    }
    assert!(["Assistant", "private", "scripted"].iter().all(|id| lists[0].iter().any(|seen| seen == id)), "{lists:?}");
    assert_eq!(lists[1], ["Assistant"]);
    let hidden = gateway.get("/v1/models/private").key("key-of-some").answer().await;
    assert!([403, 404].contains(&hidden.status()), "{}", hidden.text());
}

/// Every other path is for keys that may use everything.
#[tokio::test]
async fn other_paths_are_for_unrestricted_keys() {
    let (_model, gateway) = start([Step::at("GET", "/api/v0/models", |e| async move { e.json(200, &json!([])).await })]).await;
    assert_eq!(gateway.get("/api/v0/models").key("key-of-all").answer().await.status(), 200);
    assert_eq!(gateway.get("/api/v0/models").key("key-of-some").answer().await.status(), 403);
}

/// The gateway's key stays with the gateway.
#[tokio::test]
async fn keys_do_not_travel() {
    let (model, gateway) = start([Step::says("a"), Step::says("b")]).await;
    gateway.chat("Assistant", json!({})).key("key-of-all").answer().await;
    gateway.chat("scripted", json!({})).key("key-of-all").answer().await;
    for received in model.requests() {
        assert!(!received.mentions("key-of-all"), "{:?}", received.head.headers);
    }
    gateway.logged("/v1/chat/completions").await;
    assert!(!gateway.log().contains("key-of-all"));
}
