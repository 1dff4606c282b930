//! Functions as tools of declared agents.

use serde_json::json;

use super::{setup, start, told, with_function};
use crate::support::{ScriptedModel, Step};

/// A function is a tool of a declared agent: its schema from the type hints, its exception a result that the model reads.
#[tokio::test]
async fn a_function_is_a_tool() {
    let code = r#"
def add(a: int, b: int) -> int:
    """Adds two numbers.

    Args:
        a: One.
        b: The other.
    """
    if b < 0:
        raise ValueError("b is negative")
    return a + b
"#;
    let model = ScriptedModel::start([
        Step::calls([("c1", "add", r#"{"a": 2, "b": 3}"#), ("c2", "add", r#"{"a": 2, "b": -1}"#)]),
        Step::says("done"),
    ])
    .await;
    let gateway = start(setup(&model, &with_function("add", "50s"), code)).await;
    assert_eq!(gateway.chat("more", json!({})).answer().await.content(), "done");
    let tool = &model.request(1).await.json()["tools"][0]["function"];
    assert_eq!((&tool["description"], &tool["parameters"]["required"]), (&json!("Adds two numbers."), &json!(["a", "b"])));
    let told = told(&*model.request(2).await);
    assert!(told[0] == "5" && told[1].contains("b is negative"), "{told:?}");
    gateway.stop().await;
}

/// Scripts and code-defined agents call the same function, each its own way.
#[tokio::test]
async fn scripts_and_sdk_agents_call_functions() {
    let code = r#"
from agents import Agent

def shout(text: str) -> dict[str, str]:
    """Says it louder."""
    return {"said": text.upper()}

agent = Agent(name="More", instructions="Shout.")
"#;
    let script = r#"local python = require "std.python"
    return {
      post_response = function(reply)
        local result = python.call("agents.more:shout", { text = reply.content })
        local _, why = python.call("agents.more:shout", { words = 1 })
        reply.content = result.said .. " / " .. why
      end,
    }"#;
    let agent = r#"
  - name: more
    kind: sdk
    module: "agents.more:agent"
    model: scripted
    hooks: [scripts/h.lua]
    tools: [{ name: shout, provider: python, function: "agents.more:shout" }]
"#;
    let model = ScriptedModel::start([Step::calls([("c1", "shout", r#"{"text": "hi"}"#)]), Step::says("done")]).await;
    let gateway = start(setup(&model, agent, code).file("scripts/h.lua", script)).await;
    let answer = gateway.chat("more", json!({})).answer().await.content();
    assert!(answer.starts_with("DONE / ") && answer.contains("text"), "{answer}");
    assert_eq!(told(&*model.request(2).await), [r#"{"said":"HI"}"#]);
    gateway.stop().await;
}
