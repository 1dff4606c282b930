//! A server that dies under load and comes back: who notices, who does not, and what the pages say meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::support::exchange::{Exchange, Listening, listen_at};
use crate::support::scripted_model::{chunk, reply, spoken};
use crate::support::{Gateway, Live, Request, within};

const CONFIG: &str = r#"
upstreams:
  a: { base_url: "${A}", health: { interval: 1h } }
  b: { base_url: "${B}", health: { interval: 1h } }
models: { fast: { upstream: a, model: model-of-a, fallback: ["b/model-of-b"] } }
"#;

const UP: &str = r#"moongate_upstream_up{upstream="a"}"#;
const OPENED: &str = r#"moongate_upstream_breaker_opened_total{upstream="a"}"#;
const FALLBACKS: &str = r#"moongate_upstream_fallbacks_total{upstream="a"}"#;

/// A server that can be killed: its port closes, and each of its connections breaks, whatever was under way.
struct Server {
    name: &'static str,
    address: SocketAddr,
    arrived: mpsc::UnboundedSender<String>,
    alive: Option<Listening>,
}

impl Server {
    async fn start(name: &'static str) -> (Server, mpsc::UnboundedReceiver<String>) {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let mut server = Server { name, address: SocketAddr::from(([127, 0, 0, 1], 0)), arrived, alive: None };
        server.revive().await;
        (server, arrivals)
    }

    fn kill(&mut self) {
        self.alive = None;
    }

    async fn revive(&mut self) {
        let (name, arrived) = (self.name, self.arrived.clone());
        let (address, listening) = listen_at(self.address, None, move |exchange| answer(name, arrived.clone(), exchange)).await;
        (self.address, self.alive) = (address, Some(listening));
    }

    fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

/// Says its name; `hold` is never answered, `begin` never ended.
async fn answer(name: &'static str, arrived: mpsc::UnboundedSender<String>, mut exchange: Exchange) {
    let request = exchange.request.clone();
    if request.method() == "GET" {
        let list = json!({ "object": "list", "data": [] });
        return if request.path() == "/v1/models" { exchange.json(200, &list).await } else { exchange.json(404, &json!({})).await };
    }
    let body = request.json();
    assert_eq!(body["model"], format!("model-of-{name}"));
    let embeds = request.path() == "/v1/embeddings";
    let wish = if embeds { &body["input"] } else { &body["messages"][0]["content"] };
    let wish = wish.as_str().unwrap().to_owned();
    let _ = arrived.send(wish.clone());
    match wish.as_str() {
        "hold" if name == "a" => std::future::pending().await,
        "begin" if name == "a" => {
            exchange.start("text/event-stream").await;
            exchange.event(&chunk(&json!({ "content": "half an" }), None)).await.unwrap();
            std::future::pending().await
        }
        _ if embeds => exchange.json(200, &json!({ "object": "list", "data": [], "served_by": name })).await,
        _ => reply(exchange, spoken(name), "stop").await,
    }
}

fn chat(gateway: &Gateway, wish: &str) -> Request {
    gateway.chat("fast", json!({ "stream": true, "messages": [{ "role": "user", "content": wish }] }))
}

fn embed(gateway: &Gateway, wish: &str) -> Request {
    gateway.post("/v1/embeddings").json(&json!({ "model": "fast", "input": wish }))
}

/// What a client got.
#[derive(Debug, PartialEq)]
enum Got {
    /// A whole answer, from this server.
    From(String),
    /// A failure after a part of the answer.
    Cut,
    /// A failure and nothing else.
    Nothing(String),
}

async fn streamed(request: Request) -> Got {
    let stream = request.stream().await;
    match stream.text() {
        text if stream.done() => Got::From(text),
        text if !text.is_empty() => Got::Cut,
        _ => Got::Nothing(format!("{stream:?}")),
    }
}

async fn whole(request: Request) -> Got {
    let live: Live = request.open().await;
    let begun = live.head.start[1] == "200";
    match live.answer().await {
        Ok(answer) if answer.status() == 200 => Got::From(answer.json()["served_by"].as_str().unwrap().to_owned()),
        Err(_) if begun => Got::Cut,
        other => Got::Nothing(format!("{other:?}")),
    }
}

/// Clients that ask one after the other until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<[watch::Sender<usize>; 2]>,
    failed: Arc<AtomicUsize>,
    clients: tokio::task::JoinSet<()>,
}

