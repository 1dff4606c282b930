//! `max_concurrent`: so many requests at an upstream at once, plain ones and runs alike; the others wait, the keys in turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use crate::support::scripted_model::{reply, spoken};
use crate::support::{Gateway, ScriptedModel, Step, within};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}", max_concurrent: PLACES, queue: { max: MAX, timeout: 30s } } }
agents: [{ name: Assistant, model: scripted }]
auth: { keys: [{ id: a, key: key-a }, { id: b, key: key-b }, { id: admin, key: key-admin, admin: true }] }
"#;

const WAITING: &str = r#"moongate_upstream_waiting{upstream="lm"}"#;

/// A model that answers when it is let, and tells who came.
struct Stage {
    gateway: Gateway,
    _model: ScriptedModel,
    came: mpsc::UnboundedReceiver<String>,
    answers: Arc<Semaphore>,
    most: Arc<AtomicUsize>,
}

async fn stage(places: usize, max: usize) -> Stage {
    let (tell, came) = mpsc::unbounded_channel();
    let (answers, most, now) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (gate, peak) = (answers.clone(), most.clone());
    let model = ScriptedModel::start([Step::every_chat(move |e| {
        let (tell, gate, peak, now) = (tell.clone(), gate.clone(), peak.clone(), now.clone());
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tell.send(e.request.json()["messages"][0]["content"].as_str().unwrap().to_owned()).unwrap();
            gate.acquire().await.unwrap().forget();
            now.fetch_sub(1, Ordering::SeqCst);
            reply(e, spoken("done"), "stop").await;
        }
    })])
    .await;
    let config = CONFIG.replace("PLACES", &places.to_string()).replace("MAX", &max.to_string());
    let mut gateway = Gateway::start(&config, [("LM", &model.url())]).await;
    gateway.admin_key = Some("key-admin");
    Stage { gateway, _model: model, came, answers, most }
}

impl Stage {
    /// Asks the plain model, or with an odd number the agent.
    fn ask(&self, key: &str, n: usize) -> crate::support::Request {
        let model = if n.is_multiple_of(2) { "scripted" } else { "Assistant" };
        let messages = json!([{ "role": "user", "content": format!("{key}{n}") }]);
        self.gateway.chat(model, json!({ "messages": messages, "stream": n.is_multiple_of(3) })).key(&format!("key-{key}"))
    }

    async fn waiting(&self, n: i64) {
        self.gateway.counts(WAITING, n).await;
    }
}

/// Forty clients, four places: none is lost, the keys take turns, and each key is served in its order.
#[tokio::test]
async fn forty_share_four_places() {
    let mut stage = stage(4, 100).await;
    let mut clients = Vec::new();
    for (key, n) in (0..20).map(|n| ("a", n)).chain((0..20).map(|n| ("b", n))) {
        let request = stage.ask(key, n);
        clients.push(tokio::spawn(request.answer()));
        let n_asked = clients.len();
        if n_asked > 4 {
            stage.waiting(n_asked as i64 - 4).await;
        } else {
            assert_eq!(within(10, "a request", stage.came.recv()).await.unwrap(), format!("{key}{n}"));
        }
    }
    let mut order = Vec::new();
    for _ in 4..40 {
        stage.answers.add_permits(1);
        order.push(within(10, "the next request", stage.came.recv()).await.unwrap());
    }
    stage.answers.add_permits(4);
    let answers = within(30, "every answer", join_all(clients)).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 200));
    let expected: Vec<String> =
        (0..16).flat_map(|n| [format!("a{}", n + 4), format!("b{n}")]).chain((16..20).map(|n| format!("b{n}"))).collect();
    assert_eq!(order, expected);
    assert_eq!(stage.most.load(Ordering::SeqCst), 4);
}

/// A client that leaves while it waits is never asked for.
#[tokio::test]
async fn whoever_leaves_leaves_the_line() {
    let mut stage = stage(1, 100).await;
    let first = tokio::spawn(stage.ask("a", 0).answer());
    assert_eq!(within(10, "a request", stage.came.recv()).await.unwrap(), "a0");
    for n in [2, 3] {
        let leaves = stage.ask("a", n).send().await;
        stage.waiting(1).await;
        drop(leaves);
        stage.waiting(0).await;
    }
    let last = tokio::spawn(stage.ask("b", 1).answer());
    stage.waiting(1).await;
    stage.answers.add_permits(2);
    assert_eq!(within(10, "a request", stage.came.recv()).await.unwrap(), "b1");
    for client in [first, last] {
        assert_eq!(within(10, "an answer", client).await.unwrap().status(), 200);
    }
}

/// More than may wait are told so at once, and when to come again.
#[tokio::test]
async fn a_full_line_is_told() {
    let mut stage = stage(1, 1).await;
    let first = tokio::spawn(stage.ask("a", 0).answer());
    within(10, "a request", stage.came.recv()).await.unwrap();
    let second = tokio::spawn(stage.ask("a", 1).answer());
    stage.waiting(1).await;
    for n in [2, 3] {
        let refused = stage.ask("b", n).answer().await;
        refused.assert_error(429, "concurrency_limit_exceeded");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    stage.answers.add_permits(2);
    for client in [first, second] {
        assert_eq!(within(10, "an answer", client).await.unwrap().status(), 200);
    }
}

/// A client that leaves in the middle of an answer makes room for the next.
#[tokio::test]
async fn a_cut_answer_frees_its_place() {
    let mut stage = stage(1, 100).await;
    for n in [0, 1] {
        let open = stage.ask("a", n).send().await;
        within(10, "a request", stage.came.recv()).await.unwrap();
        drop(open);
    }
    let next = tokio::spawn(stage.ask("b", 2).answer());
    within(10, "the next request", stage.came.recv()).await.unwrap();
    stage.answers.add_permits(3);
    assert_eq!(within(10, "an answer", next).await.unwrap().status(), 200);
}
