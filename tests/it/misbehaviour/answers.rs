//! Answers in a form of their own: thoughts, parts, odd ends, odd numbers. The client reads the one form.

use serde_json::{Value, json};

use super::{Bad, Case, Ending, Outcome, chunk, deltas, events, misbehave, raw, says};

fn thinks(text: &'static str, thought: &'static str) -> Outcome {
    Outcome::Says { text, thought }
}

fn spoken(pieces: &[&str]) -> Bad {
    deltas(&pieces.iter().map(|piece| json!({ "content": piece })).collect::<Vec<_>>(), "stop")
}

fn thought(fields: Value) -> Bad {
    deltas(&[fields, json!({ "content": "Yes." })], "stop")
}

fn completion(message: Value) -> Value {
    json!({ "id": "c", "object": "chat.completion", "created": 1, "model": "scripted",
        "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] })
}

fn costing(usage: Value) -> Bad {
    events(&[chunk(json!({ "content": "Yes." }), None), chunk(json!({}), Some("stop")), json!({ "choices": [], "usage": usage })])
}

/// A thought leaves as `reasoning_content`, however it is written.
#[tokio::test]
async fn thoughts_leave_in_one_form() {
    let case = |name, answer, outcome| Case { name, answer, outcome };
    misbehave(
        "",
        vec![
            case("tags in one piece", spoken(&["<think>hm</think>Yes."]), thinks("Yes.", "hm")),
            case("tags in many pieces", spoken(&["<th", "ink>\nhm ", "so", "</thi", "nk>\n", "\nYes."]), thinks("Yes.", "hm so")),
            case("tags behind white space", spoken(&["\n", " <think>", "hm\n", "</think>", "\n\n", "Yes."]), thinks("Yes.", "hm")),
            case("tags with nothing between", spoken(&["<think>\n\n</think>\n\nYes."]), thinks("Yes.", "")),
            case("a tag that never closes", spoken(&["<think>hm", " so"]), thinks("", "hm so")),
            case("a tag in the middle", spoken(&["a <think>b</think>"]), says("a <think>b</think>")),
            case("something like a tag", spoken(&["<thin", "g> is"]), says("<thing> is")),
            case("half a tag at the end", spoken(&["<thi"]), says("<thi")),
            case("reasoning", thought(json!({ "reasoning": "hm" })), thinks("Yes.", "hm")),
            case("an empty spelling beside another", thought(json!({ "reasoning_content": "", "reasoning": "hm" })), thinks("Yes.", "hm")),
            case("an object", thought(json!({ "reasoning": { "content": "hm" } })), thinks("Yes.", "hm")),
            case("details", thought(json!({ "reasoning_details": [{ "type": "reasoning.text", "text": "hm" }] })), thinks("Yes.", "hm")),
            case(
                "details beside text",
                thought(json!({ "reasoning": "hm", "reasoning_details": [{ "type": "reasoning.text", "text": "hm" }] })),
                thinks("Yes.", "hm"),
            ),
            case(
                "a part",
                thought(json!({ "content": [{ "type": "thinking", "thinking": [{ "type": "text", "text": "hm" }] }] })),
                thinks("Yes.", "hm"),
            ),
            case(
                "a whole answer with tags",
                raw("application/json", completion(json!({ "content": "<think>hm</think>\nYes." })).to_string()),
                thinks("Yes.", "hm"),
            ),
        ],
    )
    .await;
}

/// Content that is no string, or comes under another name.
#[tokio::test]
async fn content_of_any_form() {
    let case = |name, answer, outcome| Case { name, answer, outcome };
    let parts = json!([{ "type": "text", "text": "Y" }, { "type": "text", "text": "es." }]);
    misbehave("", vec![
        case("null", deltas(&[json!({ "content": null }), json!({ "content": "Yes." }), json!({ "content": null })], "stop"), says("Yes.")),
        case("parts", deltas(&[json!({ "content": parts })], "stop"), says("Yes.")),
        case("parts of a whole", raw("application/json", completion(json!({ "content": parts })).to_string()), says("Yes.")),
        case("text", events(&[json!({ "choices": [{ "text": "Yes.", "finish_reason": "stop" }] })]), says("Yes.")),
        case("roles", deltas(&[json!({ "role": "assistant", "content": "Y" }), json!({ "role": "assistant", "content": "es." })], "stop"),
            says("Yes.")),
        case("no index", events(&[json!({ "choices": [{ "delta": { "content": "Yes." } }] }), json!({ "choices": [{ "finish_reason": "stop" }] })]),
            says("Yes.")),
        case("chunks of nothing", events(&[json!({}), json!({ "choices": [] }), json!({ "choices": null }), json!({ "choices": [null, 7] }),
            chunk(json!(null), None), chunk(json!({ "content": "Yes." }), Some("stop"))]), says("Yes.")),
        case("an escaped NUL", deltas(&[json!({ "content": "a\u{0}b" })], "stop"), says("a\u{0}b")),
        case("an event for a browser", events(&[
            json!({ "event": { "type": "execute", "data": {} }, "choices": [{ "delta": { "content": "Yes." }, "finish_reason": "stop" }] })]),
            says("Yes.")),
    ])
    .await;
}

/// Answers of which the header says one thing and the body another.
#[tokio::test]
async fn bodies_that_are_not_what_they_say() {
    let case = |name, answer, outcome| Case { name, answer, outcome };
    let whole = || completion(json!({ "content": "Yes." }));
    let stream = || spoken(&["Y", "es."]).body;
    let mut marked = "\u{feff}".as_bytes().to_vec();
    marked.extend(stream());
    misbehave(
        "",
        vec![
            case("a whole answer", raw("application/json", whole().to_string()), says("Yes.")),
            case("a whole answer that says it is events", raw("text/event-stream", whole().to_string()), says("Yes.")),
            case("the same over many lines", raw("text/event-stream", format!("{:#}\n", whole())), says("Yes.")),
            case("events that say they are JSON", raw("application/json", stream()), says("Yes.")),
            case("events that say they are text", raw("text/plain; charset=utf-8", stream()), says("Yes.")),
            case(
                "events behind comments that say they are JSON",
                raw("application/json", [b": hi\n\n".to_vec(), stream()].concat()),
                says("Yes."),
            ),
            case("events behind a mark", raw("application/json", marked), says("Yes.")),
            case("a whole answer as an event", raw("text/event-stream", format!("data: {}\n\n", whole())), says("Yes.")),
            case(
                "JSON lines",
                raw("application/json", format!("{}\n{}\n", chunk(json!({ "content": "Yes." }), None), chunk(json!({}), Some("stop")))),
                says("Yes."),
            ),
        ],
    )
    .await;
}

/// Ends of every kind that leave nothing out.
#[tokio::test]
async fn ends_that_are_ends() {
    let case = |name, answer, outcome| Case { name, answer, outcome };
    let ended = || events(&[chunk(json!({ "content": "Yes." }), None), chunk(json!({}), Some("stop"))]);
    let ends = |finish: &str| deltas(&[json!({ "content": "Yes." })], finish);
    let mut garbage = ended();
    garbage.body.extend_from_slice(b"data: {\"oops\n\n");
    let mut no_reason = events(&[chunk(json!({ "content": "Yes." }), None)]);
    no_reason.body.extend_from_slice(b"data: [DONE]\n\n");
    misbehave(
        "",
        vec![
            case("no [DONE]", ended(), says("Yes.")),
            case("no reason", no_reason, says("Yes.")),
            case("a reset behind the end", ended().ending(Ending::Reset), says("Yes.")),
            case("silence behind the end", ended().ending(Ending::Silence), says("Yes.")),
            case("garbage behind the end", garbage, says("Yes.")),
            case(
                "words behind the end",
                events(&[
                    chunk(json!({ "content": "Y" }), Some("stop")),
                    chunk(json!({ "content": "es." }), None),
                    chunk(json!({}), Some("stop")),
                ]),
                says("Yes."),
            ),
            case("an unknown reason", ends("eos_token"), says("Yes.")),
            case("an empty reason", events(&[chunk(json!({ "content": "Yes." }), Some("")), chunk(json!({}), Some("stop"))]), says("Yes.")),
            case("a length of its own", ends("MAX_TOKENS"), Outcome::Ends { text: "Yes.", finish: "length" }),
            case("length", ends("length"), Outcome::Ends { text: "Yes.", finish: "length" }),
            case("calls that are none", ends("tool_calls"), says("Yes.")),
        ],
    )
    .await;
}

/// Usage wherever it stands; numbers that are none do not count, and bring nothing down.
#[tokio::test]
async fn usage_of_any_form() {
    let case = |name, answer, tokens| Case { name, answer, outcome: Outcome::Costs { text: "Yes.", tokens } };
    let with = |place: &str, value: Value| {
        let mut last = chunk(json!({}), Some("stop"));
        last[place] = value;
        events(&[chunk(json!({ "content": "Yes." }), None), last])
    };
    let mut within = chunk(json!({}), Some("stop"));
    within["choices"][0]["usage"] = json!({ "prompt_tokens": 3, "completion_tokens": 4 });
    let mut everywhere = [chunk(json!({ "content": "Yes." }), None), chunk(json!({}), Some("stop"))];
    everywhere[0]["usage"] = json!({ "prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4 });
    everywhere[1]["usage"] = json!({ "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 });
    misbehave(
        "",
        vec![
            case("in the last chunk", with("usage", json!({ "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 })), 7),
            case("without its sum", costing(json!({ "prompt_tokens": 3, "completion_tokens": 4 })), 7),
            case("in the choice", events(&[chunk(json!({ "content": "Yes." }), None), within]), 7),
            case("in a field of the vendor's", with("x_groq", json!({ "usage": { "prompt_tokens": 3, "completion_tokens": 4 } })), 7),
            case("in every chunk", events(&everywhere), 7),
            case("fractions", costing(json!({ "prompt_tokens": 3.0, "completion_tokens": 4.0, "total_tokens": 7.0 })), 7),
            case("digits", costing(json!({ "prompt_tokens": "3", "completion_tokens": "4" })), 7),
            case("negative", costing(json!({ "prompt_tokens": -3, "completion_tokens": 4 })), 4),
            case("null", costing(json!({ "prompt_tokens": null, "completion_tokens": 4, "prompt_tokens_details": null })), 4),
            case("huge", costing(json!({ "prompt_tokens": u64::MAX, "completion_tokens": u64::MAX, "total_tokens": u64::MAX })), 0),
            case("words", costing(json!("many")), 0),
            case(
                "an empty one behind a full one",
                events(&[
                    chunk(json!({ "content": "Yes." }), None),
                    chunk(json!({}), Some("stop")),
                    json!({ "choices": [], "usage": { "prompt_tokens": 3, "completion_tokens": 4 } }),
                    json!({ "choices": [], "usage": {} }),
                ]),
                7,
            ),
        ],
    )
    .await;
}
