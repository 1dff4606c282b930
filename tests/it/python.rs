//! Python agents and tools through the gateway: real workers, a scripted model, and code that misbehaves.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gateway, ScriptedModel, Setup, Step, programs, within};

/// `AGENTS` and `PYTHON` stand for more agents and settings.
const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
python: { venv: "${VENV}" PYTHON }
agents:
  - { name: Researcher, kind: sdk, module: "agents.researcher:build_agent", model: scripted }
AGENTS
"#;

/// A worker on a machine that compiles beside the tests takes its time until the SDK is imported.
const PATIENCE: u64 = 60;

fn setup(model: &ScriptedModel, agents: &str, code: &str) -> Setup {
    let venv = programs::file(".venv/bin/python").parent().unwrap().parent().unwrap().to_owned();
    let researcher = std::fs::read_to_string(programs::file("agents/researcher.py")).unwrap();
    Setup::new(&CONFIG.replace("AGENTS", agents).replace("PYTHON", ", workers: 1"))
        .file("agents/researcher.py", &researcher)
        .file("agents/more.py", code)
        .env("LM", model.url())
        .env("VENV", venv.to_string_lossy())
}

/// The gateway, once its worker has imported everything.
async fn start(setup: Setup) -> Gateway {
    let gateway = setup.start().await;
    within(PATIENCE, "the Python worker", gateway.logged("Python worker ready")).await;
    gateway
}

/// An agent with a tool, as `more`.
const TOOLS: &str = r#"
  - name: more
    model: scripted
    tools: [{ name: TOOL, provider: python, function: "agents.more:TOOL" }]
    policies: { tool_timeout: 50s }
"#;

/// The specification's agent: two tools of its own, a handoff, and every model call through the gateway.
#[tokio::test]
async fn the_researcher_runs() {
    let search = || Step::calls([("c1", "search_library", r#"{"query": "moon landing"}"#)]);
    let hand_over = || Step::calls([("c2", "transfer_to_writer", "{}")]);
    let answer = || Step::says("It landed in 1969.");
    let model = ScriptedModel::start([search(), hand_over(), answer(), search(), hand_over(), answer()]).await;
    let gateway = start(setup(&model, "", "")).await;
    let whole = gateway.chat("Researcher", json!({})).answer().await;
    assert_eq!(whole.content(), "It landed in 1969.", "{}", whole.text());
    let usage = &whole.json()["usage"];
    assert!(usage["total_tokens"].as_u64().unwrap() > 0, "{usage}");
    let streamed = gateway.chat("Researcher", json!({ "stream": true })).stream().await;
    streamed.assert_well_formed("Researcher");
    assert_eq!((streamed.text().as_str(), streamed.finish().as_str()), ("It landed in 1969.", "stop"));
    let first = model.request(1).await.json();
    assert_eq!((&first["model"], &first["messages"][0]["role"]), (&json!("scripted"), &json!("system")));
    let names: Vec<&Value> = first["tools"].as_array().unwrap().iter().map(|tool| &tool["function"]["name"]).collect();
    assert_eq!(names, ["search_library", "read_article", "transfer_to_writer"]);
    gateway.stop().await;
}

/// A function is a tool of a declared agent: its schema from the type hints, its exception a result that the model reads.
#[tokio::test]
async fn a_function_is_a_tool() {
    let code = r#"
def add(a: int, b: int) -> int:
    """Adds two numbers.

    Args:
        a: One.
        b: The other.
    """
    if b < 0:
        raise ValueError("b is negative")
    return a + b
"#;
    let model = ScriptedModel::start([
        Step::calls([("c1", "add", r#"{"a": 2, "b": 3}"#), ("c2", "add", r#"{"a": 2, "b": -1}"#)]),
        Step::says("done"),
    ])
    .await;
    let gateway = start(setup(&model, &TOOLS.replace("TOOL", "add"), code)).await;
    assert_eq!(gateway.chat("more", json!({})).answer().await.content(), "done");
    let tool = &model.request(1).await.json()["tools"][0]["function"];
    assert_eq!((&tool["description"], &tool["parameters"]["required"]), (&json!("Adds two numbers."), &json!(["a", "b"])));
    let messages = model.request(2).await.json()["messages"].clone();
    let told = messages.as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    assert!(told.contains("b is negative"), "{told}");
    gateway.stop().await;
}

/// Whatever a function does to its process, the model reads that the call failed, the run goes on, and the next call works.
#[tokio::test]
async fn a_worker_that_dies_costs_its_calls_alone() {
    let code = r#"
import os, signal, sys

def die(how: str) -> str:
    """Dies."""
    print("noise on standard output", flush=True)
    if how == "abort":
        os.abort()
    if how == "exit":
        os._exit(1)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"
"#;
    let call = |arguments| Step::calls([("c1", "die", arguments)]);
    let done = || Step::says("done");
    let model = ScriptedModel::start([
        call(r#"{"how": "abort"}"#),
        done(),
        call(r#"{"how": "exit"}"#),
        done(),
        call(r#"{"how": "kill"}"#),
        done(),
        call(r#"{"how": "live"}"#),
        done(),
    ])
    .await;
    let gateway = start(setup(&model, &TOOLS.replace("TOOL", "die"), code)).await;
    for (i, told) in ["SIGABRT", "code 1", "SIGKILL", "alive"].into_iter().enumerate() {
        let answer = within(PATIENCE, told, gateway.chat("more", json!({})).answer()).await;
        assert_eq!(answer.content(), "done", "{told}: {}", answer.text());
        let messages = model.request(2 * i + 2).await.json()["messages"].clone();
        let content = messages.as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
        assert!(content.contains(told), "{content}");
    }
    assert!(gateway.log().contains("noise on standard output"));
    gateway.stop().await;
}

/// Code that cannot be imported: the agent says where, `check` exits 1, and the others serve.
#[tokio::test]
async fn broken_code_degrades_its_agent_alone() {
    let model = ScriptedModel::start([Step::says("fine")]).await;
    let agents = r#"  - { name: broken, kind: sdk, module: "agents.more:build_agent", model: scripted }"#;
    let gateway = start(setup(&model, agents, "\n\nimport no_such_module\n")).await;
    gateway.chat("broken", json!({})).answer().await.assert_error(503, "agent_unavailable");
    let about = gateway.get("/agents/broken").answer().await.text();
    assert!(about.contains("agents/more.py:3") && about.contains("no_such_module"), "{about}");
    assert_eq!(gateway.chat("Researcher", json!({})).answer().await.content(), "fine");
    gateway.stop().await;
}

/// A saved module serves the next run; one that cannot be imported is refused, and the old one serves on.
#[tokio::test]
async fn saved_code_is_live() {
    let code = |word: &str| format!("class Echo:\n    async def run(self, messages, context):\n        return {word:?}\n");
    let model = ScriptedModel::start([]).await;
    let agents = r#"  - { name: echo, kind: sdk, module: "agents.more:Echo", model: scripted }"#;
    let gateway = start(setup(&model, agents, &code("one"))).await;
    let says = async || gateway.chat("echo", json!({})).answer().await.content();
    assert_eq!(says().await, "one");
    gateway.write("agents/more.py", &code("two"));
    within(PATIENCE, "the new code", async {
        while says().await != "two" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    gateway.write("agents/more.py", "class Echo(\n");
    within(PATIENCE, "the refusal", gateway.logged("works now and would not")).await;
    assert_eq!(says().await, "two");
    gateway.stop().await;
}
