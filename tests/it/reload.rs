//! A new configuration: swapped in one step, refused as a whole when it is wrong, and never felt by a request in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::{reply, spoken};
use crate::support::{Exchange, FakeMcp, Gateway, ScriptedModel, Setup, Step, within};

/// An agent whose instructions are `WORD`.
const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents: [{ name: Assistant, model: scripted, instructions: WORD }]
"#;

fn config(word: &str) -> String {
    CONFIG.replace("WORD", word)
}

/// A model that says its instructions.
async fn parrot(e: Exchange) {
    let request = e.request.json();
    let said = request["messages"][0]["content"].as_str().unwrap_or("nothing").to_owned();
    reply(e, spoken(&said), "stop").await;
}

async fn start(word: &str) -> (ScriptedModel, Gateway) {
    let model = ScriptedModel::start([Step::every_chat(parrot)]).await;
    let gateway = Gateway::start(&config(word), [("LM", &model.url())]).await;
    (model, gateway)
}

async fn says(gateway: &Gateway) -> String {
    gateway.chat("Assistant", json!({})).answer().await.content()
}

/// A changed file is noticed.
#[tokio::test]
async fn by_a_changed_file() {
    let (_model, gateway) = start("one").await;
    assert_eq!(says(&gateway).await, "one");
    gateway.write("config/gateway.yaml", &config("two"));
    gateway.logged("configuration reloaded").await;
    assert_eq!(says(&gateway).await, "two");
}

/// So is a new agent's file.
#[tokio::test]
async fn by_a_new_agent() {
    let model = ScriptedModel::start([Step::every_chat(parrot)]).await;
    let setup = Setup::new(&config("one")).file("agents/first.yaml", "{ model: scripted, instructions: first }");
    let gateway = setup.env("LM", model.url()).start().await;
    gateway.write("agents/team/second.yaml", "{ model: scripted, instructions: second }");
    gateway.logged("configuration reloaded").await;
    assert_eq!(gateway.chat("team/second", json!({})).answer().await.content(), "second");
}

/// SIGHUP asks for it.
#[tokio::test]
async fn by_a_signal() {
    let (_model, gateway) = start("one").await;
    gateway.signal(Signal::SIGHUP);
    gateway.logged("configuration reloaded").await;
    assert_eq!(says(&gateway).await, "one");
}

/// `POST /reload` asks for it, and answers when it is done.
#[tokio::test]
async fn by_a_request() {
    let (_model, gateway) = start("one").await;
    gateway.write("config/gateway.yaml", &config("two"));
    assert_eq!(gateway.reload().await.status(), 200);
    assert_eq!(says(&gateway).await, "two");
}

/// A configuration with a fault is refused as a whole: file, line and key are named, the old one serves on.
#[tokio::test]
async fn a_fault_changes_nothing() {
    let (_model, gateway) = start("one").await;
    let broken = [
        ("upstreams: [", "gateway.yaml:"),
        ("upstreams: { lm: { base_url: \"${LM}\" } }\nagents: [{ name: Assistant, modle: scripted }]", "gateway.yaml:2:"),
        ("upstreams: { lm: { base_url: \"${LM}\" } }\nagents: [{ name: A, model: m, hooks: [scripts/absent.lua] }]", "scripts/absent.lua"),
        ("upstreams: { lm: { base_url: \"${ABSENT_VARIABLE}\" } }", "ABSENT_VARIABLE"),
        ("upstreams: { lm: { base_url: \"${LM}\" } }\nagents: [{ name: A, upstream: nobody, model: m }]", "nobody"),
    ];
    for (text, named) in broken {
        gateway.write("config/gateway.yaml", text);
        let answer = gateway.reload().await;
        answer.assert_error(422, "invalid_config");
        assert!(answer.text().contains(named), "{named} in {}", answer.text());
        assert_eq!(says(&gateway).await, "one");
    }
    let metrics = gateway.get("/metrics").answer().await.text();
    assert!(metrics.contains("reload"), "{metrics}");
    gateway.write("config/gateway.yaml", &config("two"));
    assert_eq!(gateway.reload().await.status(), 200);
    assert_eq!(says(&gateway).await, "two");
}

