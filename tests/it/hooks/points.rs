//! Every point of a run fires when it should, may change what it may, and decide what it may.

use serde_json::json;

use super::{asks, stage};
use crate::support::{Gateway, ScriptedModel, Setup, Step};

/// `on_request` sees the head alone: it says no before the messages are judged, and what it makes of the headers, later hooks see.
#[tokio::test]
async fn on_request_comes_first() {
    let script = r#"return {
      on_request = function(head, run)
        assert(head.method == "POST" and head.path == "/v1/chat/completions?x=1" and head.model == "Assistant")
        assert(head.headers.authorization == nil)
        if head.headers["x-tenant"] == nil then return run:reject("which tenant?") end
        if head.headers["x-tenant"] == "gone" then return run:abort(410, "gone") end
        head.headers["x-tenant"] = head.headers["x-tenant"]:upper()
      end,
      pre_prompt = function(prompt, run) return run:answer("tenant " .. run.headers["x-tenant"]) end,
    }"#;
    let stage = stage(script, []).await;
    let ask = |body: serde_json::Value| stage.gateway.post("/v1/chat/completions?x=1").json(&body).header("authorization", "Bearer k");
    let broken = json!({ "model": "Assistant", "messages": 7 });
    assert_eq!(ask(broken.clone()).answer().await.assert_error(403, "request_rejected")["message"], "which tenant?");
    assert_eq!(ask(broken.clone()).header("x-tenant", "gone").answer().await.status(), 410);
    ask(broken).header("x-tenant", "acme").answer().await.assert_error(400, "invalid_type");
    let whole = json!({ "model": "Assistant", "messages": [{ "role": "user", "content": "hi" }] });
    assert_eq!(ask(whole).header("x-tenant", "acme").answer().await.content(), "tenant ACME");
}

/// `on_chunk` changes and drops pieces, streamed or not, and gives out at the end what it kept back.
#[tokio::test]
async fn on_chunk_changes_the_text() {
    let script = r#"return {
      on_chunk = function(chunk, run)
        if chunk.last then chunk.text = "[" .. run.state.kept .. "]" return end
        run.state.kept = (run.state.kept or 0) + 1
        chunk.text = chunk.text == "two " and "" or chunk.text:upper()
      end,
    }"#;
    let stage = stage(script, [Step::says("one two three"), Step::says("one two three")]).await;
    assert_eq!(stage.ask(json!({})).await.content(), "ONE THREE[3]");
    let streamed = stage.gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    streamed.assert_well_formed("Assistant");
    assert_eq!(streamed.text(), "ONE THREE[3]");
}

/// `on_chunk` may end the run: before the first byte with a status, after it with an error event.
#[tokio::test]
async fn on_chunk_aborts() {
    let script =
        r#"return { on_chunk = function(chunk, run) if chunk.text:find("secret") then return run:abort(451, "not for you") end end }"#;
    let stage = stage(script, [Step::says("secret"), Step::says("well, a secret")]).await;
    assert_eq!(stage.gateway.chat("Assistant", json!({ "stream": true })).answer().await.status(), 451);
    let streamed = stage.gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    assert_eq!(streamed.text(), "well, a ");
    assert_eq!(streamed.error().expect("an error event")["message"], "not for you");
    assert!(!streamed.done());
}

