//! Lua hooks as a client and the servers behind see them: what they may change and what they may decide.

mod aliases;
mod bad_scripts;
mod http;
mod models;
mod points;
mod saving;
mod sharing;
mod tools;
mod world;

use serde_json::{Value, json};

use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::chunk;
use crate::support::{Answer, FakeMcp, Gateway, ScriptedModel, Setup, Step};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
mcp_servers: { weather: { transport: http, url: "${MCP}" } }
agents:
  - name: Assistant
    model: scripted
    instructions: Be brief.
    hooks: [HOOKS]
    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]
  - { name: Plain, model: scripted }
"#;

struct Stage<const N: usize> {
    model: ScriptedModel,
    mcp: FakeMcp,
    gateway: Gateway,
}

impl<const N: usize> Stage<N> {
    async fn new(hooks: &str, script: &str, steps: [Step; N]) -> Self {
        let mcp = FakeMcp::start([Tool::weather()]).await;
        let model = ScriptedModel::start(steps).await;
        let setup = Setup::new(&CONFIG.replace("HOOKS", hooks)).file("scripts/h.lua", script);
        let gateway = setup.env("LM", model.url()).env("MCP", mcp.url()).start().await;
        Stage { model, mcp, gateway }
    }

    async fn ask(&self, more: Value) -> Answer {
        self.gateway.chat("Assistant", more).answer().await
    }
}

async fn stage<const N: usize>(script: &str, steps: [Step; N]) -> Stage<N> {
    Stage::new("scripts/h.lua", script, steps).await
}