/// A run in flight keeps its snapshot: instructions, hooks and tools, to its end, although its agent is gone meanwhile.
#[tokio::test]
async fn a_run_keeps_its_snapshot() {
    let (open, gate) = oneshot::channel::<()>();
    let mcp = FakeMcp::start([Tool::gated(gate)]).await;
    let model = ScriptedModel::start([Step::calls([("a", "get_weather", "{}")]), Step::chat(parrot)]).await;
    let text = r#"
upstreams: { lm: { base_url: "${LM}" } }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
agents:
  - name: Assistant
    model: scripted
    instructions: old
    hooks: [scripts/h.lua]
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
"#;
    let script =
        |word: &str| format!("return {{ pre_prompt = function(p) p.messages[1].content = p.messages[1].content .. ' {word}' end }}");
    let setup = Setup::new(text).file("scripts/h.lua", &script("hook"));
    let gateway = setup.env("LM", model.url()).env("MCP", mcp.url()).start().await;
    let running = tokio::spawn(gateway.chat("Assistant", json!({})).answer());
    mcp.until("the call", |seen| !seen.calls.is_empty()).await;
    gateway.write("scripts/h.lua", &script("new hook"));
    gateway.write("config/gateway.yaml", "upstreams: { lm: { base_url: \"${LM}\" } }\nagents: [{ name: Other, model: scripted }]");
    assert_eq!(gateway.reload().await.status(), 200);
    assert_eq!(gateway.get("/agents/Assistant").answer().await.status(), 404);
    open.send(()).unwrap();
    assert_eq!(within(10, "the end of the run", running).await.unwrap().content(), "old hook");
}

/// An MCP connection whose configuration did not change is kept.
#[tokio::test]
async fn connections_are_kept() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([]).await;
    let text = r#"
upstreams: { lm: { base_url: "${LM}" } }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
agents: [{ name: Assistant, model: scripted, instructions: one, tools: [{ provider: mcp, mcp_server: weather, include: ["*"] }] }]
"#;
    let gateway = Gateway::start(text, [("LM", &model.url()), ("MCP", &mcp.url())]).await;
    gateway.write("config/gateway.yaml", &text.replace("one", "two"));
    assert_eq!(gateway.reload().await.status(), 200);
    assert_eq!(mcp.seen().n_sessions, 1);
}

/// Fifty requests a second for twenty seconds, a reload every 100 ms, every second one broken: no request fails, and each
/// answer comes from one version alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load() {
    const SECONDS: u64 = 20;
    let version = |k: usize| {
        CONFIG.replace("WORD", &format!("v{k}")).replace("model: scripted", &format!("model: scripted, hooks: [scripts/v{k}.lua]"))
    };
    let script = |k: usize| format!("return {{ pre_prompt = function(p) p.messages[1].content = p.messages[1].content .. ' v{k}' end }}");
    let model = ScriptedModel::start([Step::every_chat(parrot)]).await;
    let setup = Setup::new(&version(0)).file("scripts/v0.lua", &script(0));
    let gateway = Arc::new(setup.env("LM", model.url()).start().await);
    let over = Arc::new(AtomicBool::new(false));
    let reloads = {
        let (gateway, over) = (gateway.clone(), over.clone());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            let (mut n_good, mut n_bad) = (0, 0);
            for k in 1.. {
                ticks.tick().await;
                if over.load(Ordering::Relaxed) {
                    break;
                }
                gateway.write(&format!("scripts/v{k}.lua"), &script(k));
                let text = if k % 2 == 0 { version(k) } else { version(k).replace("model:", "modle:") };
                gateway.write("config/gateway.yaml.new", &text);
                std::fs::rename(gateway.path("config/gateway.yaml.new"), gateway.path("config/gateway.yaml")).unwrap();
                match gateway.reload().await.status() {
                    200 if k % 2 == 0 => n_good += 1,
                    422 if k % 2 == 1 => n_bad += 1,
                    status => panic!("reload {k} answered {status}"),
                }
            }
            (n_good, n_bad)
        })
    };
    let n_answers = Arc::new(AtomicUsize::new(0));
    let mut versions = std::collections::BTreeSet::new();
    let mut requests = tokio::task::JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    for i in 0..50 * SECONDS {
        ticks.tick().await;
        let (gateway, n_answers) = (gateway.clone(), n_answers.clone());
        requests.spawn(async move {
            let text = match i % 2 {
                0 => gateway.chat("Assistant", json!({})).answer().await.content(),
                _ => {
                    let said = gateway.chat("Assistant", json!({ "stream": true })).stream().await;
                    said.assert_well_formed("Assistant");
                    said.text()
                }
            };
            n_answers.fetch_add(1, Ordering::Relaxed);
            text
        });
    }
    while let Some(text) = requests.join_next().await {
        let text = text.unwrap();
        let (instructions, hook) = text.split_once(' ').unwrap();
        assert_eq!(instructions, hook, "an answer of two versions");
        versions.insert(text);
    }
    over.store(true, Ordering::Relaxed);
    let (n_good, n_bad) = reloads.await.unwrap();
    let n_answers = n_answers.load(Ordering::Relaxed);
    println!("{n_answers} answers of {} versions, {n_good} good and {n_bad} broken reloads", versions.len());
    assert_eq!(n_answers as u64, 50 * SECONDS);
    assert!(n_good >= 20 && n_bad >= 20 && versions.len() >= 10, "{n_good} {n_bad} {}", versions.len());
}
