//! The gateway's tools and the client's, as the items of responses.

use serde_json::{Value, json};

use super::{CONFIG, messages, names, paint, stage, stage_of, text, told, types, weather};
use crate::support::Step;
use crate::support::fake_mcp::Tool;

fn painting() -> Step {
    Step::calls([("p", "paint", r#"{"what":"sky"}"#)])
}

fn result(call: &Value) -> Value {
    json!({ "type": "function_call_output", "call_id": call["call_id"], "output": "blue" })
}

/// A call of the client's tool is a `function_call`; its result comes back among the items, or with the response's id alone.
#[tokio::test]
async fn a_call_is_handed_back() {
    for by_id in [false, true] {
        let stage = stage([painting(), Step::says("Painted.").after_tool("blue")]).await;
        let response = stage.respond(json!({ "tools": [paint()] })).await;
        assert_eq!((types(&response), &response["status"]), (vec!["function_call"], &json!("completed")));
        let call = &response["output"][0];
        assert_eq!((&call["name"], &call["arguments"]), (&json!("paint"), &json!(r#"{"what":"sky"}"#)));
        assert!(call["id"].as_str().is_some_and(|id| id.starts_with("fc_")) && call["call_id"] == "p", "{call}");
        let sent = stage.model.request(1).await.json();
        let offered: Vec<&Value> = sent["tools"].as_array().unwrap().iter().map(|tool| &tool["function"]["name"]).collect();
        assert_eq!(offered, ["get_weather", "paint"]);
        assert_eq!(sent["tools"][1]["function"]["strict"], false);

        let more = if by_id {
            json!({ "previous_response_id": response["id"], "input": [result(call)], "tools": [paint()] })
        } else {
            json!({ "input": [{ "role": "user", "content": "hello" }, call, result(call)], "tools": [paint()] })
        };
        assert_eq!(text(&stage.respond(more).await), "Painted.");
        let sent = stage.model.request(2).await.json();
        let roles: Vec<String> = messages(&sent).into_iter().map(|(role, _)| role).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool"]);
        assert_eq!(sent["messages"][2]["tool_calls"][0]["function"]["name"], "paint");
    }
}

/// The same as events.
#[tokio::test]
async fn a_call_is_handed_back_in_pieces() {
    let stage = stage([painting()]).await;
    let events = stage.events(json!({ "tools": [paint()] })).await;
    assert_eq!(
        names(&events)[2..],
        [
            "response.output_item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    assert_eq!((&events[2]["item"]["name"], &events[2]["item"]["arguments"]), (&json!("paint"), &json!("")));
    assert_eq!((&events[4]["name"], &events[4]["arguments"]), (&json!("paint"), &json!(r#"{"what":"sky"}"#)));
    assert_eq!(types(&told(&events)), ["function_call"]);
}

/// One turn asks for a tool of the gateway's and one of the client's: the client gets both as items, runs its own alone, and the model
/// reads every call once with its result, whether the client brings all items back or names the response.
#[tokio::test]
async fn a_mixed_turn() {
    for (streamed, by_id) in [(false, false), (true, false), (true, true), (false, true)] {
        let stage = stage([
            Step::calls([("w", "get_weather", r#"{"city":"Paris"}"#), ("p", "paint", "{}")]),
            Step::says("Sunny and painted.").after_tool("blue"),
        ])
        .await;
        let more = json!({ "tools": [paint()] });
        let response = if streamed { told(&stage.events(more).await) } else { stage.respond(more).await };
        assert_eq!(types(&response), ["mcp_call", "function_call"]);
        let call = &response["output"][1];
        let more = if by_id {
            json!({ "previous_response_id": response["id"], "input": [result(call)] })
        } else {
            json!({ "input": [{ "role": "user", "content": "hello" }, response["output"][0], call, result(call)] })
        };
        assert_eq!(text(&stage.respond(more).await), "Sunny and painted.");
        let sent = stage.model.request(2).await.json();
        let all = sent["messages"].as_array().unwrap();
        let ids = |key: &str| -> Vec<String> {
            let calls = all.iter().flat_map(|message| message["tool_calls"].as_array().cloned().unwrap_or_default());
            let calls = calls.map(|call| call["id"].clone());
            let results = all.iter().map(|message| message["tool_call_id"].clone()).filter(|id| !id.is_null());
            let ids: Vec<Value> = if key == "calls" { calls.collect() } else { results.collect() };
            ids.into_iter().map(|id| id.as_str().unwrap().to_owned()).collect()
        };
        assert_eq!((ids("calls").len(), ids("calls")), (2, ids("results")), "{sent}");
        assert_eq!(messages(&sent)[3].1, "sunny in Paris");
        assert_eq!(stage.mcp.seen().calls.len(), 1, "the tool is not called again");
    }
}

/// A client that must not see the gateway's tools gets no items of them, and its mixed turns are whole again all the same.
#[tokio::test]
async fn tools_are_hidden_where_asked() {
    let stage = stage([
        Step::calls([("w", "get_weather", r#"{"city":"Paris"}"#), ("p", "paint", "{}")]),
        Step::says("Sunny and painted.").after_tool("blue"),
    ])
    .await;
    let response = stage.ask(json!({ "tools": [paint()] })).header("x-moongate-progress", "none").answer().await.json();
    assert_eq!(types(&response), ["function_call"]);
    let more = json!({ "previous_response_id": response["id"], "input": [result(&response["output"][0])] });
    assert_eq!(text(&stage.respond(more).await), "Sunny and painted.");
    let sent = stage.model.request(2).await.json();
    assert_eq!(sent["messages"][2]["tool_calls"].as_array().map(Vec::len), Some(2), "{sent}");
}

/// A tool that fails: its item says so, and the model read why.
#[tokio::test]
async fn a_failed_tool_says_so() {
    let config = CONFIG.replace("instructions: Be brief.", "policies: { tool_timeout: 200ms }");
    let (_open, gate) = tokio::sync::oneshot::channel::<()>();
    let stage =
        stage_of(&config, Tool::gated(gate), [weather(), Step::says("No idea.").after_tool("timed out"), Step::says("Still.")]).await;
    let events = stage.events(json!({})).await;
    assert!(names(&events).contains(&"response.mcp_call.failed"), "{events:?}");
    let response = told(&events);
    let call = &response["output"][0];
    assert_eq!(
        (&call["status"], &call["output"], &call["error"]["type"]),
        (&json!("failed"), &Value::Null, &json!("mcp_tool_execution_error"))
    );
    let why = call["error"]["content"][0]["text"].as_str().unwrap();
    assert!(why.contains("timed out"), "{call}");
    stage.respond(json!({ "previous_response_id": response["id"], "input": "and now?" })).await;
    assert_eq!(messages(&stage.model.request(3).await.json())[2], ("tool".to_owned(), json!(why)));
}

/// Calls that run together are items in the order asked, each with its own result.
#[tokio::test]
async fn parallel_calls_keep_apart() {
    let both = [("a", "get_weather", r#"{"city":"Rome"}"#), ("b", "get_weather", r#"{"city":"Oslo"}"#)];
    let stage = stage([Step::calls(both), Step::says("Sunny.")]).await;
    let response = told(&stage.events(json!({})).await);
    let outputs: Vec<&Value> = response["output"].as_array().unwrap()[..2].iter().map(|call| &call["output"]).collect();
    assert_eq!(outputs, ["sunny in Rome", "sunny in Oslo"]);
    assert_ne!(response["output"][0]["id"], response["output"][1]["id"]);
}
