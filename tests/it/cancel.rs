//! A client that leaves: the model's connection closes within a second, tools are cancelled, nothing more is asked.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::oneshot;

use crate::support::events::Reader;
use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::chunk;
use crate::support::{FakeMcp, Gateway, ScriptedModel, Step, within};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
agents:
  - name: Assistant
    model: scripted
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
"#;

const SOON: Duration = Duration::from_secs(1);

async fn start(model: &ScriptedModel, mcp: &FakeMcp) -> Gateway {
    Gateway::start(CONFIG, [("LM", &model.url()), ("MCP", &mcp.url())]).await
}

async fn seen_soon(left: Instant, gone: oneshot::Receiver<Instant>) {
    let seen = within(5, "the end at the model", gone).await.unwrap();
    let took = seen.saturating_duration_since(left);
    assert!(took < SOON, "the model saw its client leave after {took:?}");
}

/// In the middle of a stream.
#[tokio::test]
async fn mid_stream() {
    let (tell, gone) = oneshot::channel();
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        e.event(&chunk(&json!({ "content": "Well, " }), None)).await.unwrap();
        tell.send(e.client_gone().await).unwrap();
    })])
    .await;
    let gateway = start(&model, &mcp).await;
    let mut reader = Reader::new(gateway.chat("Assistant", json!({ "stream": true })).open().await);
    within(5, "the first word", reader.json()).await.unwrap();
    let left = Instant::now();
    drop(reader);
    seen_soon(left, gone).await;
}

/// Before the first byte, streamed or not: an agent, and a plain model too.
#[tokio::test]
async fn before_the_first_byte() {
    for (name, streamed) in [("Assistant", true), ("Assistant", false), ("scripted", true), ("scripted", false)] {
        let (tell, gone) = oneshot::channel();
        let mcp = FakeMcp::start([Tool::weather()]).await;
        let model = ScriptedModel::start([Step::chat(|mut e| async move { tell.send(e.client_gone().await).unwrap() })]).await;
        let gateway = start(&model, &mcp).await;
        let wire = gateway.chat(name, json!({ "stream": streamed })).send().await;
        model.request(1).await;
        let left = Instant::now();
        drop(wire);
        seen_soon(left, gone).await;
    }
}

/// While a tool works: the call is cancelled at its server, and the model is not asked again.
#[tokio::test]
async fn during_a_tool() {
    for streamed in [true, false] {
        let mcp = FakeMcp::start([Tool::new("current", json!({ "type": "object" }), |_| std::future::pending())]).await;
        let model = ScriptedModel::start([Step::calls([("a", "get_weather", "{}")])]).await;
        let gateway = start(&model, &mcp).await;
        let wire = gateway.chat("Assistant", json!({ "stream": streamed })).send().await;
        mcp.until("the call", |seen| !seen.calls.is_empty()).await;
        let left = Instant::now();
        drop(wire);
        mcp.until("the cancellation", |seen| seen.n_cancelled > 0).await;
        assert!(left.elapsed() < SOON, "cancelled after {:?}", left.elapsed());
        gateway.stop().await;
        assert_eq!(model.requests().len(), 1, "the model is not asked again");
    }
}

/// A client that leaves while others stay disturbs none of them.
#[tokio::test]
async fn others_stay() {
    let (open, gate) = oneshot::channel::<()>();
    let (tell, gone) = oneshot::channel();
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let stays = Step::chat(|e| async move {
        gate.await.unwrap();
        crate::support::scripted_model::reply(e, crate::support::scripted_model::spoken("still here"), "stop").await;
    });
    let leaves = Step::chat(|mut e| async move { tell.send(e.client_gone().await).unwrap() });
    let model = ScriptedModel::start([
        stays.when("it stays", |r| r.json()["user"] == "stays"),
        leaves.when("it leaves", |r| r.json()["user"] == "leaves"),
    ])
    .await;
    let gateway = start(&model, &mcp).await;
    let staying = tokio::spawn(gateway.chat("Assistant", json!({ "user": "stays" })).answer());
    let leaving = gateway.chat("Assistant", json!({ "user": "leaves" })).send().await;
    model.request(2).await;
    let left = Instant::now();
    drop(leaving);
    seen_soon(left, gone).await;
    open.send(()).unwrap();
    assert_eq!(staying.await.unwrap().content(), "still here");
}
