//! Python agents and tools through the gateway: real workers, a scripted model, and code that misbehaves.

mod agents;
mod bad_code;
mod crowd;
mod examples;
mod faults;
mod functions;
mod sandbox;
mod saving;
mod worker_itself;

use crate::support::exchange::Received;
use crate::support::{Gateway, ScriptedModel, Setup, programs, within};

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

/// One worker, more agents, and their code as `agents/more.py`.
fn setup(model: &ScriptedModel, agents: &str, code: &str) -> Setup {
    setup_with(model, "workers: 1", agents, code)
}

/// As `setup`, with other settings.
fn setup_with(model: &ScriptedModel, python: &str, agents: &str, code: &str) -> Setup {
    let researcher = std::fs::read_to_string(programs::file("agents/researcher.py")).unwrap();
    Setup::new(&CONFIG.replace("AGENTS", agents).replace("PYTHON", &format!(", {python}")))
        .file("agents/researcher.py", &researcher)
        .file("agents/more.py", code)
        .env("LM", model.url())
        .env("VENV", programs::venv().to_string_lossy())
}

/// The gateway, once its worker has imported everything.
async fn start(setup: Setup) -> Gateway {
    let gateway = setup.start().await;
    within(PATIENCE, "the Python worker", gateway.logged("Python worker ready")).await;
    gateway
}

/// Asks through the official client, whole and streamed; returns what it printed.
async fn official_client(gateway: &Gateway, arguments: &[&str]) -> String {
    let mut client = programs::python("tests/clients/sdk_agents.py");
    client.arg(gateway.base_url()).args(arguments);
    programs::prints(client).await
}

/// A declared agent `more` with this function of `agents/more.py` as its tool.
fn with_function(name: &str, tool_timeout: &str) -> String {
    format!(
        r#"
  - name: more
    model: scripted
    tools: [{{ name: {name}, provider: python, function: "agents.more:{name}" }}]
    policies: {{ tool_timeout: {tool_timeout} }}
"#
    )
}

/// The results of tools that a request to the model carries, in their order.
fn told(request: &Received) -> Vec<String> {
    let messages = request.json()["messages"].as_array().unwrap().clone();
    let results = messages.iter().filter(|message| message["role"] == "tool");
    results.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}
