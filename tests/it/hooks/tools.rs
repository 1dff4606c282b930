//! `std.tools` and `std.mcp`: the agent's tools and the servers' own, called by a script; failures are read, and no hook fires.

use serde_json::{Value, json};

use super::world::{script, told};
use crate::support::fake_mcp::{Tool, ToolAnswer};
use crate::support::{FakeMcp, Gateway, ScriptedModel, Setup, Step};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
agents:
  - name: Asker
    model: scripted
    hooks: [scripts/h.lua, scripts/fires.lua]
    tools:
      - { name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }
      - { name: breaks, provider: mcp, mcp_server: weather, mcp_method: broken }
    policies: { POLICIES }
"#;

/// Hooks at the tools' points that no call of a script may reach.
const FIRES: &str = r#"return {
  on_tool_call = function(call, run) assert(run.state.allowed, "a hook fired for a script's call") end,
  on_tool_result = function(result, run) assert(run.state.allowed, "a hook fired for a script's call") end,
}"#;

struct Bench {
    gateway: Gateway,
    mcp: FakeMcp,
    model: ScriptedModel,
}

/// The weather, a tool that fails, and one that the agent does not offer.
fn tools() -> [Tool; 3] {
    let any = || json!({ "type": "object" });
    let broken = Tool::new("broken", any(), |_| async { ToolAnswer::Failed("the sensor is wet".into()) });
    let hidden = Tool::new("hidden", any(), |arguments| async move { ToolAnswer::Text(format!("hidden got {arguments}")) });
    [Tool::weather(), broken, hidden]
}

async fn bench<const N: usize, const M: usize>(policies: &str, body: &str, tools: [Tool; M], steps: [Step; N]) -> Bench {
    let (mcp, model) = (FakeMcp::start(tools).await, ScriptedModel::start(steps).await);
    let setup = Setup::new(&CONFIG.replace("POLICIES", policies)).file("scripts/h.lua", &script(body)).file("scripts/fires.lua", FIRES);
    let gateway = setup.env("LM", model.url()).env("MCP", mcp.url()).start().await;
    Bench { gateway, mcp, model }
}

async fn tells(body: &str) -> (Bench, Vec<Value>) {
    let bench = bench("", body, tools(), []).await;
    let told = told(&bench.gateway.chat("Asker", json!({})).answer().await);
    (bench, told)
}

/// A tool of the agent answers with its text; what it is called with is checked, and what goes wrong is nil and a sentence.
#[tokio::test]
async fn tools_are_called_as_the_model_could() {
    let body = r#"
      local sunny = assert(tools.call("get_weather", { city = "Paris" }))
      local unknown, why_unknown = tools.call("get_wether", { city = "Paris" })
      local misfit, why_misfit = tools.call("get_weather", { city = 7 })
      local bare, why_bare = tools.call "get_weather"
      local broken, why_broken = tools.call("breaks", { x = 1 })
      assert(unknown == nil and misfit == nil and bare == nil and broken == nil)
      return tell(sunny, why_unknown, why_misfit, why_bare, why_broken)"#;
    let (bench, told) = tells(body).await;
    assert_eq!(told[0], "sunny in Paris");
    assert_eq!(told[1], "the agent has no tool `get_wether`; it has: get_weather, breaks");
    for why in &told[2..4] {
        assert!(why.as_str().unwrap().starts_with("invalid arguments: ") && why.as_str().unwrap().contains("city"), "{why}");
    }
    assert!(told[4].as_str().unwrap().contains("the sensor is wet"), "{}", told[4]);
    let calls = bench.mcp.seen().calls;
    assert_eq!(calls, [("current".to_owned(), json!({ "city": "Paris" })), ("broken".to_owned(), json!({ "x": 1 }))]);
}

/// The list is what the model is offered: the agent's names, with the schemas.
#[tokio::test]
async fn tools_are_listed() {
    let (_bench, told) = tells("return tell(table.unpack(tools.list()))").await;
    let names: Vec<&Value> = told.iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["get_weather", "breaks"]);
    assert_eq!(told[0]["parameters"]["required"], json!(["city"]));
}

/// The hooks of the run fire for the model's calls alone, and a script's call is no hop; it counts in `max_tool_calls` with the model's.
#[tokio::test]
async fn calls_fire_no_hooks_and_count() {
    let body = r#"
      if run.hop == 1 then
        assert(tools.call("get_weather", { city = "Paris" }))
        assert(mcp.call("weather", "current", { city = "Rome" }))
        run.state.allowed = true
      else
        prompt.messages[1].content = "hop " .. run.hop .. ": " .. select(2, tools.call("get_weather", { city = "Oslo" }))
      end"#;
    let asks = Step::calls([("a", "get_weather", r#"{"city":"Bern"}"#)]);
    let bench = bench("max_tool_calls: 2", body, tools(), [asks, Step::says("done")]).await;
    assert_eq!(bench.gateway.chat("Asker", json!({})).answer().await.content(), "done");
    let last = bench.model.request(2).await.json();
    assert_eq!(last["messages"][0]["content"], "hop 2: not executed: the limit of tool calls is reached");
    let cities: Vec<Value> = bench.mcp.seen().calls.into_iter().map(|(_, arguments)| arguments["city"].clone()).collect();
    assert_eq!(cities, ["Paris", "Rome", "Bern"]);
}

/// `std.mcp` calls tools by the server's own names, also those that the agent does not offer.
#[tokio::test]
async fn mcp_calls_the_servers_own_tools() {
    let body = r#"
      local function why(...) local text, why = mcp.call(...) assert(text == nil) return why end
      return tell(
        assert(mcp.call("weather", "hidden", { x = json.array {} })),
        assert(mcp.call("weather", "hidden")),
        why("wether", "hidden"),
        why("weather", "get_weather"),
        why("weather", "broken"))"#;
    let (_bench, told) = tells(body).await;
    assert_eq!(told[..3], ["hidden got {\"x\":[]}", "hidden got {}", "there is no MCP server `wether`; the configuration has: weather"]);
    assert!(told[3].as_str().unwrap().contains("get_weather"), "{}", told[3]);
    assert!(told[4].as_str().unwrap().contains("the sensor is wet"), "{}", told[4]);
}

/// A tool that does not answer is left after the agent's `tool_timeout`, and its server told.
#[tokio::test]
async fn a_silent_tool_is_left() {
    let body = r#"
      local text, why = tools.call("get_weather", {})
      local other, why_other = mcp.call("weather", "current")
      return tell(text, why, other, why_other)"#;
    let silent = Tool::new("current", json!({ "type": "object" }), |_| std::future::pending());
    let broken = Tool::new("broken", json!({ "type": "object" }), |_| std::future::pending());
    let bench = bench("tool_timeout: 200ms", body, [silent, broken], []).await;
    let why = json!("timed out after 0.2 s");
    assert_eq!(told(&bench.gateway.chat("Asker", json!({})).answer().await), [Value::Null, why.clone(), Value::Null, why]);
    bench.mcp.until("both cancellations", |seen| seen.n_cancelled >= 2).await;
}
