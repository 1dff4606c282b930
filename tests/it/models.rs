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
