//! `/v1/models`: one list of everything that this client may use, whatever becomes of the upstreams.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Gateway, ScriptedModel};

const CONFIG: &str = r#"
upstreams:
  a: { base_url: "${A}", health: { interval: 1h } }
  b: { base_url: "${B}", health: { interval: 1h } }
models: { fast: { upstream: a, model: shared } }
agents: [{ name: Assistant, upstream: a, model: shared }]
"#;

fn ids(list: &Value) -> Vec<String> {
    let mut ids = Vec::new();
    for model in list["data"].as_array().expect("a list") {
        assert_eq!(model["object"], "model", "{model}");
        assert!(model["created"].is_u64() && model["owned_by"].is_string(), "{model}");
        ids.push(model["id"].as_str().expect("an id").to_owned());
    }
    ids
}

/// Agents, aliases and the models of all upstreams, each id once.
#[tokio::test]
async fn the_list_is_merged() {
    let a = ScriptedModel::listing(&["shared", "only-a"], []).await;
    let b = ScriptedModel::listing(&["shared", "only-b"], []).await;
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    let list = gateway.get("/v1/models").answer().await.json();
    assert_eq!(list["object"], "list");
    let mut ids = ids(&list);
    for wanted in ["Assistant", "fast", "shared", "only-a", "only-b"] {
        assert_eq!(ids.iter().filter(|id| *id == wanted).count(), 1, "{wanted} once in {ids:?}");
    }
    let n = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), n, "each id once");
}

/// One of them by its id, with slashes too; none for an id that nobody has.
#[tokio::test]
async fn a_model_by_its_id() {
    let a = ScriptedModel::listing(&["org/name"], []).await;
    let b = ScriptedModel::listing(&[], []).await;
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    for id in ["Assistant", "fast", "org/name"] {
        let model = gateway.get(&format!("/v1/models/{id}")).answer().await.json();
        assert_eq!((&model["id"], &model["object"]), (&json!(id), &json!("model")));
    }
    gateway.get("/v1/models/nobody").answer().await.assert_error(404, "model_not_found");
}

/// An upstream that accepts connections and never answers holds nobody up for longer than 2 s.
#[tokio::test]
async fn a_hanging_upstream_is_left_out() {
    let a = ScriptedModel::listing(&["alive"], []).await;
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let b = format!("http://{}/v1", hanging.local_addr().unwrap());
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b)]).await;
    let asked = Instant::now();
    let list = gateway.get("/v1/models").answer().await.json();
    assert!(asked.elapsed() < Duration::from_millis(2500), "{:?}", asked.elapsed());
    assert!(ids(&list).contains(&"alive".to_owned()));
}

/// LM Studio tells which models are loaded and how long a context they take: the list says so, too.
#[tokio::test]
async fn lm_studio_tells_more() {
    let a = ScriptedModel::listing(&["loaded", "idle", "other"], []).await;
    a.list_natively(json!([
        { "id": "loaded", "object": "model", "arch": "qwen3", "state": "loaded", "max_context_length": 131072, "loaded_context_length": 4096 },
        { "id": "idle", "object": "model", "state": "not-loaded", "max_context_length": 32768 },
    ]));
    let b = ScriptedModel::listing(&["plain"], []).await;
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    let model = async |id: &str| gateway.get(&format!("/v1/models/{id}")).answer().await.json();
    let told = |model: Value| ["state", "max_context_length", "loaded_context_length"].map(|field| model[field].clone());
    assert_eq!(told(model("loaded").await), [json!("loaded"), json!(131072), json!(4096)]);
    assert_eq!(told(model("idle").await), [json!("not-loaded"), json!(32768), Value::Null]);
    for id in ["other", "plain"] {
        let model = model(id).await;
        assert_eq!(model, json!({ "id": id, "object": "model", "created": 1, "owned_by": "test" }), "nothing is added");
    }
    assert!(model("loaded").await.get("arch").is_none());
}

/// A server without such a list is asked for it once, however often for its models; after it was down it may be another server.
#[tokio::test]
async fn what_is_not_there_is_asked_for_once() {
    let a = ScriptedModel::listing(&["m"], []).await;
    let b = ScriptedModel::listing(&["n"], []).await;
    b.list_natively(json!([]));
    let config = CONFIG.replace("1h", "1s");
    let _gateway = Gateway::start(&config, [("A", &a.url()), ("B", &b.url())]).await;
    assert_eq!(a.listed(3).await, 1);
    assert!(b.listed(4).await >= 3, "where it is, it is asked for each time");
}
