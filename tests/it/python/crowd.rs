//! Many runs at once in one worker: all of them move, and those that are cancelled leave nothing behind.

use std::time::Instant;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{PATIENCE, setup, start};
use crate::support::events::Reader;
use crate::support::process::peak_memory;
use crate::support::scripted_model::chunk;
use crate::support::{Gateway, ScriptedModel, Step, within};

const RUNS: usize = 200;

/// The first text of a stream.
async fn first_text(reader: &mut Reader) -> Value {
    loop {
        let chunk = reader.json().await.expect("a chunk");
        assert!(chunk["error"].is_null(), "{chunk}");
        if let Some(text) = chunk["choices"][0]["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
            return text.into();
        }
    }
}

/// The process of the first worker.
fn worker(gateway: &Gateway) -> u32 {
    let log = gateway.log();
    let ready = log.lines().find(|line| line.contains("Python worker ready")).unwrap();
    serde_json::from_str::<Value>(ready).unwrap()["pid"].as_u64().unwrap().try_into().unwrap()
}

/// The model holds every answer until all runs have their first word, so that all of them are alive at once.
#[tokio::test]
async fn two_hundred_runs() {
    let (open, gate) = watch::channel(false);
    let model = ScriptedModel::start([Step::every_chat(move |mut e| {
        let mut gate = gate.clone();
        async move {
            e.start("text/event-stream").await;
            let _ = e.event(&chunk(&json!({ "content": "first " }), None)).await;
            let _ = gate.wait_for(|open| *open).await;
            for event in [chunk(&json!({ "content": "last" }), None), chunk(&json!({}), Some("stop"))] {
                // Half of the runs are gone.
                let _ = e.event(&event).await;
            }
            let _ = e.send(b"data: [DONE]\n\n").await;
            e.end().await;
        }
    })])
    .await;
    let gateway = start(setup(&model, "", "")).await;
    let began = Instant::now();
    let open_one = async || {
        let mut reader = Reader::new(gateway.chat("Researcher", json!({ "stream": true })).open().await);
        assert_eq!(first_text(&mut reader).await, "first ");
        (began.elapsed(), reader)
    };
    let opened = within(PATIENCE, "the first word of every run", join_all((0..RUNS).map(|_| open_one()))).await;
    let slowest = opened.iter().map(|(took, _)| *took).max().unwrap();
    let (kept, cancelled): (Vec<_>, Vec<_>) = opened.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
    drop(cancelled);
    open.send_replace(true);
    let began = Instant::now();
    let ends = kept.into_iter().map(|(_, (_, mut reader))| async move {
        assert_eq!(first_text(&mut reader).await, "last");
        while reader.json().await.is_some() {}
        began.elapsed()
    });
    let ends = within(PATIENCE, "the end of every run", join_all(ends)).await;
    assert_eq!(ends.len(), RUNS / 2);
    // The worker says once a second what is alive in it.
    gateway.counts("moongate_python_tasks", 0).await;
    assert_eq!(gateway.metric("moongate_python_worker_ends_total").await, 0);
    let peak = peak_memory(worker(&gateway));
    assert!(peak < 400, "{peak} MiB in the worker");
    eprintln!(
        "the worker had {peak} MiB; {RUNS} runs: the slowest first word after {slowest:?}, the slowest end {:?} after the gate",
        ends.iter().max().unwrap()
    );
    gateway.stop().await;
}
