//! Saved code is live, broken code is not.

use serde_json::json;

use super::{PATIENCE, setup, start, told};
use crate::support::scripted_model::{asked, reply};
use crate::support::{ScriptedModel, Step, within};

/// A saved module serves the next run; one that cannot be imported is refused, and the old one serves on.
#[tokio::test]
async fn saved_code_is_live() {
    let code = |word: &str| format!("class Echo:\n    async def run(self, messages, context):\n        return {word:?}\n");
    let model = ScriptedModel::start([]).await;
    let agents = r#"  - { name: echo, kind: sdk, module: "agents.more:Echo", model: scripted }"#;
    let gateway = start(setup(&model, agents, &code("one"))).await;
    let says = async || gateway.chat("echo", json!({})).answer().await.content();
    assert_eq!(says().await, "one");
    gateway.write("agents/more.py", &code("two"));
    within(PATIENCE, "the new code", gateway.logged("configuration reloaded")).await;
    gateway.write("agents/more.py", "class Echo(\n");
    within(PATIENCE, "the refusal", gateway.logged("works now and would not")).await;
    assert!(gateway.log().contains("agents/more.py:1"), "{}", gateway.log());
    assert_eq!(says().await, "two");
    gateway.stop().await;
}

/// A run that began before its code was saved ends with the code that it began with.
#[tokio::test]
async fn a_run_in_flight_keeps_its_code() {
    let code = |word: &str| {
        format!(
            r#"
from agents import Agent, function_tool

@function_tool
def word() -> str:
    """Tells the word."""
    return "{word}"

agent = Agent(name="More", tools=[word])
"#
        )
    };
    let (saved, wait_saved) = tokio::sync::oneshot::channel::<()>();
    let call = [("c1", "word", "{}")];
    let model = ScriptedModel::start([
        Step::chat(move |e| async move {
            wait_saved.await.unwrap();
            reply(e, asked(&call), "tool_calls").await;
        }),
        Step::says("first"),
        Step::calls(call),
        Step::says("second"),
    ])
    .await;
    let agents = r#"  - { name: more, kind: sdk, module: "agents.more:agent", model: scripted }"#;
    let gateway = start(setup(&model, agents, &code("old"))).await;
    let run = tokio::spawn(gateway.chat("more", json!({})).answer());
    model.request(1).await;
    gateway.write("agents/more.py", &code("new"));
    within(PATIENCE, "the new code", gateway.logged("configuration reloaded")).await;
    saved.send(()).unwrap();
    assert_eq!(within(PATIENCE, "the run", run).await.unwrap().content(), "first");
    assert_eq!(told(&*model.request(2).await), ["old"]);
    assert_eq!(gateway.chat("more", json!({})).answer().await.content(), "second");
    assert_eq!(told(&*model.request(4).await), ["new"]);
    gateway.stop().await;
}
