//! What goes wrong behind an agent: the model reads what it can mend, the client reads the rest, and nothing ends in silence.

use serde_json::{Value, json};

use super::{CONFIG, start};
use crate::support::fake_mcp::{Tool, ToolAnswer};
use crate::support::scripted_model::{chunk, reply};
use crate::support::{Exchange, FakeMcp, Gateway, ScriptedModel, Step, within};

/// What the model reads as the result of its first call.
async fn result_read(model: &ScriptedModel) -> String {
    let second = model.request(2).await.json();
    let last = second["messages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["role"], "tool");
    last["content"].as_str().unwrap().to_owned()
}

/// A run in which the model calls `name` with `arguments`, reads the result, and ends; what it has read.
async fn after_call(tool: Tool, policies: &str, name: &'static str, arguments: &'static str) -> (String, FakeMcp) {
    let mcp = FakeMcp::start([tool]).await;
    let model = ScriptedModel::start([Step::calls([("a", name, arguments)]), Step::says("I see.")]).await;
    let gateway = start(policies, &model, &mcp).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "I see.");
    (result_read(&model).await, mcp)
}

fn answering(answer: fn() -> ToolAnswer) -> Tool {
    Tool::new("current", json!({ "type": "object" }), move |_| async move { answer() })
}

/// Arguments that are not JSON: the tool is not called, the model reads why and corrects itself.
#[tokio::test]
async fn broken_arguments_are_corrected() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([
        Step::calls([("a", "get_weather", r#"{"city": "Par"#)]),
        Step::calls([("b", "get_weather", r#"{"city": "Paris"}"#)]).after_tool("nvalid"),
        Step::says("It is sunny.").after_tool("sunny in Paris"),
    ])
    .await;
    let gateway = start("", &model, &mcp).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "It is sunny.");
    assert_eq!(mcp.seen().calls.len(), 1);
    assert!(result_read(&model).await.to_lowercase().contains("invalid arguments"));
}

/// Arguments that do not fit the schema: the model reads where.
#[tokio::test]
async fn arguments_that_do_not_fit() {
    let (read, mcp) = after_call(Tool::weather(), "", "get_weather", r#"{"city": 7}"#).await;
    assert!(read.contains("city") && read.to_lowercase().contains("invalid arguments"), "{read}");
    assert!(mcp.seen().calls.is_empty());
}

/// Empty arguments are an empty object.
#[tokio::test]
async fn empty_arguments_are_an_object() {
    let (read, mcp) = after_call(answering(|| ToolAnswer::Text("ok".into())), "", "get_weather", "").await;
    assert_eq!((read.as_str(), mcp.seen().calls), ("ok", vec![("current".to_owned(), json!({}))]));
}

/// A tool that does not exist is said not to; never is one taken that looks like it.
#[tokio::test]
async fn an_unknown_tool() {
    for name in ["get_wether", "current", ""] {
        let (read, mcp) = after_call(Tool::weather(), "", name, r#"{"city":"Paris"}"#).await;
        assert!(read.to_lowercase().contains("unknown tool"), "{read}");
        assert!(mcp.seen().calls.is_empty());
    }
}

/// A tool that says it has failed.
#[tokio::test]
async fn a_tool_that_fails() {
    let (read, _) = after_call(answering(|| ToolAnswer::Failed("no such city".into())), "", "get_weather", "{}").await;
    assert!(read.contains("no such city"), "{read}");
}

/// A server that refuses the call.
#[tokio::test]
async fn a_server_that_refuses() {
    let (read, _) = after_call(answering(|| ToolAnswer::Refused(-32000, "not today".into())), "", "get_weather", "{}").await;
    assert!(read.contains("not today"), "{read}");
}

/// A server that breaks.
#[tokio::test]
async fn a_server_that_breaks() {
    let (read, _) = after_call(answering(|| ToolAnswer::Status(500)), "", "get_weather", "{}").await;
    assert!(!read.is_empty());
}

/// A result in several parts is read as one text; what is no text is said to be there.
#[tokio::test]
async fn a_result_in_parts() {
    let parts = || {
        ToolAnswer::Content(json!([
            { "type": "text", "text": "first part" },
            { "type": "image", "data": "AAAA", "mimeType": "image/png" },
            { "type": "text", "text": "second part" },
        ]))
    };
    let (read, _) = after_call(answering(parts), "", "get_weather", "{}").await;
    assert!(read.contains("first part") && read.contains("second part") && read.contains("image"), "{read}");
}

/// A tool that takes too long: the model reads that, and the server sees the call cancelled.
#[tokio::test]
async fn a_tool_that_takes_too_long() {
    let forever = Tool::new("current", json!({ "type": "object" }), |_| std::future::pending());
    let (read, mcp) = after_call(forever, "tool_timeout: 300ms", "get_weather", "{}").await;
    assert!(read.to_lowercase().contains("timed out"), "{read}");
    mcp.until("the cancellation", |seen| seen.n_cancelled > 0).await;
}

/// A result that would fill the model's context is cut, and says so.
#[tokio::test]
async fn a_long_result_is_cut() {
    let long = || ToolAnswer::Text("x".repeat(100_000));
    let (read, _) = after_call(answering(long), "max_tool_result_bytes: 1000", "get_weather", "{}").await;
    assert!(read.len() < 1500, "{} bytes", read.len());
    assert!(read.starts_with(&"x".repeat(500)) && !read.trim_end_matches('x').is_empty() && !read.ends_with('x'), "{read}");
}

/// A server that was started anew has forgotten the session: the call is made in a new one, once.
#[tokio::test]
async fn a_forgotten_session_is_begun_anew() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([
        Step::calls([("a", "get_weather", r#"{"city":"Paris"}"#)]),
        Step::says("sunny").after_tool("sunny in Paris"),
    ])
    .await;
    let gateway = start("", &model, &mcp).await;
    mcp.forget_sessions();
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "sunny");
    assert_eq!((mcp.seen().calls.len(), mcp.seen().n_sessions), (1, 2));
}

/// An MCP server that is not there degrades its agent and nothing else: the gateway starts, and says why.
#[tokio::test]
async fn an_absent_server_degrades_its_agent() {
    let model = ScriptedModel::start([Step::says("plain")]).await;
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let config = CONFIG.replace("POLICIES", "");
    let gateway = Gateway::start(&config, [("LM", &model.url()), ("MCP", &format!("http://{nobody}/mcp"))]).await;
    let error = gateway.chat("Assistant", json!({})).answer().await.assert_error(503, "agent_unavailable");
    assert!(error["message"].as_str().unwrap().contains("Assistant"), "{error}");
    assert_eq!(gateway.chat("scripted", json!({})).answer().await.content(), "plain");
    let described = gateway.get("/agents/Assistant").answer().await.json();
    assert!(described.to_string().contains("weather"), "{described}");
}

/// The upstream refuses before anything has left: the client gets a status, whether it streams or not.
#[tokio::test]
async fn an_upstream_error_is_a_status() {
    let secret = json!({ "error": { "message": "key upstream-secret is bad", "type": "x", "param": null, "code": "y" } });
    for (theirs, ours, code) in
        [(500, 502, "upstream_error"), (503, 502, "upstream_error"), (401, 502, "upstream_auth"), (403, 502, "upstream_auth")]
    {
        for streamed in [false, true] {
            let mcp = FakeMcp::start([Tool::weather()]).await;
            let model = ScriptedModel::start([Step::json(theirs, secret.clone())]).await;
            let gateway = start("", &model, &mcp).await;
            let answer = gateway.chat("Assistant", json!({ "stream": streamed })).answer().await;
            answer.assert_error(ours, code);
            assert!(!answer.text().contains("upstream-secret"), "{}", answer.text());
        }
    }
}

/// What the client wrote and the upstream refuses comes back in the upstream's words, normalised to OpenAI's form.
#[tokio::test]
async fn a_refused_request_is_explained() {
    for body in [
        json!({ "error": { "message": "context too long", "type": "x", "param": null, "code": 7 } }),
        json!({ "error": "context too long" }),
    ] {
        let mcp = FakeMcp::start([Tool::weather()]).await;
        let model = ScriptedModel::start([Step::json(400, body)]).await;
        let gateway = start("", &model, &mcp).await;
        let answer = gateway.chat("Assistant", json!({})).answer().await;
        assert_eq!(answer.status(), 400);
        let error = answer.json()["error"].clone();
        assert!(error["message"].as_str().unwrap().contains("context too long"), "{error}");
        assert!(error["code"].is_string() || error["code"].is_null(), "a code is a string: {error}");
        assert!(error.get("param").is_some() && error["type"].is_string(), "{error}");
    }
}

/// An upstream that limits us says when to come back.
#[tokio::test]
async fn a_limiting_upstream_is_passed_on() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::chat(|e| async move {
        let body =
            json!({ "error": { "message": "slow down", "type": "requests", "param": null, "code": "rate_limit_exceeded" } }).to_string();
        e.respond(429, &[("content-type", "application/json"), ("retry-after", "3")], body.as_bytes()).await;
    })])
    .await;
    let gateway = start("", &model, &mcp).await;
    let answer = gateway.chat("Assistant", json!({})).answer().await;
    answer.assert_error(429, "rate_limit_exceeded");
    assert_eq!(answer.header("retry-after"), Some("3"));
}

/// Once a tool has run, an error tells SDKs not to try again: its effects would happen twice.
#[tokio::test]
async fn an_error_after_a_tool_is_not_repeated() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let broken = json!({ "error": { "message": "broken", "type": "x", "param": null, "code": null } });
    let model = ScriptedModel::start([Step::calls([("a", "get_weather", r#"{"city":"Paris"}"#)]), Step::json(500, broken)]).await;
    let gateway = start("", &model, &mcp).await;
    let answer = gateway.chat("Assistant", json!({})).answer().await;
    answer.assert_error(502, "upstream_error");
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}

async fn begins(e: &mut Exchange) {
    e.start("text/event-stream").await;
    e.event(&chunk(&json!({ "role": "assistant", "content": "Well, " }), None)).await.unwrap();
}

/// An agent's stream that breaks after its first word: the client reads an error event and no `[DONE]`.
async fn breaks(after: Step, code: &str) -> Value {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([after]).await;
    let gateway = start("", &model, &mcp).await;
    let said = gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    assert_eq!(said.head.start[1], "200");
    assert_eq!(said.text(), "Well, ");
    let error = said.error().unwrap_or_else(|| panic!("no error in {:?}", said.frames));
    assert_eq!(error["code"], code);
    assert!(["message", "type", "param"].iter().all(|key| error.get(key).is_some()), "{error}");
    assert!(!said.data().contains(&"[DONE]"), "{:?}", said.frames);
    error
}

/// The upstream resets the connection.
#[tokio::test]
async fn a_reset_is_an_error_event() {
    let step = Step::chat(|mut e| async move {
        begins(&mut e).await;
        e.reset();
    });
    breaks(step, "upstream_error").await;
}

/// The upstream ends its stream properly, without a reason to end and without `[DONE]`.
#[tokio::test]
async fn a_truncated_stream_is_an_error_event() {
    let step = Step::chat(|mut e| async move {
        begins(&mut e).await;
        e.end().await;
    });
    breaks(step, "upstream_error").await;
}

/// The upstream sends what is not JSON.
#[tokio::test]
async fn a_malformed_event_is_an_error_event() {
    let step = Step::chat(|mut e| async move {
        begins(&mut e).await;
        e.send(b"data: {\"choices\": [\n\n").await.unwrap();
        let _ = e.send(b"data: [DONE]\n\n").await;
        e.end().await;
    });
    breaks(step, "upstream_error").await;
}

/// The upstream sends an error event of its own, as LM Studio does.
#[tokio::test]
async fn an_upstreams_error_event_is_an_error_event() {
    let step = Step::chat(|mut e| async move {
        begins(&mut e).await;
        e.send(b"event: error\ndata: {\"error\":{\"message\":\"model crashed\"}}\n\n").await.unwrap();
        e.end().await;
    });
    breaks(step, "upstream_error").await;
}

/// The same error event as the first thing is a status.
#[tokio::test]
async fn an_early_error_event_is_a_status() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        e.send(b"event: error\ndata: {\"error\":{\"message\":\"model crashed\"}}\n\n").await.unwrap();
        e.end().await;
    })])
    .await;
    let gateway = start("", &model, &mcp).await;
    let answer = gateway.chat("Assistant", json!({ "stream": true })).answer().await;
    assert!(answer.status() >= 400, "{}", answer.text());
    assert!(answer.json()["error"]["message"].is_string());
}

/// A stream that falls silent.
#[tokio::test]
async fn a_stalled_stream_is_an_error_event() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        begins(&mut e).await;
        e.client_gone().await;
    })])
    .await;
    let config = CONFIG.replace("api_key:", "idle_timeout: 300ms, api_key:").replace("POLICIES", "");
    let gateway = Gateway::start(&config, [("LM", &model.url()), ("MCP", &mcp.url())]).await;
    let said = within(5, "the end of a stalled stream", gateway.chat("Assistant", json!({ "stream": true })).stream()).await;
    assert_eq!(said.error().unwrap()["code"], "upstream_timeout");
}

