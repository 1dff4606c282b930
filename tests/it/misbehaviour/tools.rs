//! Tool calls as servers garble them: each call is executed once, with its own arguments, and has its own result.

use serde_json::{Value, json};

use super::{Bad, Case, chunk, deltas, events, gateway, misbehave, raw, says};
use crate::support::fake_mcp::Tool;
use crate::support::{FakeMcp, ScriptedModel, Step};

const PARIS: &str = r#"{"city":"Paris"}"#;
const ROME: &str = r#"{"city":"Rome"}"#;

/// One `tool_calls` delta for each of these.
fn pieces(calls: &[Value]) -> Bad {
    deltas(&calls.iter().map(|call| json!({ "tool_calls": [call] })).collect::<Vec<_>>(), "tool_calls")
}

fn call(name: &str, arguments: impl Into<Value>) -> Value {
    json!({ "type": "function", "function": { "name": name, "arguments": arguments.into() } })
}

fn with(mut call: Value, fields: Value) -> Value {
    for (name, value) in fields.as_object().expect("fields") {
        call[name] = value.clone();
    }
    call
}

/// Calls whose numbers or ids are missing, empty, repeated or wrong.
#[tokio::test]
async fn calls_are_told_apart() {
    let case = |name, answer, outcome| Case { name, answer, outcome };
    let weather = |arguments: &str| call("get_weather", arguments);
    let more = |arguments: &str| json!({ "function": { "arguments": arguments } });
    let both = || says("sunny in Paris; sunny in Rome");
    let one = || says("sunny in Paris");
    misbehave(
        "",
        vec![
            case("no index, no id", pieces(&[weather(PARIS)]), one()),
            case("no index, no id, in pieces", pieces(&[weather(""), more(r#"{"city":"#), more(r#""Paris"}"#)]), one()),
            case(
                "no index, two calls",
                pieces(&[with(weather(PARIS), json!({ "id": "a" })), with(weather(ROME), json!({ "id": "b" }))]),
                both(),
            ),
            case("no index, no id, two calls", pieces(&[weather(PARIS), weather(ROME)]), both()),
            case(
                "empty ids",
                pieces(&[with(weather(PARIS), json!({ "index": 0, "id": "" })), with(weather(ROME), json!({ "index": 1, "id": "" }))]),
                both(),
            ),
            case(
                "one id twice",
                pieces(&[with(weather(PARIS), json!({ "index": 0, "id": "a" })), with(weather(ROME), json!({ "index": 1, "id": "a" }))]),
                both(),
            ),
            case(
                "one index, two ids",
                pieces(&[with(weather(PARIS), json!({ "index": 0, "id": "a" })), with(weather(ROME), json!({ "index": 0, "id": "b" }))]),
                both(),
            ),
            case(
                "one index, two ids, in pieces",
                pieces(&[
                    with(weather(""), json!({ "index": 0, "id": "a" })),
                    with(more(PARIS), json!({ "index": 0 })),
                    with(weather(""), json!({ "index": 0, "id": "b" })),
                    with(more(ROME), json!({ "index": 0 })),
                ]),
                both(),
            ),
            case(
                "one index, no ids",
                pieces(&[with(weather(PARIS), json!({ "index": 0 })), with(weather(ROME), json!({ "index": 0 }))]),
                both(),
            ),
            case(
                "id and name in every piece",
                pieces(&[
                    with(weather(r#"{"city":"#), json!({ "index": 0, "id": "a" })),
                    with(weather(r#""Paris"}"#), json!({ "index": 0, "id": "a" })),
                ]),
                one(),
            ),
            case(
                "an empty name in later pieces",
                pieces(&[
                    with(weather(r#"{"city":"#), json!({ "index": 0, "id": "a" })),
                    with(call("", r#""Paris"}"#), json!({ "index": 0, "id": "" })),
                ]),
                one(),
            ),
            case(
                "an index from afar",
                pieces(&[
                    with(weather(PARIS), json!({ "index": 7, "id": "a" })),
                    with(weather(ROME), json!({ "index": u64::MAX, "id": "b" })),
                ]),
                both(),
            ),
            case("a negative index", pieces(&[with(weather(PARIS), json!({ "index": -1, "id": "a" }))]), one()),
            case("no function around it", pieces(&[json!({ "index": 0, "id": "a", "name": "get_weather", "arguments": PARIS })]), one()),
            case("no list around it", deltas(&[json!({ "tool_calls": weather(PARIS) })], "tool_calls"), one()),
            case(
                "one id twice in a whole answer",
                raw(
                    "application/json",
                    json!({ "choices": [{ "finish_reason": "tool_calls", "message": {
            "tool_calls": [with(weather(PARIS), json!({ "id": "a" })), with(weather(ROME), json!({ "id": "a" }))] } }] })
                    .to_string(),
                ),
                both(),
            ),
        ],
    )
    .await;
}

/// Arguments that are no string, or come more than once.
#[tokio::test]
async fn arguments_of_any_form() {
    let case = |name, answer| Case { name, answer, outcome: says("sunny in Paris") };
    let piece = |arguments: &str| json!({ "index": 0, "function": { "arguments": arguments } });
    let first = |arguments: &str| with(call("get_weather", arguments), json!({ "index": 0, "id": "a" }));
    misbehave(
        "",
        vec![
            case("an object", pieces(&[with(call("get_weather", json!({ "city": "Paris" })), json!({ "index": 0, "id": "a" }))])),
            case("null at first", pieces(&[with(call("get_weather", Value::Null), json!({ "index": 0, "id": "a" })), piece(PARIS)])),
            case("all so far in every piece", pieces(&[first(""), piece("{"), piece(r#"{"city""#), piece(r#"{"city":"Pa"#), piece(PARIS)])),
            case("all once more at the end", pieces(&[first(""), piece(r#"{"city":"#), piece(r#""Paris"}"#), piece(PARIS)])),
            case("all twice", pieces(&[first(PARIS), piece(PARIS), piece("")])),
        ],
    )
    .await;
}

/// Calls whose end says something else.
#[tokio::test]
async fn ends_that_hide_calls() {
    let case = |name, answer| Case { name, answer, outcome: says("sunny in Paris") };
    let weather = || json!({ "tool_calls": [with(call("get_weather", PARIS), json!({ "index": 0, "id": "a" }))] });
    let mut no_end = events(&[chunk(weather(), None)]);
    no_end.body.extend_from_slice(b"data: [DONE]\n\n");
    misbehave(
        "",
        vec![
            case("stop", deltas(&[weather()], "stop")),
            case("function_call", deltas(&[weather()], "function_call")),
            case("length of its own", deltas(&[weather()], "eos")),
            case("no reason", no_end),
            case("a call behind the end", events(&[chunk(json!({}), Some("stop")), chunk(weather(), None)])),
            case(
                "a function of old",
                deltas(
                    &[
                        json!({ "function_call": { "name": "get_weather", "arguments": "" } }),
                        json!({ "function_call": { "arguments": r#"{"city":"# } }),
                        json!({ "function_call": { "arguments": r#""Paris"}"# } }),
                    ],
                    "function_call",
                ),
            ),
            case("a thought before", deltas(&[json!({ "content": "<think>" }), json!({ "content": "hm</think>" }), weather()], "stop")),
        ]
        .into_iter()
        .map(|case| match case.name {
            "a thought before" => Case { outcome: super::Outcome::Says { text: "sunny in Paris", thought: "hm" }, ..case },
            _ => case,
        })
        .collect(),
    )
    .await;
}

/// A server that counts its ids from the start in each answer: those of a later turn are new all the same.
#[tokio::test]
async fn ids_of_each_turn_are_new() {
    let mcp = FakeMcp::start([Tool::weather()]).await;
    let again = |city: &'static str| Step::calls([("call_0", "get_weather", city)]);
    let model = ScriptedModel::start([again(PARIS), again(ROME), Step::says("Good.").after_tool("Rome")]).await;
    let gateway = gateway("", &model, &mcp).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "Good.");
    let last = model.request(3).await.json();
    let messages = last["messages"].as_array().unwrap();
    let asked: Vec<&Value> = messages.iter().filter_map(|message| message["tool_calls"].get(0)).map(|call| &call["id"]).collect();
    let answered: Vec<&Value> =
        messages.iter().filter(|message| message["role"] == "tool").map(|message| &message["tool_call_id"]).collect();
    assert_eq!(asked, answered);
    assert!(asked.len() == 2 && asked[0] != asked[1], "{asked:?}");
}
