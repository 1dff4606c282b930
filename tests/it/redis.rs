//! Sessions in Redis: shared by replicas, whole after any death, and what happens while Redis is away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::redis::{Redis, Sentinel};
use crate::support::scripted_model::{reply, spoken};
use crate::support::{Answer, Gateway, ScriptedModel, Step, within};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents: [{ name: server, model: scripted, session: { history: server } }]
redis: { url: "${REDIS}", wait_replicas: WAIT, timeout: "${PATIENCE:-5s}" }
sessions: { fail: FAIL }
"#;

/// A model that says how much it was told before.
async fn model() -> ScriptedModel {
    let echo = Step::every_chat(|e| async move {
        let n = e.request.json()["messages"].as_array().unwrap().len();
        reply(e, spoken(&format!("after {}", n - 1)), "stop").await;
    });
    ScriptedModel::start([echo]).await
}

async fn gateway(model: &ScriptedModel, url: &str, fail: &str, wait: usize) -> Gateway {
    let config = CONFIG.replace("FAIL", fail).replace("WAIT", &wait.to_string());
    starts(&config, model, url, "5s").await
}

async fn starts(config: &str, model: &ScriptedModel, url: &str, patience: &str) -> Gateway {
    let gateway = Gateway::start(config, [("LM", &model.url()), ("REDIS", url), ("PATIENCE", patience)]).await;
    gateway.counts("moongate_redis_up", 1).await;
    gateway
}

async fn say(gateway: &Gateway, session: &str, text: &str) -> Answer {
    let messages = json!([{ "role": "user", "content": text }]);
    gateway.chat("server", json!({ "messages": messages })).header("x-session-id", session).answer().await
}

/// What was said in this session, once it can be read.
async fn said(gateway: &Gateway, session: &str) -> Vec<String> {
    let asking = async {
        loop {
            let answer = gateway.get(&format!("/sessions/{session}")).answer().await;
            match answer.status() {
                200 => break answer.json()["turns"].as_array().unwrap().clone(),
                404 => break Vec::new(),
                status => assert_eq!(status, 503, "{}", answer.text()),
            }
        }
    };
    let turns = within(30, "the session", asking).await;
    turns.iter().map(|turn| turn["input"][0]["content"].as_str().unwrap().to_owned()).collect()
}

/// What began at one replica goes on at another, and is seen and forgotten at both.
#[tokio::test]
async fn a_session_goes_on_elsewhere() {
    let (redis, model) = (Redis::start().await, model().await);
    let (one, two) = (gateway(&model, &redis.url(), "closed", 0).await, gateway(&model, &redis.url(), "closed", 0).await);
    assert_eq!(say(&one, "s", "a").await.content(), "after 0");
    assert_eq!(say(&two, "s", "b").await.content(), "after 2");
    assert_eq!(say(&one, "s", "c").await.content(), "after 4");
    assert_eq!(said(&two, "s").await, ["a", "b", "c"]);
    say(&two, "t", "x").await;
    let list = one.get("/sessions").answer().await.json();
    let ids: Vec<&str> = list["sessions"].as_array().unwrap().iter().map(|session| session["id"].as_str().unwrap()).collect();
    assert!(ids.len() == 2 && ids.contains(&"s") && ids.contains(&"t"), "{ids:?}");
    let turns = list["sessions"].as_array().unwrap().iter().find(|session| session["id"] == "s").unwrap()["turns"].clone();
    assert_eq!(turns, 3);
    let deleted = crate::support::Request::new(two.address, "DELETE", "/sessions/s").answer().await;
    assert_eq!((deleted.status(), said(&one, "s").await.len()), (204, 0));
    assert_eq!(one.get("/sessions").answer().await.json()["sessions"].as_array().unwrap().len(), 1);
}

/// Many conversations over two replicas: each history is complete and in order. `MOONGATE_SESSIONS` of `MOONGATE_TURNS`; 20 of 6 unless set.
#[tokio::test]
async fn many_conversations_over_two_replicas() {
    let number = |name: &str, default: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (n_sessions, n_turns) = (number("MOONGATE_SESSIONS", 20), number("MOONGATE_TURNS", 6));
    let (redis, model) = (Redis::with(&["--appendonly", "no"]).await, model().await);
    let gateways = Arc::new([gateway(&model, &redis.url(), "closed", 0).await, gateway(&model, &redis.url(), "closed", 0).await]);
    let began = Instant::now();
    let talks = (0..n_sessions).map(|n| {
        let gateways = gateways.clone();
        tokio::spawn(async move {
            for turn in 0..n_turns {
                let answer = say(&gateways[turn % 2], &format!("s{n}"), &format!("{n}.{turn}")).await;
                assert_eq!(answer.content(), format!("after {}", 2 * turn));
            }
        })
    });
    join_all(talks).await.into_iter().for_each(|talk| talk.unwrap());
    let seconds = began.elapsed().as_secs_f64();
    for n in 0..n_sessions {
        let wanted: Vec<String> = (0..n_turns).map(|turn| format!("{n}.{turn}")).collect();
        assert_eq!(said(&gateways[0], &format!("s{n}")).await, wanted);
    }
    eprintln!("{n_sessions} sessions of {n_turns} turns in Redis: {seconds:.1} s, {:.0} turns/s", (n_sessions * n_turns) as f64 / seconds);
}

