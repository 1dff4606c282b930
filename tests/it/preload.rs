//! Models that LM Studio has not loaded: loaded when it comes up and before a run, once for all who wait, and nobody waits in the dark.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::events::Reader;
use crate::support::{Gateway, ScriptedModel, Step, within};

const CONFIG: &str = r#"
upstreams:
  lm: { base_url: "${LM}", health: { interval: 1s }, preload: { scripted: { context_length: 16384, flash_attention: true } } }
agents: [{ name: Assistant, model: scripted }, { name: Other, model: other }]
"#;

const LOADS: &str = r#"moongate_upstream_loads_total{outcome="ok",upstream="lm"}"#;

const LEFT: &str = r#"moongate_runs_total{agent="Assistant",outcome="client_cancelled"}"#;

fn native(model: &str, state: &str) -> Value {
    json!([{ "id": model, "object": "model", "state": state, "max_context_length": 32768 }])
}

/// A load that is answered when it is let.
fn load(gate: &Arc<Semaphore>, answer: Value) -> Step {
    let gate = gate.clone();
    Step::at("POST", "/api/v1/models/load", move |e| async move {
        gate.acquire().await.unwrap().forget();
        e.json(200, &answer).await;
    })
}

fn loaded() -> Value {
    json!({ "type": "llm", "instance_id": "scripted", "load_time_seconds": 9.1, "status": "loaded" })
}

/// A run of this agent that shows what it does as Open WebUI has it.
async fn ask(gateway: &Gateway, agent: &str) -> Reader {
    Reader::new(gateway.chat(agent, json!({ "stream": true })).header("x-moongate-progress", "openwebui").open().await)
}

async fn status(reader: &mut Reader) -> (String, bool) {
    loop {
        let chunk = within(10, "a status", reader.json()).await.expect("the stream goes on");
        if let Some(event) = chunk.get("event") {
            return (event["data"]["description"].as_str().unwrap().to_owned(), event["data"]["done"].as_bool().unwrap());
        }
    }
}

async fn text(mut reader: Reader) -> String {
    let mut text = String::new();
    while let Some(chunk) = within(10, "the answer", reader.json()).await {
        text.push_str(chunk["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
    }
    text
}

/// Returns when the gateway knows that the model is not loaded.
async fn cold(gateway: &Gateway) {
    let known = async { while gateway.get("/v1/models/scripted").answer().await.json()["state"] != "not-loaded" {} };
    within(20, "the state of the model", known).await;
}

/// Loaded as the server comes up. Unloaded since, two runs need it: one load for both, shown to both, and it outlives the one who leaves.
#[tokio::test]
async fn a_model_is_loaded_once_for_all_who_wait() {
    let gate = Arc::new(Semaphore::new(1));
    let model = ScriptedModel::start([load(&gate, loaded()), load(&gate, loaded()), Step::says("here"), Step::says("still here")]).await;
    model.list_natively(native("scripted", "not-loaded"));
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let order = model.request(1).await;
    assert_eq!(order.json(), json!({ "model": "scripted", "context_length": 16384, "flash_attention": true }));
    gateway.counts(LOADS, 1).await;

    // The server's own list says what it said before, as if the model had been unloaded since.
    cold(&gateway).await;
    let mut first = ask(&gateway, "Assistant").await;
    assert_eq!(status(&mut first).await, ("Loading scripted".into(), false));
    model.request(2).await;
    let mut second = ask(&gateway, "Assistant").await;
    assert_eq!(status(&mut second).await, ("Loading scripted".into(), false));
    drop(first);
    gateway.counts(LEFT, 1).await;
    gate.add_permits(1);
    assert_eq!(status(&mut second).await, ("Loaded scripted".into(), true));
    model.list_natively(native("scripted", "loaded"));
    assert_eq!(text(second).await, "here");
    gateway.counts(LOADS, 2).await;

    let third = ask(&gateway, "Assistant").await;
    assert_eq!(text(third).await, "still here");
}

/// A model that cannot be loaded is asked nevertheless, for the server may find a way; the log says why.
#[tokio::test]
async fn a_failed_load_is_no_failed_run() {
    let gate = Arc::new(Semaphore::new(2));
    let refusal = json!({ "error": { "message": "not enough memory", "type": "invalid_request" } });
    let unknown = json!({ "error": "Unexpected endpoint or method. (POST /api/v1/models/load)" });
    let model = ScriptedModel::start([load(&gate, refusal), load(&gate, unknown), Step::says("by itself")]).await;
    model.list_natively(native("scripted", "not-loaded"));
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    gateway.logged("the model was not loaded: not enough memory").await;
    let mut run = ask(&gateway, "Assistant").await;
    assert_eq!(status(&mut run).await, ("Loading scripted".into(), false));
    assert_eq!(text(run).await, "by itself");
    gateway.logged("the model was not loaded: Unexpected endpoint").await;
    gateway.counts(&LOADS.replace("ok", "error"), 2).await;
}

/// What is not listed under `preload` is left to the server, and the wait for it is shown. Once it has answered, it is loaded.
#[tokio::test]
async fn the_servers_own_loading_is_shown() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let slow = Step::chat(move |e| async move {
        held.acquire().await.unwrap().forget();
        crate::support::scripted_model::reply(e, crate::support::scripted_model::spoken("at last"), "stop").await;
    });
    let model = ScriptedModel::listing(&["other"], [slow, Step::says("quick")]).await;
    model.list_natively(native("other", "not-loaded"));
    let config = CONFIG.replace("interval: 1s", "interval: 1h");
    let gateway = Gateway::start(&config, [("LM", &model.url())]).await;
    let mut run = ask(&gateway, "Other").await;
    assert_eq!(status(&mut run).await, ("Loading other".into(), false));
    gate.add_permits(1);
    assert_eq!(status(&mut run).await, ("Loaded other".into(), true));
    assert_eq!(text(run).await, "at last");
    let mut next = ask(&gateway, "Other").await;
    let first = within(10, "the answer", next.json()).await.unwrap();
    assert!(first.get("event").is_none(), "{first}");
    assert_eq!(text(next).await, "quick");
}
