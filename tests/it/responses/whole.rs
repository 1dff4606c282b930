//! The response object, whole.

use serde_json::{Value, json};

use super::{paint, stage, text, types, weather};
use crate::support::Step;
use crate::support::scripted_model::{reply, spoken};

/// Every key that the API's object has, what was asked repeated, usage in its words.
#[tokio::test]
async fn has_the_form_of_the_api() {
    let stage = stage([Step::says("hello there")]).await;
    let answer = stage.ask(json!({ "temperature": 0.5, "metadata": { "a": "b" }, "tools": [paint()] })).answer().await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("application/json")));
    assert!(answer.header("x-request-id").is_some() && answer.header("server-timing").is_some());
    let mut response = answer.json();
    let id = response["id"].take();
    assert!(id.as_str().is_some_and(|id| id.starts_with("resp_") && id.len() > 30), "{id}");
    let item = response["output"][0]["id"].take();
    assert!(item.as_str().is_some_and(|id| id.starts_with("msg_")), "{item}");
    for key in ["created_at", "completed_at"] {
        let at = response[key].take();
        assert!(at.as_u64().is_some_and(|at| at > 1_600_000_000), "{key}: {at}");
    }
    let part = json!({ "type": "output_text", "text": "hello there", "annotations": [], "logprobs": [] });
    assert_eq!(
        response,
        json!({
            "id": null, "object": "response", "created_at": null, "completed_at": null, "status": "completed", "error": null,
            "incomplete_details": null, "model": "Assistant",
            "output": [{ "id": null, "type": "message", "status": "completed", "role": "assistant", "content": [part] }],
            "usage": {
                "input_tokens": 10, "input_tokens_details": { "cached_tokens": 0, "cache_write_tokens": 0 },
                "output_tokens": 5, "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": 15,
            },
            "background": false, "instructions": null, "max_output_tokens": null, "max_tool_calls": null, "metadata": { "a": "b" },
            "parallel_tool_calls": true, "previous_response_id": null, "prompt_cache_key": null,
            "reasoning": { "effort": null, "summary": null }, "safety_identifier": null, "service_tier": "default", "store": true,
            "temperature": 0.5, "text": { "format": { "type": "text" } }, "tool_choice": "auto", "tools": [paint()], "top_logprobs": 0,
            "top_p": null, "truncation": "disabled", "user": null,
        })
    );
}

/// What was thought, tried and said are items in their order; usage is the sum of all hops.
#[tokio::test]
async fn items_are_in_their_order() {
    let thought = |e| reply(e, vec![json!({ "reasoning_content": "hmm" }), json!({ "content": "Let me see." })], "stop");
    let stage = stage([weather(), Step::chat(thought)]).await;
    let response = stage.respond(json!({})).await;
    assert_eq!(types(&response), ["mcp_call", "reasoning", "message"]);
    let reasoning = &response["output"][1];
    assert_eq!(reasoning["content"], json!([{ "type": "reasoning_text", "text": "hmm" }]));
    assert_eq!((&reasoning["summary"], text(&response).as_str()), (&json!([]), "Let me see."));
    assert_eq!(response["usage"]["total_tokens"], 30);
}

/// An answer that was cut off is incomplete, and says why.
#[tokio::test]
async fn a_cut_answer_is_incomplete() {
    for (finish, reason) in [("length", "max_output_tokens"), ("content_filter", "content_filter")] {
        let stage = stage([Step::chat(move |e| reply(e, spoken("too lo"), finish))]).await;
        let response = stage.respond(json!({})).await;
        assert_eq!((&response["status"], &response["incomplete_details"]), (&json!("incomplete"), &json!({ "reason": reason })));
        assert_eq!((&response["output"][0]["status"], &response["completed_at"]), (&json!("incomplete"), &Value::Null));
    }
}

/// A refusal is a part of its own kind.
#[tokio::test]
async fn a_refusal_stays_a_refusal() {
    let stage = stage([Step::chat(|e| reply(e, vec![json!({ "refusal": "I will not." })], "stop"))]).await;
    let response = stage.respond(json!({})).await;
    assert_eq!(response["output"][0]["content"], json!([{ "type": "refusal", "refusal": "I will not." }]));
}

/// Tokens that the upstream tells apart are told apart here.
#[tokio::test]
async fn usage_has_its_details() {
    let body = json!({ "choices": [{ "message": { "role": "assistant", "content": "hi" }, "finish_reason": "stop" }],
        "usage": { "prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12,
            "prompt_tokens_details": { "cached_tokens": 3 }, "completion_tokens_details": { "reasoning_tokens": 2 } } });
    let stage = stage([Step::json(200, body)]).await;
    let usage = stage.respond(json!({})).await["usage"].clone();
    assert_eq!(usage["input_tokens_details"]["cached_tokens"], 3);
    assert_eq!(usage["output_tokens_details"]["reasoning_tokens"], 2);
}