/// Clients that talk until they are told to stop; which turns the gateway confirmed, by session.
async fn confirmed_turns(gateway: Arc<Gateway>, stop: Arc<AtomicBool>) -> BTreeMap<String, Vec<String>> {
    let talks = (0..8).map(|n| {
        let (gateway, stop) = (gateway.clone(), stop.clone());
        tokio::spawn(async move {
            let (session, mut confirmed) = (format!("s{n}"), Vec::new());
            for turn in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let text = format!("{n}.{turn}");
                let answer = say(&gateway, &session, &text).await;
                match answer.status() {
                    200 => confirmed.push(text),
                    503 => tokio::time::sleep(Duration::from_millis(5)).await,
                    status => panic!("{status}: {}", answer.text()),
                }
            }
            (session, confirmed)
        })
    });
    join_all(talks).await.into_iter().map(|talk| talk.unwrap()).collect()
}

/// Those that were confirmed and are not there.
async fn lost(gateway: &Gateway, confirmed: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut lost = Vec::new();
    for (session, confirmed) in confirmed {
        let there = said(gateway, session).await;
        lost.extend(confirmed.iter().filter(|turn| !there.contains(turn)).cloned());
        let order: Vec<&String> = there.iter().filter(|turn| confirmed.contains(turn)).collect();
        assert!(order.windows(2).all(|pair| position(confirmed, pair[0]) < position(confirmed, pair[1])), "{session}: {there:?}");
    }
    lost
}

/// How often the log says that Redis went or came: one line for each change, in turns.
fn changes(gateway: &Gateway) -> usize {
    let log = gateway.log();
    let lines: Vec<bool> =
        log.lines().filter(|line| line.contains("Redis is ")).skip(1).map(|line| line.contains("Redis is away")).collect();
    assert!(lines.iter().enumerate().all(|(i, is_away)| *is_away == i.is_multiple_of(2)), "{lines:?}");
    lines.len()
}

fn position(all: &[String], one: &str) -> Option<usize> {
    all.iter().position(|other| other == one)
}

/// Killed under load and started again: the gateway lives, is told within a second, and has every turn that it confirmed.
#[tokio::test]
async fn no_confirmed_turn_is_lost_when_redis_is_killed() {
    let (mut redis, model) = (Redis::start().await, model().await);
    let gateway = Arc::new(gateway(&model, &redis.url(), "closed", 0).await);
    let stop = Arc::new(AtomicBool::new(false));
    let talking = tokio::spawn(confirmed_turns(gateway.clone(), stop.clone()));
    for _ in 0..2 {
        let before = gateway.metric("moongate_run_hops_total").await;
        within(20, "some turns", async { while gateway.metric("moongate_run_hops_total").await < before + 40 {} }).await;
        redis.kill().await;
        gateway.counts("moongate_redis_up", 0).await;
        let began = Instant::now();
        redis.begin().await;
        let up = Instant::now();
        gateway.counts("moongate_redis_up", 1).await;
        eprintln!(
            "killed: Redis answers after {:.2} s, the gateway uses it {:.2} s later",
            (up - began).as_secs_f64(),
            up.elapsed().as_secs_f64()
        );
    }
    let before = gateway.metric("moongate_run_hops_total").await;
    within(20, "some more turns", async { while gateway.metric("moongate_run_hops_total").await < before + 40 {} }).await;
    stop.store(true, Ordering::Relaxed);
    let confirmed = talking.await.unwrap();
    let n: usize = confirmed.values().map(Vec::len).sum();
    assert_eq!(lost(&gateway, &confirmed).await, [""; 0]);
    eprintln!("killed twice: {n} turns confirmed, 0 lost");
    assert!(gateway.log().contains("Redis is there again"));
}

