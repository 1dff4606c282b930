//! Code that harms its process: the calls on that worker fail and say why, everything else goes on, and the next call works.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{PATIENCE, setup, setup_with, start, told, with_function};
use crate::support::events::Reader;
use crate::support::{Gateway, ScriptedModel, Step, within};

/// A function and an object that do what they are told.
const CODE: &str = r#"
import asyncio, os, signal, sys, threading, time


def harm(how: str) -> str:
    """Harms its process."""
    print("noise on standard output", flush=True)
    sys.stdout.write("{" * 10_000)
    sys.__stdout__.flush()
    if how == "abort":
        os.abort()
    if how == "exit":
        os._exit(1)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "spin":
        while True:
            pass
    if how == "deadlock":
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    if how == "memory":
        return str(len(bytearray(2 << 30)))
    return "alive"


class Harm:
    async def stream(self, messages, context):
        if messages[-1]["content"] == "wait":
            yield str(os.getpid())
            while not os.path.exists("go"):
                await asyncio.sleep(0.05)
            yield "went"
            return
        yield harm(messages[-1]["content"])
"#;

const AGENT: &str = r#"  - { name: harm, kind: sdk, module: "agents.more:Harm", model: scripted }"#;

fn asks(gateway: &Gateway, content: &str, more: Value) -> crate::support::Request {
    let mut body = json!({ "messages": [{ "role": "user", "content": content }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    gateway.chat("harm", body)
}

/// A run that waits for the file `go` in a worker: the worker's process, and the rest of the stream.
async fn waits(gateway: &Gateway) -> (Pid, Reader) {
    let mut reader = Reader::new(asks(gateway, "wait", json!({ "stream": true })).open().await);
    loop {
        let event = reader.json().await.expect("its first word");
        if let Some(Ok(pid)) = event["choices"][0]["delta"]["content"].as_str().map(str::parse) {
            return (Pid::from_raw(pid), reader);
        }
    }
}

/// A function may do anything to its process: the model reads that the call failed, the run goes on, and the next call works.
#[tokio::test]
async fn a_function_costs_its_calls_alone() {
    let call = |arguments| Step::calls([("c1", "harm", arguments)]);
    let done = || Step::says("done");
    let model = ScriptedModel::start([
        call(r#"{"how": "abort"}"#),
        done(),
        call(r#"{"how": "exit"}"#),
        done(),
        call(r#"{"how": "kill"}"#),
        done(),
        call(r#"{"how": "memory"}"#),
        done(),
        call(r#"{"how": "live"}"#),
        done(),
    ])
    .await;
    let gateway = start(setup(&model, &with_function("harm", "50s"), CODE)).await;
    for (i, words) in ["SIGABRT", "code 1", "SIGKILL", "MemoryError", "alive"].into_iter().enumerate() {
        let answer = within(PATIENCE, words, gateway.chat("more", json!({})).answer()).await;
        assert_eq!(answer.content(), "done", "{words}: {}", answer.text());
        let told = told(&*model.request(2 * i + 2).await);
        assert!(told[0].contains(words), "{told:?}");
    }
    gateway.logged("noise on standard output").await;
    gateway.stop().await;
}

/// A function that never ends is given up at its deadline, and its thread holds up nobody else.
#[tokio::test]
async fn a_function_that_never_ends_is_given_up() {
    for how in ["spin", "deadlock"] {
        let arguments: &'static str = if how == "spin" { r#"{"how": "spin"}"# } else { r#"{"how": "deadlock"}"# };
        let call = |arguments| Step::calls([("c1", "harm", arguments)]);
        let model = ScriptedModel::start([
            call(arguments),
            Step::says("done"),
            call(r#"{"how": "live"}"#),
            Step::says("done"),
            Step::says("plain"),
        ])
        .await;
        let gateway = start(setup(&model, &with_function("harm", "2s"), CODE)).await;
        let began = Instant::now();
        assert_eq!(gateway.chat("more", json!({})).answer().await.content(), "done");
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(4), "{how} took {took:?}");
        let first = told(&*model.request(2).await);
        assert!(first[0].contains("timed out after 2 s"), "{first:?}");
        assert_eq!(gateway.chat("more", json!({})).answer().await.content(), "done");
        assert_eq!(told(&*model.request(4).await), ["alive"]);
        assert_eq!(gateway.chat("scripted", json!({})).answer().await.content(), "plain");
        gateway.stop().await;
    }
}

/// The same in an agent: its run fails with an error that says so, and the next one works.
#[tokio::test]
async fn an_agent_costs_its_runs_alone() {
    let model = ScriptedModel::start([]).await;
    let gateway = start(setup(&model, AGENT, CODE)).await;
    for (how, logged) in [
        ("abort", "SIGABRT"),
        ("exit", "code 1"),
        ("kill", "SIGKILL"),
        ("memory", "MemoryError"),
        ("spin", "held the event loop"),
        ("deadlock", "held the event loop"),
    ] {
        let error = within(PATIENCE, how, asks(&gateway, how, json!({})).answer()).await.assert_error(500, "agent_error");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("'harm'") && !message.contains(logged), "{how}: {message}");
        gateway.logged(logged).await;
        let answer = within(PATIENCE, how, asks(&gateway, "live", json!({})).answer()).await;
        assert_eq!(answer.content(), "alive", "after {how}");
    }
    gateway.stop().await;
}

/// A worker that is killed from outside takes its own calls with it; a call on the other one goes on.
#[tokio::test]
async fn a_killed_worker_is_replaced() {
    let model = ScriptedModel::start([]).await;
    let gateway = start(setup_with(&model, "workers: 2", AGENT, CODE)).await;
    let (killed, mut first) = waits(&gateway).await;
    let mut second = within(PATIENCE, "a run on the other worker", async {
        loop {
            // The second worker may not be there yet.
            let (pid, reader) = waits(&gateway).await;
            if pid != killed {
                return reader;
            }
        }
    })
    .await;
    kill(killed, Signal::SIGKILL).unwrap();
    let event = within(PATIENCE, "the error", first.json()).await.expect("an error event");
    assert_eq!(event["error"]["code"], "agent_error", "{event}");
    gateway.logged("SIGKILL").await;
    gateway.write("go", "");
    within(PATIENCE, "the other run's last word", async {
        while second.json().await.expect("a chunk")["choices"][0]["delta"]["content"] != "went" {}
    })
    .await;
    assert_eq!(within(PATIENCE, "a new worker", asks(&gateway, "live", json!({})).answer()).await.content(), "alive");
    gateway.stop().await;
}