fn asks() -> Step {
    Step::calls([("a", "get_weather", r#"{"city":"Paris"}"#)])
}

/// `pre_prompt` changes what the model reads, for this call only: the next call begins from the original again.
#[tokio::test]
async fn pre_prompt_changes_one_call() {
    let script = r#"
return {
  pre_prompt = function(prompt, run)
    prompt.messages[1].content = "hop " .. run.hop
    prompt.temperature = 0.5
    table.insert(prompt.messages, { role = "system", content = "extra " .. run.hop })
  end,
}"#;
    let stage = stage(script, [asks(), Step::says("done")]).await;
    assert_eq!(stage.ask(json!({})).await.content(), "done");
    for hop in [1, 2] {
        let sent = stage.model.request(hop).await.json();
        let messages = sent["messages"].as_array().unwrap();
        assert_eq!(messages[0]["content"], format!("hop {hop}"));
        let extras = messages.iter().filter(|m| m["content"].as_str().is_some_and(|text| text.starts_with("extra"))).count();
        assert_eq!(extras, 1, "what was added for hop 1 is gone in hop 2");
        assert_eq!(sent["temperature"], 0.5);
    }
}

/// `pre_prompt` answers in the model's place.
#[tokio::test]
async fn pre_prompt_answers() {
    let script = r#"return { pre_prompt = function(prompt, run) return run:answer("from the cache") end }"#;
    let stage = stage(script, []).await;
    assert_eq!(stage.ask(json!({})).await.content(), "from the cache");
    let said = stage.gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    said.assert_well_formed("Assistant");
    assert_eq!(said.text(), "from the cache");
}

/// `pre_prompt` says no; the client reads why. An abort chooses its status.
#[tokio::test]
async fn pre_prompt_refuses() {
    let script = r#"
return {
  pre_prompt = function(prompt, run)
    if prompt.messages[#prompt.messages].content == "hello" then return run:reject("not today") end
    return run:abort(451, "for legal reasons")
  end,
}"#;
    let stage = stage(script, []).await;
    for streamed in [false, true] {
        let error = stage.ask(json!({ "stream": streamed })).await.assert_error(403, "request_rejected");
        assert_eq!(error["message"], "not today");
    }
    let aborted = stage.ask(json!({ "messages": [{ "role": "user", "content": "x" }] })).await;
    assert_eq!(aborted.status(), 451);
    assert_eq!(aborted.json()["error"]["message"], "for legal reasons");
}

/// `on_tool_call` answers in the tool's place, or says no to the model, or changes the arguments.
#[tokio::test]
async fn on_tool_call_decides() {
    let script = r#"
return {
  on_tool_call = function(call, run)
    local city = call.arguments.city
    if city == "Paris" then return run:answer("raining in Paris") end
    if city == "Rome" then return run:reject("Rome is closed") end
    call.arguments.city = "New " .. city
  end,
}"#;
    let calls = [
        ("a", "get_weather", r#"{"city":"Paris"}"#),
        ("b", "get_weather", r#"{"city":"Rome"}"#),
        ("c", "get_weather", r#"{"city":"York"}"#),
    ];
    let stage = stage(script, [Step::calls(calls), Step::says("done")]).await;
    stage.ask(json!({})).await;
    let second = stage.model.request(2).await.json();
    let results: Vec<&str> = second["messages"].as_array().unwrap()[3..].iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(results[0], "raining in Paris");
    assert!(results[1].contains("Rome is closed"), "{}", results[1]);
    assert_eq!(results[2], "sunny in New York");
    assert_eq!(stage.mcp.seen().calls.len(), 1, "only the third call is made");
}

/// `post_response` sees the final reply and its cost, and may replace it.
#[tokio::test]
async fn post_response_replaces() {
    let script = r#"
return {
  post_response = function(reply, run)
    return run:answer(reply.content .. " (" .. reply.usage.total_tokens .. " tokens, agent " .. run.agent .. ")")
  end,
}"#;
    let stage = stage(script, [asks(), Step::says("It is sunny.")]).await;
    assert_eq!(stage.ask(json!({})).await.content(), "It is sunny. (30 tokens, agent Assistant)");
}

/// On a stream the text has left already: a change is ignored, unless the entry holds the text back.
#[tokio::test]
async fn post_response_of_a_stream() {
    let script = r#"return { post_response = function(reply, run) return run:answer("replaced") end }"#;
    let free = stage(script, [Step::says("said already")]).await;
    let said = free.gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    assert_eq!(said.text(), "said already");
    let held = Stage::new("{ script: scripts/h.lua, hold: true }", script, [Step::says("never seen")]).await;
    let said = held.gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    said.assert_well_formed("Assistant");
    assert_eq!(said.text(), "replaced");
}

/// The entry's configuration overrides the script's defaults, and scripts fire in the order of the configuration.
#[tokio::test]
async fn scripts_are_configured_and_ordered() {
    let script = r#"
return {
  config = { word = "default", mark = "!" },
  pre_prompt = function(prompt, run)
    prompt.messages[1].content = prompt.messages[1].content .. " " .. run.config.word .. run.config.mark
  end,
}"#;
    let hooks = "scripts/h.lua, { script: scripts/h.lua, config: { word: own } }";
    let stage = Stage::new(hooks, script, [Step::says("hello")]).await;
    stage.ask(json!({})).await;
    assert_eq!(stage.model.request(1).await.json()["messages"][0]["content"], "Be brief. default! own!");
}

/// With `on_error: skip` the run goes on with what was there before the hook.
#[tokio::test]
async fn bugs_are_skipped_where_asked() {
    let script = r#"return { pre_prompt = function(prompt) prompt.messages[1].content = "half done" error("x") end }"#;
    let stage = Stage::new("{ script: scripts/h.lua, on_error: skip }", script, [Step::says("hello")]).await;
    assert_eq!(stage.ask(json!({})).await.content(), "hello");
    assert_eq!(stage.model.request(1).await.json()["messages"][0]["content"], "Be brief.");
}

/// One run's spinning hook does not hold up the others.
#[tokio::test]
async fn a_spinning_hook_holds_up_nobody() {
    let script = r#"return { pre_prompt = function() while true do end end }"#;
    let hooks = "{ script: scripts/h.lua, timeout: 3s }";
    let stage = Stage::new(hooks, script, [Step::says("quick")]).await;
    let spinning = tokio::spawn(stage.gateway.chat("Assistant", json!({})).answer());
    let asked = std::time::Instant::now();
    assert_eq!(stage.gateway.chat("Plain", json!({})).answer().await.content(), "quick");
    assert!(asked.elapsed() < std::time::Duration::from_secs(2), "{:?}", asked.elapsed());
    spinning.await.unwrap().assert_error(500, "hook_timeout");
}

/// An abort ends the run at once: of two calls that are made one after the other, the second is never made.
#[tokio::test]
async fn an_abort_stops_the_turn() {
    let script =
        "return { on_tool_call = function(call, run) if call.arguments.city == 'Paris' then return run:abort(451, 'not here') end end }";
    let calls = [("a", "get_weather", r#"{"city":"Paris"}"#), ("b", "get_weather", r#"{"city":"Rome"}"#)];
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::calls(calls)]).await;
    let config = CONFIG.replace("HOOKS", "scripts/h.lua").replace("    tools:", "    policies: { parallel_tool_calls: false }\n    tools:");
    let setup = Setup::new(&config).file("scripts/h.lua", script);
    let gateway = setup.env("LM", model.url()).env("MCP", mcp.url()).start().await;
    let answer = gateway.chat("Assistant", json!({})).answer().await;
    assert_eq!((answer.status(), answer.json()["error"]["message"].as_str()), (451, Some("not here")));
    assert!(mcp.seen().calls.is_empty());
}

/// `post_response` sees the text that comes with a call of the client's tools, too: offering a tool is no way round it.
#[tokio::test]
async fn post_response_sees_what_is_handed_back() {
    let script = "return { post_response = function(reply) reply.content = reply.content:gsub('secret', '[gone]') end }";
    let paint = json!({ "type": "function", "function": { "name": "paint", "parameters": { "type": "object" } } });
    let turn = Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        for delta in [
            json!({ "content": "the secret" }),
            json!({ "tool_calls": [{ "index": 0, "id": "p", "function": { "name": "paint", "arguments": "{}" } }] }),
        ] {
            e.event(&chunk(&delta, None)).await.unwrap();
        }
        e.event(&chunk(&json!({}), Some("tool_calls"))).await.unwrap();
        e.send(b"data: [DONE]\n\n").await.unwrap();
        e.end().await;
    });
    let stage = stage(script, [turn]).await;
    let message = stage.ask(json!({ "tools": [paint] })).await.json()["choices"][0]["message"].clone();
    assert_eq!(message["content"], "the [gone]");
    assert_eq!(message["tool_calls"][0]["function"]["name"], "paint");
}

/// An answer of a hook's may be made of parts, as a message may.
#[tokio::test]
async fn an_answer_in_parts() {
    let script = "return { pre_prompt = function(_, run) return run:answer({ role = 'assistant', content = { { type = 'text', text = 'in parts' } } }) end }";
    assert_eq!(stage(script, []).await.ask(json!({})).await.content(), "in parts");
}

/// `run.user` and `run.session` are what the request says, from the first hook that comes after it was read.
#[tokio::test]
async fn a_run_has_its_user_and_session() {
    let script = r#"
local early
return {
  on_request = function(_, run) early = tostring(run.user) .. " " .. tostring(run.session) end,
  pre_prompt = function(_, run) return run:answer(early .. ", " .. tostring(run.user) .. " " .. tostring(run.session)) end,
}"#;
    let stage = stage(script, []).await;
    let metadata = json!({ "session_id": "m1" });
    assert_eq!(stage.ask(json!({})).await.content(), "nil nil, nil nil");
    assert_eq!(stage.ask(json!({ "user": "ada", "metadata": metadata })).await.content(), "nil nil, ada m1");
    assert_eq!(stage.ask(json!({ "safety_identifier": "bob" })).await.content(), "nil nil, bob nil");
    let request = stage.gateway.chat("Assistant", json!({ "user": "ada", "metadata": metadata })).header("x-session-id", "h1");
    assert_eq!(request.answer().await.content(), "nil h1, ada h1");
}
