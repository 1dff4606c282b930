//! Tools that the client brings: the model may ask for them, and the client runs them.

use serde_json::{Value, json};

use super::{CONFIG, start};
use crate::support::fake_mcp::Tool;
use crate::support::{FakeMcp, Gateway, ScriptedModel, Step};

fn paint() -> Value {
    json!({ "type": "function", "function": { "name": "paint", "description": "Paints.", "parameters": { "type": "object" } } })
}

fn offered(request: &Value) -> Vec<String> {
    let name = |tool: &Value| tool["function"]["name"].as_str().unwrap_or_default().to_owned();
    request["tools"].as_array().map(|tools| tools.iter().map(name).collect()).unwrap_or_default()
}

/// A call of the client's tool ends the run: the client gets it, and brings its result in its next request.
#[tokio::test]
async fn a_call_is_handed_back() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model =
        ScriptedModel::start([Step::calls([("call_p", "paint", r#"{"what":"sky"}"#)]), Step::says("Painted.").after_tool("blue")]).await;
    let gateway = start("", &model, &mcp).await;
    let body = gateway.chat("Assistant", json!({ "tools": [paint()] })).answer().await.json();
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    let calls = choice["message"]["tool_calls"].as_array().unwrap();
    assert_eq!(calls.len(), 1);
    assert_eq!((&calls[0]["type"], &calls[0]["function"]["name"]), (&json!("function"), &json!("paint")));
    assert_eq!(calls[0]["function"]["arguments"], r#"{"what":"sky"}"#);
    let mut names = offered(&model.request(1).await.json());
    names.sort();
    assert_eq!(names, ["get_weather", "paint"]);

    let messages = json!([
        { "role": "user", "content": "hello" },
        choice["message"],
        { "role": "tool", "tool_call_id": calls[0]["id"], "content": "blue" },
    ]);
    let answer = gateway.chat("Assistant", json!({ "tools": [paint()], "messages": messages })).answer().await;
    assert_eq!(answer.content(), "Painted.");
}

/// The same as a stream: the pieces have OpenAI's form.
#[tokio::test]
async fn a_call_is_handed_back_in_pieces() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::calls([("call_p", "paint", r#"{"what":"sky"}"#)])]).await;
    let gateway = start("", &model, &mcp).await;
    let said = gateway.chat("Assistant", json!({ "tools": [paint()], "stream": true })).stream().await;
    said.assert_well_formed("Assistant");
    assert_eq!(said.finish(), "tool_calls");
    let calls = said.tool_calls();
    assert_eq!((calls.len(), calls[0].1.as_str(), calls[0].2.as_str()), (1, "paint", r#"{"what":"sky"}"#));
    assert!(!calls[0].0.is_empty());
}

/// One turn asks for a tool of the gateway's and one of the client's: the gateway runs its own and keeps the result
/// for the request that brings the client's; the client never sees the gateway's.
#[tokio::test]
async fn a_mixed_turn() {
    for streamed in [false, true] {
        let mcp = FakeMcp::start([Tool::weather()]).await;
        let model = ScriptedModel::start([
            Step::calls([("w", "get_weather", r#"{"city":"Paris"}"#), ("p", "paint", r#"{"what":"sky"}"#)]),
            Step::says("Sunny and painted."),
        ])
        .await;
        let gateway = start("", &model, &mcp).await;
        let request = gateway.chat("Assistant", json!({ "tools": [paint()], "stream": streamed }));
        let id = if streamed {
            let said = request.stream().await;
            said.assert_well_formed("Assistant");
            let calls = said.tool_calls();
            assert_eq!((calls.len(), calls[0].1.as_str(), said.finish().as_str()), (1, "paint", "tool_calls"));
            calls[0].0.clone()
        } else {
            let body = request.answer().await.json();
            let calls = body["choices"][0]["message"]["tool_calls"].as_array().unwrap().clone();
            assert_eq!((calls.len(), &calls[0]["function"]["name"]), (1, &json!("paint")));
            calls[0]["id"].as_str().unwrap().to_owned()
        };
        assert_eq!(mcp.seen().calls.len(), 1);

        let messages = json!([
            { "role": "user", "content": "hello" },
            { "role": "assistant", "content": "", "tool_calls": [{ "id": id, "type": "function", "function": { "name": "paint", "arguments": "{\"what\":\"sky\"}" } }] },
            { "role": "tool", "tool_call_id": id, "content": "blue" },
        ]);
        let answer = gateway.chat("Assistant", json!({ "tools": [paint()], "messages": messages })).answer().await;
        assert_eq!(answer.content(), "Sunny and painted.");
        let second = model.request(2).await.json();
        let messages = second["messages"].as_array().unwrap();
        let asked: Vec<&Value> = messages[2]["tool_calls"].as_array().unwrap().iter().map(|call| &call["function"]["name"]).collect();
        assert_eq!(asked, ["get_weather", "paint"], "the model's turn is whole again");
        let mut results: Vec<&str> = messages[3..].iter().map(|m| m["content"].as_str().unwrap()).collect();
        results.sort_unstable();
        assert_eq!(results, ["blue", "sunny in Paris"]);
        assert_eq!(mcp.seen().calls.len(), 1, "the tool is not called again");
    }
}

/// When the gateway has forgotten its part of a mixed turn, the client's next request is answered all the same.
#[tokio::test]
async fn a_forgotten_turn_is_answered() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::says("Painted.").after_tool("blue")]).await;
    let gateway = start("", &model, &mcp).await;
    let messages = json!([
        { "role": "user", "content": "hello" },
        { "role": "assistant", "content": null, "tool_calls": [{ "id": "call_of_yesterday", "type": "function", "function": { "name": "paint", "arguments": "{}" } }] },
        { "role": "tool", "tool_call_id": "call_of_yesterday", "content": "blue" },
    ]);
    let answer = gateway.chat("Assistant", json!({ "tools": [paint()], "messages": messages })).answer().await;
    assert_eq!(answer.content(), "Painted.");
}

/// An agent that ignores the client's tools does not offer them.
#[tokio::test]
async fn tools_are_ignored_where_asked() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::says("hello")]).await;
    let config = CONFIG.replace("policies: { POLICIES }", "client_tools: ignore");
    let gateway = Gateway::start(&config, [("LM", &model.url()), ("MCP", &mcp.url())]).await;
    assert_eq!(gateway.chat("Assistant", json!({ "tools": [paint()] })).answer().await.content(), "hello");
    assert_eq!(offered(&model.request(1).await.json()), ["get_weather"]);
}

/// Plain models keep the client's tools untouched.
#[tokio::test]
async fn plain_models_keep_the_clients_tools() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([Step::calls([("call_p", "paint", "{}")])]).await;
    let gateway = start("", &model, &mcp).await;
    let body = gateway.chat("scripted", json!({ "tools": [paint()] })).answer().await.json();
    assert_eq!(body["choices"][0]["message"]["tool_calls"][0]["id"], "call_p");
    assert_eq!(offered(&model.request(1).await.json()), ["paint"]);
}
