//! Saved code is live, broken code is not.

use serde_json::json;

use super::{PATIENCE, setup, start};
use crate::support::{ScriptedModel, within};

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
