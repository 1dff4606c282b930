//! Code that cannot be loaded or fails: a clear error that names module and line, for that agent alone.

use std::process::Stdio;

use serde_json::json;

use super::{setup, start, told};
use crate::support::{Gateway, ScriptedModel, Setup, Step, programs};

/// Agents that cannot be loaded: the module and its code, the words that say why, and where.
const BROKEN: [(&str, &str, &str, &[&str]); 8] = [
    ("agents.nowhere:build", "", "", &["agents.nowhere"]),
    ("agents.empty:build", "empty", "x = 1\n", &["agents/empty.py", "build"]),
    ("agents.imports:build", "imports", "\n\nimport no_such_module\n", &["agents/imports.py:3", "no_such_module"]),
    ("agents.syntax:build", "syntax", "\ndef build(:\n", &["agents/syntax.py:2", "SyntaxError"]),
    ("agents.raises:build", "raises", "def build():\n    raise ValueError('no key')\n", &["agents/raises.py:2", "no key"]),
    ("agents.number:build", "number", "def build():\n    return 5\n", &["agents/number.py", "int"]),
    ("agents.exits:build", "exits", "import sys\nsys.exit(3)\n", &["agents/exits.py:2", "SystemExit"]),
    ("agents.run:build", "run", "def build():\n    pass\n", &["agents/run.py", "SDK"]),
];

async fn is_unavailable(gateway: &Gateway, name: &str, words: &[&str]) {
    gateway.chat(name, json!({})).answer().await.assert_error(503, "agent_unavailable");
    let about = gateway.get(&format!("/agents/{name}")).answer().await.text();
    assert!(words.iter().all(|words| about.contains(words)), "{name}: {words:?} in {about}");
}

/// Each is degraded and says why, `check` names them all and exits 1, and the others serve.
#[tokio::test]
async fn broken_code_degrades_its_agent_alone() {
    let model = ScriptedModel::start([Step::says("fine")]).await;
    let entries = BROKEN.iter().enumerate();
    let agents: String =
        entries.map(|(i, (module, ..))| format!("  - {{ name: broken{i}, kind: sdk, module: \"{module}\", model: scripted }}\n")).collect();
    let mut setup = setup(&model, &agents, "");
    for (_, file, code, _) in BROKEN.iter().filter(|(_, file, ..)| !file.is_empty()) {
        setup = setup.file(&format!("agents/{file}.py"), code);
    }
    let checked = setup.run(&["check"]).await;
    assert_eq!(checked.code, Some(1), "{checked:?}");
    for words in BROKEN.iter().flat_map(|(.., words)| *words) {
        assert!(checked.stderr.contains(words), "{words:?} in {}", checked.stderr);
    }
    let gateway = start(setup).await;
    for (i, (.., words)) in BROKEN.iter().enumerate() {
        is_unavailable(&gateway, &format!("broken{i}"), words).await;
    }
    assert_eq!(gateway.chat("Researcher", json!({})).answer().await.content(), "fine");
    gateway.stop().await;
}

/// Code that fails in a run: the client is told that it did, the log where. What a tool raises, the model reads.
#[tokio::test]
async fn code_that_fails_in_a_run() {
    let code = r#"
from agents import Agent, function_tool

class Raises:
    async def run(self, messages, context):
        raise ValueError("a secret of the run")

class NotJson:
    async def run(self, messages, context):
        return object()

class NotText:
    async def stream(self, messages, context):
        yield 5

@function_tool
def careless(n: int) -> str:
    """Raises."""
    raise LookupError(f"no entry {n}")

tool = Agent(name="tool", tools=[careless])
"#;
    let names = ["Raises", "NotJson", "NotText", "tool"];
    let agents: String =
        names.iter().map(|name| format!("  - {{ name: {name}, kind: sdk, module: \"agents.more:{name}\", model: scripted }}\n")).collect();
    let model = ScriptedModel::start([Step::calls([("a", "careless", r#"{"n": 7}"#)]), Step::says("sorry")]).await;
    let gateway = start(setup(&model, &agents, code)).await;
    for (name, logged) in [("Raises", "agents/more.py:6: ValueError: a secret"), ("NotJson", "`object`"), ("NotText", "`int`")] {
        let error = gateway.chat(name, json!({})).answer().await.assert_error(500, "agent_error");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(name) && !message.contains("secret") && !message.contains(".py"), "{message}");
        gateway.logged(logged).await;
    }
    assert_eq!(gateway.chat("tool", json!({})).answer().await.content(), "sorry");
    let told = told(&*model.request(2).await);
    assert!(told[0].contains("no entry 7"), "{told:?}");
    gateway.stop().await;
}

/// Without an SDK, and without its environment: the agent says what to install, and everything else serves.
#[tokio::test]
async fn without_an_sdk() {
    let venv = tempfile::tempdir().unwrap();
    let made = programs::python_module("venv").arg("--without-pip").arg(venv.path()).stdin(Stdio::null()).status().await.unwrap();
    assert!(made.success());
    let nowhere = venv.path().join("nowhere");
    for (path, words) in [(venv.path(), "openai-agents"), (nowhere.as_path(), "nowhere")] {
        let model = ScriptedModel::start([Step::says("plain")]).await;
        let setup: Setup = setup(&model, "", "").env("VENV", path.to_string_lossy());
        let gateway = setup.start().await;
        gateway.logged(words).await;
        is_unavailable(&gateway, "Researcher", &[words]).await;
        assert_eq!(gateway.chat("scripted", json!({})).answer().await.content(), "plain");
        gateway.stop().await;
    }
}