/// `on_tool_result` sees what came of a call, and the model reads what it makes of it.
#[tokio::test]
async fn on_tool_result_decides() {
    let script = r#"return {
      on_tool_call = function(call, run) if call.arguments.city == "Oslo" then return run:answer("from the hook") end end,
      on_tool_result = function(result, run)
        assert(result.name == "get_weather" and not result.is_error)
        assert(result.content ~= "from the hook", "the tool was not called")
        if result.arguments.city == "Rome" then return run:reject("Rome is a secret") end
        result.content = result.content .. ", they say"
      end,
    }"#;
    let calls = [
        ("a", "get_weather", r#"{"city":"Paris"}"#),
        ("b", "get_weather", r#"{"city":"Rome"}"#),
        ("c", "get_weather", r#"{"city":"Oslo"}"#),
    ];
    let stage = stage(script, [Step::calls(calls), Step::says("done")]).await;
    stage.ask(json!({})).await;
    let second = stage.model.request(2).await.json();
    let results: Vec<_> = second["messages"].as_array().unwrap()[3..].iter().map(|m| m["content"].as_str().unwrap()).collect();
    assert_eq!(results, ["sunny in Paris, they say", "Rome is a secret", "from the hook"]);
}

/// `run` says how far the run is, at every point, whichever the script has.
#[tokio::test]
async fn the_run_is_up_to_date() {
    let script = r#"
    local function note(run, where) run.state.said = (run.state.said or "") .. where .. run.hop .. ":" .. run.usage.total_tokens .. " " end
    return {
      on_request = function(_, run) note(run, "request") end,
      on_tool_call = function(_, run) note(run, "call") end,
      on_tool_result = function(_, run) note(run, "result") end,
      post_response = function(reply, run) note(run, "reply") reply.content = run.state.said end,
    }"#;
    let stage = stage(script, [asks(), Step::says("done")]).await;
    assert_eq!(stage.ask(json!({})).await.content(), "request0:0 call1:15 result1:15 reply2:30 ");
}

/// `on_error` answers in the place of a run that failed: of an upstream's failure, of another script's bug, of the run's own time.
#[tokio::test]
async fn on_error_answers() {
    let script = r#"return {
      pre_prompt = function(prompt, run) if run.headers["x-bug"] then error("a bug") end end,
      on_error = function(failure, run) return run:answer(failure.code .. " " .. failure.status .. " " .. tostring(failure.streamed)) end,
    }"#;
    let down = || Step::json(500, json!({ "error": { "message": "down" } }));
    let stage = stage(script, [down(), down()]).await;
    assert_eq!(stage.ask(json!({})).await.content(), "upstream_error 500 false".replace("500", "502"));
    let streamed = stage.gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    streamed.assert_well_formed("Assistant");
    assert_eq!(streamed.text(), "upstream_error 502 false");
    let bug = stage.gateway.chat("Assistant", json!({})).header("x-bug", "1").answer().await;
    assert_eq!(bug.content(), "hook_error 500 false");
    stage.gateway.logged("`on_error` answered").await;
}

/// After text has left, the answer follows it; without an answer the failure is told as ever.
#[tokio::test]
async fn on_error_after_the_first_byte() {
    let breaks = || {
        Step::chat(|mut exchange| async move {
            exchange.start("text/event-stream").await;
            exchange.event(&crate::support::scripted_model::chunk(&json!({ "content": "so " }), None)).await.unwrap();
            exchange.reset();
        })
    };
    let script = r#"return { on_error = function(failure, run)
      assert(failure.streamed)
      if run.headers["x-quiet"] == nil then return run:answer("sorry") end
    end }"#;
    let stage = stage(script, [breaks(), breaks()]).await;
    let streamed = stage.gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    streamed.assert_well_formed("Assistant");
    assert_eq!(streamed.text(), "so sorry");
    let told = stage.gateway.chat("Assistant", json!({ "stream": true })).header("x-quiet", "1").stream().await;
    assert_eq!((told.text().as_str(), told.done()), ("so ", false));
    assert!(told.error().is_some());
}

/// `on_error` is for failures: not for what a hook decided; and its own failure leaves the first one as it is.
#[tokio::test]
async fn on_error_leaves_decisions_alone() {
    let script = r#"return {
      pre_prompt = function(prompt, run) if run.headers["x-no"] then return run:reject("no") end end,
      on_error = function(failure, run)
        assert(failure.code ~= "request_rejected")
        if run.headers["x-abort"] then return run:abort(418, "in my own words") end
        error("a bug in on_error")
      end,
    }"#;
    let down = || Step::json(500, json!({ "error": { "message": "down" } }));
    let stage = stage(script, [down(), down()]).await;
    stage.gateway.chat("Assistant", json!({})).header("x-no", "1").answer().await.assert_error(403, "request_rejected");
    stage.ask(json!({})).await.assert_error(502, "upstream_error");
    stage.gateway.logged("a bug in on_error").await;
    let aborted = stage.gateway.chat("Assistant", json!({})).header("x-abort", "1").answer().await;
    assert_eq!((aborted.status(), aborted.json()["error"]["message"].as_str()), (418, Some("in my own words")));
}

/// The run's time is over while its model is silent: `on_error` still answers.
#[tokio::test]
async fn on_error_after_the_runs_time() {
    let model = ScriptedModel::start([Step::chat(|mut exchange| async move {
        exchange.client_gone().await;
    })])
    .await;
    let config = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents: [{ name: Slow, model: scripted, hooks: [scripts/h.lua], policies: { timeout: 200ms } }]
"#;
    let script = "return { on_error = function(failure, run) return run:answer(failure.code) end }";
    let gateway: Gateway = Setup::new(config).file("scripts/h.lua", script).env("LM", model.url()).start().await;
    assert_eq!(gateway.chat("Slow", json!({})).answer().await.content(), "run_timeout");
}

/// A verdict that means nothing there is a bug of it, too.
#[tokio::test]
async fn on_error_cannot_reject() {
    let script = "return { on_error = function(x, run) return run:reject('x') end }";
    let stage = stage(script, [Step::json(500, json!({ "error": { "message": "down" } }))]).await;
    stage.ask(json!({})).await.assert_error(502, "upstream_error");
    stage.gateway.logged("means nothing in `on_error`; here you may return `run:answer`, `run:abort`").await;
}
