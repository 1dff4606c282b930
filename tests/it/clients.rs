//! The official OpenAI SDKs as clients: plain models, agents, tools of their own, structured output, errors.

use serde_json::json;

use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::chunk;
use crate::support::{FakeMcp, Gateway, ScriptedModel, Setup, Step, programs};

const CONFIG: &str = r#"
server: { unknown_models: reject }
upstreams:
  lm: { base_url: "${LM}" }
  dead: { base_url: "http://127.0.0.1:9/v1" }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
agents:
  - name: Assistant
    model: scripted
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
auth: { keys: [{ id: sdk, key: sdk-key }] }
"#;

/// What the model is asked for by the scenarios in tests/clients, in their order.
async fn stage() -> (ScriptedModel, FakeMcp, Gateway) {
    let weather = || Step::calls([("call_w", "get_weather", r#"{"city":"Paris"}"#)]);
    let sunny = || Step::says("It is sunny.").after_tool("sunny in Paris");
    let model = ScriptedModel::start([
        Step::says("plain words"),
        Step::says("streamed words"),
        weather(),
        sunny(),
        weather(),
        sunny(),
        Step::calls([("call_p", "paint", r#"{"what":"sky"}"#)]),
        Step::says("Painted.").after_tool("blue"),
        Step::says("Paris, and it is sunny.").when("a schema is not asked for beside tools", |r| r.json()["response_format"].is_null()),
        Step::says(r#"{"city":"Paris","sunny":true}"#)
            .when("a schema is asked for", |r| r.json()["response_format"]["type"] == "json_schema"),
        Step::chat(|mut e| async move {
            e.start("text/event-stream").await;
            e.event(&chunk(&json!({ "content": "half" }), None)).await.unwrap();
            e.reset();
        }),
    ])
    .await;
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let gateway = Setup::new(CONFIG).env("LM", model.url()).env("MCP", mcp.url()).start().await;
    (model, mcp, gateway)
}

async fn runs(mut program: tokio::process::Command, n_scenarios: usize) {
    let (_model, _mcp, gateway) = stage().await;
    program.args([gateway.base_url().as_str(), "sdk-key"]);
    let stdout = programs::prints(program).await;
    assert_eq!(stdout.lines().filter(|line| line.ends_with(" ok")).count(), n_scenarios, "{stdout}");
}

/// Python's `openai`, with its strict stream helper.
#[tokio::test]
async fn python() {
    runs(programs::python("tests/clients/openai_client.py"), 9).await;
}

/// npm's `openai`.
#[tokio::test]
async fn javascript() {
    runs(programs::node("tests/clients/openai_client.mjs"), 9).await;
}
