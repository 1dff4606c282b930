//! Repairs that are switched off: what the server sends is then what it means.

use serde_json::json;

use super::{Case, deltas, fails, misbehave, says};
use crate::support::Setup;

/// Tags are text where nobody thinks in them.
#[tokio::test]
async fn tags_may_be_text() {
    let answer = deltas(&[json!({ "content": "<think>hm" }), json!({ "content": "</think>Yes." })], "stop");
    let case = Case { name: "tags", answer, outcome: says("<think>hm</think>Yes.") };
    misbehave(", repair: { think_tags: false }", vec![case]).await;
}

/// A server that makes calls up, and says `stop` with them: they are dropped, and what it calls on purpose is executed.
#[tokio::test]
async fn calls_with_stop_may_be_dropped() {
    let case = |name, answer, outcome| Case { name, answer, outcome };
    let call =
        json!({ "tool_calls": [{ "index": 0, "id": "a", "function": { "name": "get_weather", "arguments": "{\"city\":\"Paris\"}" } }] });
    misbehave(
        ", repair: { tool_calls_with_stop: false }",
        vec![
            case("made up", deltas(&[json!({ "content": "Yes." }), call.clone()], "stop"), says("Yes.")),
            case("nothing else", deltas(std::slice::from_ref(&call), "stop"), fails(502, "upstream_empty_response")),
            case("on purpose", deltas(&[call], "tool_calls"), says("sunny in Paris")),
        ],
    )
    .await;
}

/// A misspelt repair is refused, with the one that was meant.
#[tokio::test]
async fn misspelt_repairs_are_refused() {
    let config = "upstreams: { lm: { base_url: 'http://h/v1', repair: { think_tag: true, developer_role: sistem } } }";
    let ran = Setup::new(config).run(&["check"]).await;
    assert_eq!(ran.code, Some(1));
    let said = format!("{}{}", ran.stdout, ran.stderr);
    assert!(said.contains("upstreams.lm.repair.think_tag") && said.contains("think_tags"), "{said}");
    assert!(said.contains("upstreams.lm.repair.developer_role") && said.contains("system"), "{said}");
}
