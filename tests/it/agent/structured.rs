//! An answer in the form that the client asks for, and what of a request reaches the model whole.

use serde_json::{Value, json};

use super::{CONFIG, start};
use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::{reply, spoken};
use crate::support::{FakeMcp, Gateway, ScriptedModel, Step};

fn format() -> Value {
    let schema =
        json!({ "type": "object", "properties": { "city": { "type": "string" } }, "required": ["city"], "additionalProperties": false });
    json!({ "type": "json_schema", "json_schema": { "name": "place", "strict": true, "schema": schema } })
}

fn ends(text: &'static str, finish: &'static str) -> Step {
    Step::chat(move |e| reply(e, spoken(text), finish))
}

fn weather() -> Step {
    Step::calls([("a", "get_weather", r#"{"city":"Paris"}"#)])
}

/// What a client gets that asks for the form, streamed and not: text and end, or the error's code. And the requests that the model saw.
async fn asked(config: &str, steps: fn() -> Vec<Step>) -> (Result<(String, String), String>, Vec<Value>) {
    let mut outcomes = Vec::new();
    for streamed in [false, true] {
        let mcp = FakeMcp::start([Tool::weather()]).await;
        let model = ScriptedModel::start_all(steps()).await;
        let gateway = Gateway::start(config, [("LM", &model.url()), ("MCP", &mcp.url())]).await;
        mcp.until("the gateway knows the tools", |seen| seen.requests.iter().any(|r| r.json()["method"] == "tools/list")).await;
        let request = gateway.chat("Assistant", json!({ "response_format": format(), "stream": streamed }));
        let outcome = if streamed {
            let live = request.open().await;
            if live.head.start[1] == "200" {
                let said = crate::support::events::Streamed::read(live).await;
                said.assert_well_formed("Assistant");
                let pieces: Vec<Value> = said.chunks().into_iter().filter(|c| !c["choices"][0]["delta"]["content"].is_null()).collect();
                assert_eq!(pieces.len(), 2, "the opening, and the text at once: {pieces:?}");
                Ok((said.text(), said.finish()))
            } else {
                Err(live.answer().await.unwrap().json()["error"]["code"].as_str().unwrap().to_owned())
            }
        } else {
            let answer = request.answer().await;
            let body = answer.json();
            match answer.status() {
                200 => Ok((answer.content(), body["choices"][0]["finish_reason"].as_str().unwrap().to_owned())),
                _ => Err(body["error"]["code"].as_str().unwrap().to_owned()),
            }
        };
        outcomes.push((outcome, model.requests().iter().map(|request| request.json()).collect::<Vec<_>>()));
    }
    let streamed = outcomes.pop().unwrap();
    let whole = outcomes.pop().unwrap();
    assert_eq!((&streamed.0, streamed.1.len()), (&whole.0, whole.1.len()), "a stream is the whole in pieces");
    whole
}

fn config() -> String {
    CONFIG.replace("POLICIES", "")
}

fn fits(text: &str) -> Result<(String, String), String> {
    Ok((text.into(), "stop".into()))
}

/// Beside tools the form is not sent; the answer is asked for once more in it, without tools.
#[tokio::test]
async fn an_answer_is_asked_for_again_in_its_form() {
    let (got, requests) = asked(&config(), || vec![weather(), Step::says("Paris is sunny."), Step::says(r#"{"city": "Paris"}"#)]).await;
    assert_eq!(got, fits(r#"{"city": "Paris"}"#));
    for request in &requests[..2] {
        assert!(request.get("response_format").is_none() && request["tools"].is_array(), "{request}");
    }
    let last = &requests[2];
    assert_eq!(last["response_format"], format());
    assert!(last.get("tools").is_none() && last.get("tool_choice").is_none(), "{last}");
    let messages = last["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().rev().take(3).map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool"]);
    assert_eq!(messages[messages.len() - 2]["content"], "Paris is sunny.");
}

/// An answer that has the form leaves as it is, also out of a fence; text before a tool call is no answer.
#[tokio::test]
async fn an_answer_that_fits_is_not_asked_for_again() {
    let (got, requests) = asked(&config(), || vec![weather(), Step::says("```json\n{\"city\":\"Paris\"}\n```")]).await;
    assert_eq!((got, requests.len()), (fits(r#"{"city":"Paris"}"#), 2));
    let talks = || {
        let call =
            json!({ "tool_calls": [{ "index": 0, "id": "a", "function": { "name": "get_weather", "arguments": "{\"city\":\"Rome\"}" } }] });
        vec![Step::chat(move |e| reply(e, vec![json!({ "content": "Let me see." }), call], "tool_calls")), Step::says(r#"{"city":"Rome"}"#)]
    };
    assert_eq!(asked(&config(), talks).await.0, fits(r#"{"city":"Rome"}"#));
}

/// One that never fits is an error, and no half of it leaves.
#[tokio::test]
async fn an_answer_that_never_fits_is_an_error() {
    let (got, _) = asked(&config(), || vec![Step::says("Paris."), Step::says(r#"{"town": "Paris"}"#)]).await;
    assert_eq!(got, Err("upstream_error".into()));
}

/// One that was cut says so itself.
#[tokio::test]
async fn a_cut_answer_is_passed_on() {
    let (got, _) = asked(&config(), || vec![Step::says("Paris."), ends(r#"{"city": "Par"#, "length")]).await;
    assert_eq!(got, Ok((r#"{"city": "Par"#.into(), "length".into())));
}

/// A server that can hold to both gets both, at once.
#[tokio::test]
async fn a_server_may_take_form_and_tools() {
    let config = config().replace("api_key:", "repair: { response_format_with_tools: true }, api_key:");
    let (got, requests) = asked(&config, || vec![weather(), Step::says(r#"{"city": "Paris"}"#)]).await;
    assert_eq!(got, fits(r#"{"city": "Paris"}"#));
    assert!(requests.iter().all(|request| request["response_format"] == format() && request["tools"].is_array()));
    let (got, _) = asked(&config, || vec![Step::says("Paris.")]).await;
    assert_eq!(got, Err("upstream_error".into()), "it was asked for in its form, and is not asked for again");
}

/// The last call of a run at its limit has no tools, and so has the form.
#[tokio::test]
async fn a_last_call_has_the_form() {
    let config = CONFIG.replace("POLICIES", "max_tool_hops: 1");
    let (got, requests) = asked(&config, || vec![weather(), Step::says(r#"{"city": "Paris"}"#)]).await;
    assert_eq!(got, fits(r#"{"city": "Paris"}"#));
    assert_eq!(requests[1]["response_format"], format());
}

/// The client's own tools come before the answer, with the text beside them.
#[tokio::test]
async fn a_call_of_the_clients_is_no_answer() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let call = json!({ "tool_calls": [{ "index": 0, "id": "p", "function": { "name": "paint", "arguments": "{}" } }] });
    let model = ScriptedModel::start([Step::chat(move |e| reply(e, vec![json!({ "content": "I paint." }), call], "tool_calls"))]).await;
    let gateway = start("", &model, &mcp).await;
    let paint = json!([{ "type": "function", "function": { "name": "paint", "parameters": { "type": "object" } } }]);
    let body = gateway.chat("Assistant", json!({ "tools": paint, "response_format": format() })).answer().await.json();
    let choice = &body["choices"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("I paint."), &json!("tool_calls")));
}

/// Any object, in the words that the server knows.
#[tokio::test]
async fn any_object_is_a_schema() {
    for (repair, sent) in [("", "json_schema"), ("repair: { json_object_as_schema: false }, ", "json_object")] {
        let mcp = FakeMcp::start([Tool::weather()]).await;
        let model = ScriptedModel::start([Step::says("Paris."), Step::says("{}")]).await;
        let config = config().replace("api_key:", &format!("{repair}api_key:"));
        let gateway = Gateway::start(&config, [("LM", &model.url()), ("MCP", &mcp.url())]).await;
        mcp.until("the gateway knows the tools", |seen| seen.requests.iter().any(|r| r.json()["method"] == "tools/list")).await;
        let answer = gateway.chat("Assistant", json!({ "response_format": { "type": "json_object" } })).answer().await;
        assert_eq!(answer.content(), "{}");
        assert_eq!(model.request(2).await.json()["response_format"]["type"], sent);
    }
}

/// A schema that is none is the client's to mend.
#[tokio::test]
async fn a_schema_that_is_none_is_refused() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([]).await;
    let gateway = start("", &model, &mcp).await;
    let wrong = json!({ "type": "json_schema", "json_schema": { "name": "x", "schema": { "type": "objekt" } } });
    let error = gateway.chat("Assistant", json!({ "response_format": wrong })).answer().await.assert_error(400, "invalid_value");
    assert_eq!(error["param"], "response_format");
}

/// Parts of every kind reach the model as the client wrote them, on each hop.
#[tokio::test]
async fn parts_stay_whole() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let model = ScriptedModel::start([weather(), Step::says("Sunny.").after_tool("sunny")]).await;
    let gateway = start("", &model, &mcp).await;
    let parts = json!([
        { "type": "text", "text": "What is this?" },
        { "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low" } },
        { "type": "input_audio", "input_audio": { "data": "UklGRg==", "format": "wav" } },
        { "type": "file", "file": { "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0=" } },
        { "type": "made_up", "x": [1, null] },
    ]);
    let said = json!([
        { "role": "user", "content": parts },
        { "role": "assistant", "content": [{ "type": "text", "text": "A picture." }] },
        { "role": "user", "name": "ada", "content": parts },
    ]);
    assert_eq!(gateway.chat("Assistant", json!({ "messages": said })).answer().await.content(), "Sunny.");
    for n in [1, 2] {
        let received = model.request(n).await.json();
        assert_eq!(received["messages"].as_array().unwrap()[1..4], said.as_array().unwrap()[..], "request {n}");
    }
}
