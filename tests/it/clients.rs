//! The official OpenAI SDKs as clients: plain models, agents, tools of their own, structured output, errors; over both of OpenAI's APIs.

use serde_json::json;

use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::{asked, chunk, reply, spoken};
use crate::support::{FakeMcp, Gateway, ScriptedModel, Setup, Step, programs};

const CONFIG: &str = r#"
server: { unknown_models: reject }
upstreams:
  lm: { base_url: "${LM}" }
  dead: { base_url: "http://127.0.0.1:9/v1" }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
agents:
  - { name: Dead, upstream: dead, model: x }
  - name: Assistant
    upstream: lm
    model: scripted
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
auth: { keys: [{ id: sdk, key: sdk-key }] }
"#;

struct Stage {
    model: ScriptedModel,
    _mcp: FakeMcp,
    gateway: Gateway,
}

impl Stage {
    async fn new<const N: usize>(steps: [Step; N]) -> Stage {
        let model = ScriptedModel::start(steps).await;
        let mcp = FakeMcp::start([Tool::weather()]).await;
        let gateway = Setup::new(CONFIG).env("LM", model.url()).env("MCP", mcp.url()).start().await;
        mcp.until("the gateway knows the tools", |seen| seen.requests.iter().any(|r| r.json()["method"] == "tools/list")).await;
        Stage { model, _mcp: mcp, gateway }
    }

    /// Runs a client to its end; every scenario prints that it went well.
    async fn runs(&self, mut program: tokio::process::Command, n_scenarios: usize) {
        program.args([self.gateway.base_url().as_str(), "sdk-key"]);
        let stdout = programs::prints(program).await;
        assert_eq!(stdout.lines().filter(|line| line.ends_with(" ok")).count(), n_scenarios, "{stdout}");
    }
}

fn weather() -> Step {
    Step::calls([("call_w", "get_weather", r#"{"city":"Paris"}"#)])
}

fn sunny() -> Step {
    Step::says("It is sunny.").after_tool("sunny in Paris")
}

fn painting() -> Step {
    Step::calls([("call_p", "paint", r#"{"what":"sky"}"#)])
}

/// One turn asks for the gateway's tool and the client's.
fn both() -> Step {
    Step::calls([("call_w", "get_weather", r#"{"city":"Paris"}"#), ("call_p", "paint", r#"{"what":"sky"}"#)])
}

/// The result of the client's tool comes back; what the gateway's said is there, too.
fn painted() -> Step {
    Step::says("Painted.").after_tool("blue")
}

/// The same after a turn of both.
fn both_painted() -> Step {
    painted().when("the gateway's result is there", |r| r.mentions("sunny in Paris"))
}

/// Beside tools the schema stays away, and what does not fit it is asked for again.
fn rambling() -> Step {
    Step::says("Paris, and it is sunny.").when("a schema is not asked for beside tools", |r| r.json()["response_format"].is_null())
}

fn structured() -> Step {
    Step::says(r#"{"city":"Paris","sunny":true}"#).when("a schema is asked for", |r| r.json()["response_format"]["type"] == "json_schema")
}

fn breaking() -> Step {
    Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        e.event(&chunk(&json!({ "content": "half" }), None)).await.unwrap();
        e.reset();
    })
}

/// What the model is asked for by the scenarios in tests/clients/openai_client, in their order.
async fn chats() -> Stage {
    Stage::new([
        Step::says("plain words"),
        Step::says("streamed words"),
        weather(),
        sunny(),
        weather(),
        sunny(),
        painting(),
        painted(),
        rambling(),
        structured(),
        breaking(),
    ])
    .await
}

/// The same for responses_client.
async fn responses() -> Stage {
    let mut thought = vec![json!({ "reasoning_content": "hmm" })];
    thought.extend(asked(&[("call_w", "get_weather", r#"{"city":"Paris"}"#)]));
    Stage::new([
        weather(),
        sunny(),
        weather(),
        sunny(),
        Step::chat(|e| reply(e, thought, "tool_calls")),
        sunny(),
        painting(),
        painted(),
        both(),
        both_painted(),
        rambling(),
        structured(),
        rambling(),
        structured(),
        Step::says("First."),
        Step::says("Second.").when("the first turn is there", |r| r.mentions("First.")),
        Step::chat(|e| reply(e, spoken("too lo"), "length")),
        breaking(),
    ])
    .await
}

/// Python's `openai`, with its strict stream helper.
#[tokio::test]
async fn python() {
    chats().await.runs(programs::python("tests/clients/openai_client.py"), 9).await;
}

/// npm's `openai`.
#[tokio::test]
async fn javascript() {
    chats().await.runs(programs::node("tests/clients/openai_client.mjs"), 9).await;
}

/// Python's `openai` over the Responses API: its types, its stream helper, its parser.
#[tokio::test]
async fn python_responses() {
    responses().await.runs(programs::python("tests/clients/responses_client.py"), 11).await;
}

/// npm's `openai` over the Responses API.
#[tokio::test]
async fn javascript_responses() {
    responses().await.runs(programs::node("tests/clients/responses_client.mjs"), 11).await;
}

/// The Agents SDK as a client, with a tool of its own, over both APIs: the gateway's agent is its model.
#[tokio::test]
async fn agents_sdk() {
    let second = || Step::says("Second.").when("the first turn is there", |r| r.mentions("First.") || r.mentions("Painted."));
    let stage = Stage::new([
        // Over responses, where the last scenario goes on by an id ...
        weather(),
        sunny(),
        weather(),
        sunny(),
        both(),
        both_painted(),
        both(),
        both_painted(),
        rambling(),
        structured(),
        Step::says("First."),
        second(),
        painting(),
        painted(),
        second(),
        // ... and over chats.
        weather(),
        sunny(),
        weather(),
        sunny(),
        both(),
        both_painted(),
        both(),
        both_painted(),
        rambling(),
        structured(),
        Step::says("First."),
        second(),
    ])
    .await;
    stage.runs(programs::python("tests/clients/agents_client.py"), 13).await;
    let instructed = |r: &crate::support::exchange::Received| r.json()["messages"][0] == json!({ "role": "system", "content": "Be kind." });
    assert!(stage.model.requests().iter().all(|r| instructed(r)), "the client's instructions reach the model");
}