/// A 200 with nothing in it is no answer.
#[tokio::test]
async fn an_empty_answer_is_an_error() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        e.send(b"data: [DONE]\n\n").await.unwrap();
        e.end().await;
    })])
    .await;
    let gateway = start("", &model, &mcp).await;
    gateway.chat("Assistant", json!({})).answer().await.assert_error(502, "upstream_empty_response");
}

/// A reason to end and then the end of the stream is a whole answer, `[DONE]` or not; comments and odd line ends are no harm.
#[tokio::test]
async fn small_oddities_are_forgiven() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream; charset=utf-8").await;
        e.send(b": OPENROUTER PROCESSING\n\n").await.unwrap();
        let said = chunk(&json!({ "role": "assistant", "content": "Fine" }), None);
        e.send(format!("id: 1\r\ndata:{said}\r\n\r\n").as_bytes()).await.unwrap();
        let end = format!("data: {}\n\n", chunk(&json!({}), Some("stop")));
        let (a, b) = end.split_at(20);
        e.send(a.as_bytes()).await.unwrap();
        e.send(b.as_bytes()).await.unwrap();
        e.end().await;
    })])
    .await;
    let gateway = start("", &model, &mcp).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "Fine");
}

/// An upstream that answers a stream's request with a whole completion is understood, too.
#[tokio::test]
async fn a_whole_answer_to_a_stream_is_understood() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::chat(|e| async move {
        let body = json!({ "id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            { "index": 0, "finish_reason": "stop", "message": { "role": "assistant", "content": "Whole" } }] });
        e.json(200, &body).await;
    })])
    .await;
    let gateway = start("", &model, &mcp).await;
    let said = gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    assert_eq!((said.text().as_str(), said.finish().as_str()), ("Whole", "stop"));
}

/// A role in every chunk, as some upstreams send it, does not reach the client: SDKs would add them up.
#[tokio::test]
async fn repeated_roles_are_dropped() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let deltas = ["a ", "b ", "c"].map(|word| json!({ "role": "assistant", "content": word })).to_vec();
    let model = ScriptedModel::start([Step::chat(|e| reply(e, deltas, "stop"))]).await;
    let gateway = start("", &model, &mcp).await;
    let said = gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    said.assert_well_formed("Assistant");
    assert_eq!(said.text(), "a b c");
}