/// A failover: what `wait_replicas: 1` confirmed is there. What a primary alone confirmed may be lost; how much is printed.
#[tokio::test]
async fn a_failover_loses_nothing_that_a_replica_has() {
    for wait in [1, 0] {
        let (mut sentinel, model) = (Sentinel::start().await, model().await);
        let gateway = Arc::new(gateway(&model, &sentinel.url(), "closed", wait).await);
        let stop = Arc::new(AtomicBool::new(false));
        let talking = tokio::spawn(confirmed_turns(gateway.clone(), stop.clone()));
        within(30, "some turns", async { while gateway.metric("moongate_run_hops_total").await < 60 {} }).await;
        sentinel.primary.kill().await;
        let began = Instant::now();
        gateway.counts("moongate_redis_up", 0).await;
        within(30, "the new primary", async { while gateway.metric("moongate_redis_up").await == 0 {} }).await;
        let seconds = began.elapsed().as_secs_f64();
        stop.store(true, Ordering::Relaxed);
        let confirmed = talking.await.unwrap();
        let n: usize = confirmed.values().map(Vec::len).sum();
        let lost = lost(&gateway, &confirmed).await;
        eprintln!("failover, wait_replicas: {wait}: back after {seconds:.2} s, {n} turns confirmed, {} lost", lost.len());
        assert!(wait == 0 || lost.is_empty(), "{lost:?}");
    }
}

/// Away in every way there is: a closed gateway refuses before the model is asked, an open one goes on and says so. Both go on by themselves.
#[tokio::test]
async fn away_in_every_way() {
    let (mut redis, model) = (Redis::start().await, model().await);
    let config = |fail: &str| CONFIG.replace("FAIL", fail).replace("WAIT", "0");
    let closed = starts(&config("closed"), &model, &redis.url(), "250ms").await;
    let open = starts(&config("open"), &model, &redis.url(), "250ms").await;
    assert_eq!(say(&closed, "s", "a").await.content(), "after 0");
    let ways = ["killed", "paused", "read only", "out of memory"];
    for way in ways {
        match way {
            "killed" => redis.kill().await,
            "paused" => redis.signal(Signal::SIGSTOP),
            "read only" => drop(redis.ask(&["REPLICAOF", "127.0.0.1", "1"]).await),
            _ => drop(redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).await),
        }
        for gateway in [&closed, &open] {
            gateway.counts("moongate_redis_up", 0).await;
        }
        let n_asked = model.requests().len();
        let began = Instant::now();
        let refused = say(&closed, "s", way).await;
        refused.assert_error(503, "session_store_unavailable");
        assert_eq!((refused.header("x-should-retry"), model.requests().len()), (Some("false"), n_asked), "{way}");
        let alone = say(&open, "s", way).await;
        assert_eq!((alone.content().as_str(), alone.header("x-moongate-session")), ("after 0", Some("unavailable")), "{way}");
        assert!(began.elapsed() < Duration::from_secs(2), "{way}: nobody waits for what is known to be away");
        closed.get("/sessions").answer().await.assert_error(503, "session_store_unavailable");
        match way {
            "killed" => redis.begin().await,
            "paused" => redis.signal(Signal::SIGCONT),
            "read only" => drop(redis.ask(&["REPLICAOF", "NO", "ONE"]).await),
            _ => drop(redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).await),
        }
        let began = Instant::now();
        for gateway in [&closed, &open] {
            gateway.counts("moongate_redis_up", 1).await;
        }
        eprintln!("{way}: used again {:.2} s after it was well", began.elapsed().as_secs_f64());
        assert_eq!(say(&open, "s", "again").await.header("x-moongate-session"), None);
    }
    assert_eq!(said(&closed, "s").await.len(), 1 + ways.len());
    assert!(changes(&open) >= 7);
}

/// A gateway that never saw Redis starts, and uses it when it comes. Nobody waits longer than a moment for one that is slow.
#[tokio::test]
async fn late_and_slow() {
    let (mut redis, model) = (Redis::start().await, model().await);
    let url = redis.url();
    redis.kill().await;
    let config = CONFIG.replace("FAIL", "open").replace("WAIT", "0");
    let gateway = Gateway::start(&config, [("LM", &model.url()), ("REDIS", &url), ("PATIENCE", "250ms")]).await;
    assert_eq!(say(&gateway, "s", "a").await.header("x-moongate-session"), Some("unavailable"));
    redis.begin().await;
    gateway.counts("moongate_redis_up", 1).await;
    assert_eq!(say(&gateway, "s", "b").await.header("x-moongate-session"), None);
    redis.ask(&["CLIENT", "PAUSE", "2000", "ALL"]).await;
    let began = Instant::now();
    let answers = join_all((0..10).map(|_| say(&gateway, "s", "slow"))).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert!(began.elapsed() < Duration::from_millis(1800), "{:?}", began.elapsed());
    gateway.counts("moongate_redis_up", 1).await;
}
