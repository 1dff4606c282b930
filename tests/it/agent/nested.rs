//! Agents as tools of agents: the inner run's answer is the result, its tokens are the outer run's, and rights stay the caller's.

use serde_json::json;

use crate::support::{Gateway, ScriptedModel, Step};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents:
  - name: Editor
    model: editor
    tools: [{ name: ask_writer, provider: agent, agent: team/writer }]
  - { name: team/writer, model: writer, instructions: Write. }
auth: { keys: [{ id: all, key: key-of-all }, { id: few, key: key-of-few, models: [Editor] }] }
"#;

fn asks() -> Step {
    Step::calls([("a", "ask_writer", r#"{"input":"a poem"}"#)])
}

/// The writer reads the input alone; the editor reads what the writer wrote, and the client what the editor says.
#[tokio::test]
async fn its_answer_is_the_result() {
    let model = ScriptedModel::start([asks(), Step::says("Roses are red."), Step::says("Here it is.")]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    let answer = gateway.chat("Editor", json!({})).key("key-of-all").answer().await;
    assert_eq!(answer.content(), "Here it is.");
    let inner = model.request(2).await.json();
    assert_eq!((&inner["model"], inner["messages"].as_array().map(Vec::len)), (&json!("writer"), Some(2)));
    assert_eq!(inner["messages"][1]["content"], "a poem");
    let last = model.request(3).await.json();
    assert_eq!(last["messages"].as_array().unwrap().last().unwrap()["content"], "Roses are red.");
    let each = model.request(1).await.json();
    assert_eq!(each["tools"][0]["function"]["name"], "ask_writer");
}

/// A caller that may not use the writer does not reach it through the editor.
#[tokio::test]
async fn rights_are_the_callers() {
    let model = ScriptedModel::start([asks(), Step::says("I could not ask.")]).await;
    let gateway = Gateway::start(CONFIG, [("LM", &model.url())]).await;
    assert_eq!(gateway.chat("Editor", json!({})).key("key-of-few").answer().await.content(), "I could not ask.");
    let last = model.request(2).await.json();
    let result = last["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
    assert!(result.contains("not available"), "{result}");
}
