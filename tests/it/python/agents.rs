//! Code-defined agents: the specification's, and what the gateway does for every one.

use serde_json::{Value, json};

use super::{official_client, setup, start, told};
use crate::support::events::Reader;
use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::{chunk, reply, spoken};
use crate::support::{FakeMcp, ScriptedModel, Step, within};

/// The specification's agent: two tools of its own, a handoff, and every model call through the gateway.
#[tokio::test]
async fn the_researcher_runs() {
    let search = || Step::calls([("c1", "search_library", r#"{"query": "moon landing"}"#)]);
    let hand_over = || Step::calls([("c2", "transfer_to_writer", "{}")]);
    let answer = || Step::says("It landed in 1969.");
    let once = || [search(), hand_over(), answer()];
    let [a, b, c] = once();
    let [d, e, f] = once();
    let [g, h, i] = once();
    let [j, k, l] = once();
    let model = ScriptedModel::start([a, b, c, d, e, f, g, h, i, j, k, l]).await;
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
    let printed = official_client(&gateway, &["Researcher", "When did it land?", "It landed in 1969."]).await;
    assert_eq!(printed, "Researcher whole ok\nResearcher streamed ok\n");
    gateway.stop().await;
}

/// What a server garbles is mended before the SDK reads it, and its failures are the run's.
#[tokio::test]
async fn a_bad_server_is_mended_for_the_sdk() {
    let garbled = || {
        let call = |query: &str| {
            let function = json!({ "name": "search_library", "arguments": { "query": query } });
            json!({ "tool_calls": [{ "index": 0, "id": "", "function": function }] })
        };
        let deltas = vec![json!({ "content": "<think>hm" }), json!({ "content": "</think>" }), call("moon"), call("landing")];
        Step::chat(move |e| reply(e, deltas, "stop"))
    };
    let answer = || Step::chat(|e| reply(e, vec![json!({ "content": "<think>so</think>It " }), json!({ "content": "landed." })], "eos"));
    let crash = || Step::json(200, json!({ "error": "model crashed" }));
    let model = ScriptedModel::start([garbled(), answer(), garbled(), answer(), crash(), crash()]).await;
    let gateway = start(setup(&model, "", "")).await;
    let whole = gateway.chat("Researcher", json!({})).answer().await;
    assert_eq!(whole.content(), "It landed.", "{}", whole.text());
    assert_eq!(told(&*model.request(2).await).len(), 2, "two calls, two results");
    let streamed = gateway.chat("Researcher", json!({ "stream": true })).stream().await;
    streamed.assert_well_formed("Researcher");
    assert_eq!((streamed.text().as_str(), streamed.finish().as_str()), ("It landed.", "stop"));
    assert_eq!(told(&*model.request(4).await).len(), 2);
    for stream in [false, true] {
        gateway.chat("Researcher", json!({ "stream": stream })).answer().await.assert_error(502, "upstream_error");
    }
    gateway.stop().await;
}

/// An SDK agent with a tool of its own, one of the gateway, hooks, and a context that its code can read.
const HOOKED: &str = r#"
  - name: hooked
    kind: sdk
    module: "agents.more:build_agent"
    model: scripted
    instructions: Be brief.
    hooks: [scripts/h.lua]
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
"#;

const HOOKED_CODE: &str = r#"
from agents import Agent, RunContextWrapper, function_tool

@function_tool
def whose(wrapper: RunContextWrapper, thing: str) -> str:
    """Tells whose thing this is."""
    return f"{thing} of {wrapper.context.agent} for {wrapper.context.user}"

def build_agent():
    return Agent(name="Hooked", instructions="From the code.", tools=[whose])
"#;

/// The hooks fire for the code's own tools and for the gateway's, for each model call and for the reply.
#[tokio::test]
async fn hooks_fire() {
    let script = r#"return {
      pre_prompt = function(prompt, run) table.insert(prompt.messages, { role = "system", content = "Hop " .. run.hop .. "." }) end,
      on_tool_call = function(call, run)
        if call.arguments.thing == "secret" then return run:reject("not that one") end
        if call.arguments.thing then call.arguments.thing = call.arguments.thing:upper() end
      end,
      on_tool_result = function(result, run) result.content = result.content .. "!" end,
      post_response = function(reply, run) reply.content = reply.content .. " (" .. run.usage.total_tokens .. ")" end,
    }"#;
    let calls =
        [("a", "whose", r#"{"thing": "hat"}"#), ("b", "whose", r#"{"thing": "secret"}"#), ("c", "get_weather", r#"{"city": "Paris"}"#)];
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::calls(calls), Step::says("done")]).await;
    let setup = setup(&model, HOOKED, HOOKED_CODE).file("scripts/h.lua", script).env("MCP", mcp.url());
    let gateway = start(setup).await;
    assert_eq!(gateway.chat("hooked", json!({ "user": "ada" })).answer().await.content(), "done (30)");
    let first = model.request(1).await.json();
    let systems: Vec<&str> =
        first["messages"].as_array().unwrap().iter().filter(|m| m["role"] == "system").map(|m| m["content"].as_str().unwrap()).collect();
    let systems = systems.join(" ");
    assert!(["Be brief.", "From the code.", "Hop "].iter().all(|words| systems.contains(words)), "{systems}");
    let names: Vec<&Value> = first["tools"].as_array().unwrap().iter().map(|tool| &tool["function"]["name"]).collect();
    assert_eq!(names, ["whose", "get_weather"]);
    assert_eq!(told(&*model.request(2).await), ["HAT of hooked for ada!", "not that one", "sunny in Paris!"]);
    gateway.stop().await;
}

/// The code's own tools and the gateway's show in a chat client alike.
#[tokio::test]
async fn tools_are_shown() {
    let calls = [("a", "whose", r#"{"thing": "hat"}"#), ("b", "get_weather", r#"{"city": "Paris"}"#)];
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::calls(calls), Step::says("done")]).await;
    let gateway = start(setup(&model, HOOKED, HOOKED_CODE).file("scripts/h.lua", "return {}").env("MCP", mcp.url())).await;
    let streamed = gateway.chat("hooked", json!({ "stream": true })).header("x-moongate-progress", "openwebui").stream().await;
    streamed.assert_well_formed("hooked");
    let text = streamed.text();
    for (id, name, result) in [("a", "whose", "hat of hooked"), ("b", "get_weather", "sunny in Paris")] {
        assert!(text.contains(&format!(r#"id="{id}" name="{name}""#)) && text.contains(result), "{text}");
    }
    assert!(text.ends_with("</details>\ndone"), "{text}");
    gateway.stop().await;
}

/// Over the Responses API its tools are items, and the next turn goes on by the response's id: the code reads what they said.
#[tokio::test]
async fn responses_go_on() {
    let calls = [("a", "whose", r#"{"thing": "hat"}"#), ("b", "get_weather", r#"{"city": "Paris"}"#)];
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::calls(calls), Step::says("done"), Step::says("again")]).await;
    let gateway = start(setup(&model, HOOKED, HOOKED_CODE).file("scripts/h.lua", "return {}").env("MCP", mcp.url())).await;
    let ask = |more: Value| gateway.post("/v1/responses").json(&more).answer();
    let first = ask(json!({ "model": "hooked", "input": "hello", "user": "ada" })).await.json();
    let outputs: Vec<&Value> = first["output"].as_array().unwrap().iter().map(|item| &item["output"]).collect();
    assert_eq!(outputs, [&json!("hat of hooked for ada"), &json!("sunny in Paris"), &Value::Null], "{first}");
    let second = ask(json!({ "model": "hooked", "input": "and now?", "previous_response_id": first["id"] })).await.json();
    assert_eq!(second["output"][0]["content"][0]["text"], "again", "{second}");
    let sent = model.request(3).await.json();
    let roles: Vec<&Value> = sent["messages"].as_array().unwrap().iter().map(|message| &message["role"]).collect();
    assert_eq!(roles[roles.len() - 7..], ["user", "assistant", "tool", "assistant", "tool", "assistant", "user"], "{sent}");
    gateway.stop().await;
}

/// `max_tool_hops`, a guardrail's tripwire, a schema for the output: each ends as its form for declared agents.
#[tokio::test]
async fn limits_guardrails_and_schemas_hold() {
    let code = r#"
from pydantic import BaseModel
from agents import Agent, GuardrailFunctionOutput, function_tool, input_guardrail

@function_tool
def again() -> str:
    """Has to be called again."""
    return "once more"

class City(BaseModel):
    name: str
    people: int

@input_guardrail
async def polite(context, agent, given):
    return GuardrailFunctionOutput(output_info=None, tripwire_triggered="rude" in str(given))

def build_agent():
    return Agent(name="Looping", tools=[again], input_guardrails=[polite])

city = Agent(name="City", output_type=City)
"#;
    let agents = r#"
  - { name: looping, kind: sdk, module: "agents.more:build_agent", model: scripted, policies: { max_tool_hops: 1, on_limit: error } }
  - { name: answering, kind: sdk, module: "agents.more:build_agent", model: scripted, policies: { max_tool_hops: 1, on_limit: answer } }
  - { name: city, kind: sdk, module: "agents.more:city", model: scripted }
"#;
    let again = || Step::calls([("a", "again", "{}")]);
    let model = ScriptedModel::start([
        again(),
        again(),
        again(),
        Step::says("enough").when("no tools are offered", |r| r.json().get("tools").is_none()),
        Step::says(r#"{"name": "Paris", "people": 2000000}"#)
            .when("a schema is asked for", |r| r.json()["response_format"]["type"] == "json_schema"),
        // Guardrails run beside the model, which may have been asked already.
        Step::every_chat(|e| reply(e, spoken("too late"), "stop")),
    ])
    .await;
    let gateway = start(setup(&model, agents, code)).await;
    gateway.chat("looping", json!({})).answer().await.assert_error(500, "max_turns_exceeded");
    assert_eq!(gateway.chat("answering", json!({})).answer().await.content(), "enough");
    let city = gateway.chat("city", json!({})).answer().await.content();
    assert_eq!(serde_json::from_str::<Value>(&city).unwrap(), json!({ "name": "Paris", "people": 2000000 }));
    let rude = json!({ "messages": [{ "role": "user", "content": "rude words" }] });
    let refused = gateway.chat("looping", rude).answer().await.assert_error(403, "request_rejected");
    assert!(refused["message"].as_str().unwrap().contains("polite"), "{refused}");
    gateway.stop().await;
}

/// A client that leaves ends the run in its worker, and closes the connection to the model.
#[tokio::test]
async fn a_client_that_leaves_ends_the_run() {
    let (tell, gone) = tokio::sync::oneshot::channel();
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        e.event(&chunk(&json!({ "content": "Well, " }), None)).await.unwrap();
        tell.send(e.client_gone().await).unwrap();
    })])
    .await;
    let gateway = start(setup(&model, "", "")).await;
    let mut reader = Reader::new(gateway.chat("Researcher", json!({ "stream": true })).open().await);
    within(30, "the first word", reader.json()).await.unwrap();
    drop(reader);
    within(5, "the end at the model", gone).await.unwrap();
    gateway.stop().await;
}