impl Load {
    fn start(gateway: &Gateway, n_clients: usize) -> Load {
        let (stop, served, failed) = (Arc::<AtomicBool>::default(), Arc::<[watch::Sender<usize>; 2]>::default(), Arc::default());
        let mut load = Load { stop, served, failed, clients: tokio::task::JoinSet::new() };
        for n in 0..n_clients {
            let request = if n.is_multiple_of(2) { chat(gateway, "hello") } else { embed(gateway, "hello") };
            let (stop, served, failed) = (load.stop.clone(), load.served.clone(), load.failed.clone());
            load.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let got = if n.is_multiple_of(2) { streamed(request.clone()).await } else { whole(request.clone()).await };
                    match got {
                        Got::From(name) => served[usize::from(name == "b")].send_modify(|n| *n += 1),
                        Got::Cut => _ = failed.fetch_add(1, Ordering::Relaxed),
                        Got::Nothing(what) => panic!("a request failed before any of its answer had come: {what}"),
                    }
                }
            });
        }
        load
    }

    /// Waits until `n` more requests were answered by this server.
    async fn more(&self, server: usize, n: usize) {
        let mut served = self.served[server].subscribe();
        let wanted = *served.borrow() + n;
        within(30, &format!("{n} more answers of server {server}"), served.wait_for(|n| *n >= wanted)).await.unwrap();
    }

    async fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        self.failed.load(Ordering::Relaxed)
    }
}

async fn breaker_of_a(gateway: &Gateway) -> Value {
    let upstreams = gateway.get("/upstreams").answer().await.json();
    upstreams["upstreams"].as_array().unwrap().iter().find(|upstream| upstream["name"] == "a").unwrap()["breaker"].clone()
}

/// One of two servers is killed under load: only those fail whose answer had begun. The other one takes over, the breaker opens,
/// and when the server is back it is used again, without a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_servers_dies_under_load() {
    let ((mut a, mut arrivals), (b, _others)) = (Server::start("a").await, Server::start("b").await);
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    gateway.counts(UP, 1).await;
    let mut waiting = tokio::task::JoinSet::new();
    let mut begun = Vec::new();
    for _ in 0..4 {
        waiting.spawn(streamed(chat(&gateway, "hold")));
        waiting.spawn(whole(embed(&gateway, "hold")));
        let mut live = chat(&gateway, "begin").open().await;
        assert_eq!(live.head.start[1], "200");
        let first = within(10, "the first piece", live.piece()).await.unwrap().unwrap();
        begun.push((live, first));
    }
    let mut held = 0;
    while held < 8 {
        held += usize::from(within(10, "a request at the server", arrivals.recv()).await.unwrap() == "hold");
    }
    let load = Load::start(&gateway, 12);
    load.more(0, 50).await;
    assert_eq!((gateway.metric(FALLBACKS).await, breaker_of_a(&gateway).await), (0, json!("closed")));

    a.kill();
    while let Some(got) = waiting.join_next().await {
        assert_eq!(got.unwrap(), Got::From("b".into()), "nothing of its answer had come: the other server gives it");
    }
    for (mut live, first) in begun {
        let mut text = first.to_vec();
        while let Ok(Some(piece)) = within(10, "the rest of a stream", live.piece()).await {
            text.extend_from_slice(&piece);
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("half an") && text.contains("upstream_error"), "begun and not repeated: {text}");
    }
    gateway.counts(OPENED, 1).await;
    gateway.counts(UP, 0).await;
    gateway.logged("the breaker opens").await;
    load.more(1, 100).await;
    assert_ne!(breaker_of_a(&gateway).await, "closed");

    a.revive().await;
    load.more(0, 50).await;
    gateway.counts(UP, 1).await;
    gateway.logged("the breaker closes").await;
    assert_eq!(breaker_of_a(&gateway).await, "closed");
    let cut = load.stop().await;
    assert!(cut <= 12, "each client was in one answer at the most when the server died: {cut} were cut");
}

/// An outage ends when the server is back, also where nobody asks for anything: its health is asked for more often meanwhile.
#[tokio::test]
async fn recovery_needs_no_traffic() {
    let ((mut a, _arrivals), (b, _others)) = (Server::start("a").await, Server::start("b").await);
    let gateway = Gateway::start(CONFIG, [("A", &a.url()), ("B", &b.url())]).await;
    a.kill();
    for _ in 0..5 {
        gateway.chat("a/model-of-a", json!({})).answer().await.assert_error(502, "upstream_unreachable");
    }
    gateway.counts(OPENED, 1).await;
    gateway.counts(UP, 0).await;
    // Without anybody else to ask, it is tried nevertheless.
    gateway.chat("a/model-of-a", json!({})).answer().await.assert_error(502, "upstream_unreachable");
    a.revive().await;
    gateway.counts(UP, 1).await;
    assert_eq!(breaker_of_a(&gateway).await, "closed");
    assert_eq!(gateway.chat("fast", json!({})).answer().await.content(), "a");
    assert_eq!(gateway.metric(FALLBACKS).await, 0);
}
