//! A gateway without a Python worker beside it, as it is built without a libpython: all but Python works, and Python says so.

use serde_json::json;

use crate::support::{ScriptedModel, Setup, Step};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents:
  - { name: Researcher, kind: sdk, module: "agents.researcher:build_agent", model: scripted }
  - { name: plain, model: scripted }
  - { name: tooled, model: scripted, tools: [{ name: add, provider: python, function: "agents.tools:add" }] }
"#;

const WHY: &str = "built without Python";

/// The binary alone, in a folder where nothing stands beside it.
#[tokio::test]
async fn an_agent_in_python_says_so() {
    let alone = tempfile::tempdir().unwrap();
    let binary = alone.path().join("moongate");
    std::fs::copy(env!("CARGO_BIN_EXE_moongate"), &binary).unwrap();
    let model = ScriptedModel::start([Step::says("plain words")]).await;
    let setup = Setup::new(CONFIG).env("LM", model.url()).binary(&binary);
    let checked = setup.run(&["check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stderr.contains("warning") && checked.stderr.contains(WHY), "{checked:?}");
    let gateway = setup.start().await;
    for agent in ["Researcher", "tooled"] {
        gateway.chat(agent, json!({})).answer().await.assert_error(503, "agent_unavailable");
        let about = gateway.get(&format!("/agents/{agent}")).answer().await.text();
        assert!(about.contains(WHY), "{about}");
    }
    gateway.logged(WHY).await;
    assert_eq!(gateway.chat("plain", json!({})).answer().await.content(), "plain words");
    gateway.stop().await;
}
