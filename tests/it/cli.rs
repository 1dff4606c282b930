//! The commands: `check`, `schema`, `init`, `serve`, and how a served process ends.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::gateway::Ran;
use crate::support::scripted_model::{chunk, spoken};
use crate::support::{ScriptedModel, Setup, Step, within};

const EXAMPLE: &str = include_str!("golden/example.yaml");

/// The example with the files that it names. The agent is of no SDK: the machine's Python may have none.
fn example() -> Setup {
    let agent = "class Researcher:\n    async def run(self, messages, context):\n        return ''\n\ndef build_agent():\n    return Researcher()\n";
    Setup::new(EXAMPLE).file("scripts/assistant.lua", "return {}").file("agents/researcher.py", agent).env("WEATHER_TOKEN", "x")
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/golden/config")
}

async fn check(config: &str) -> Ran {
    Setup::new(config).run(&["check"]).await
}

/// The example of the specification is a good configuration. A build that cannot run its Python agent says so and carries on.
#[tokio::test]
async fn the_example_is_good() {
    let ran = example().run(&["check", "--config", "config/gateway.yaml"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.stderr.contains("built without Python"), cfg!(not(feature = "python")), "{ran:?}");
}

/// And it is served.
#[tokio::test]
async fn the_example_is_served() {
    let gateway = example().start().await;
    let list = gateway.get("/v1/models").answer().await.json();
    let ids: Vec<&Value> = list["data"].as_array().unwrap().iter().map(|model| &model["id"]).collect();
    assert!(ids.contains(&&json!("Assistant")), "{list}");
}

/// Each broken configuration in golden/config is refused with exactly the faults that the file beside it lists.
#[tokio::test]
async fn faults_are_named_with_their_place() {
    let mut n_refused = 0;
    for entry in std::fs::read_dir(golden()).unwrap() {
        let expected = entry.unwrap().path();
        if expected.extension().is_none_or(|extension| extension != "expected") {
            continue;
        }
        let name = expected.file_stem().unwrap().to_string_lossy().into_owned();
        let config = if golden().join(&name).is_dir() { format!("{name}/gateway.yaml") } else { name.clone() };
        let wanted = std::fs::read_to_string(&expected).unwrap();
        let faults: Vec<&str> = wanted.lines().filter(|line| !line.is_empty() && !line.starts_with("warning: ")).collect();
        if faults.is_empty() {
            continue;
        }
        let ran = Setup::at(&golden()).run(&["check", "--config", &config]).await;
        assert_eq!(ran.code, Some(1), "{name}: {ran:?}");
        for fault in faults {
            assert!(ran.stderr.lines().any(|line| line.trim() == fault), "{name}: {fault:?} is missing in\n{}", ran.stderr);
        }
        n_refused += 1;
    }
    assert!(n_refused >= 10, "{n_refused} broken configurations");
}

/// No configuration at all is said in words.
#[tokio::test]
async fn no_configuration() {
    let ran = Setup::empty().run(&["check"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("config/gateway.yaml"), "{ran:?}");
    let ran = Setup::empty().run(&["serve"]).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("config/gateway.yaml"), "{ran:?}");
}

/// A configuration in JSON, and variables with and without defaults.
#[tokio::test]
async fn json_and_variables() {
    let setup = Setup::empty()
        .file("gateway.json", r#"{ "upstreams": { "lm": { "base_url": "${URL:-http://localhost:1/v1}", "retries": "${N}" } } }"#);
    let ran = setup.env("N", "3").run(&["check", "--config", "gateway.json"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// The schema is JSON Schema, an example fits it, and a typo does not.
#[tokio::test]
async fn the_schema_fits() {
    let ran = Setup::empty().run(&["schema"]).await;
    assert_eq!(ran.code, Some(0));
    let schema: Value = serde_json::from_str(&ran.stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let example = json!({
        "upstreams": { "lmstudio": { "base_url": "http://localhost:1234/v1", "retries": "${N}" } },
        "agents": [{ "name": "Assistant", "upstream": "lmstudio", "model": "m", "policies": { "timeout": "120s" } }],
    });
    let faults: Vec<String> = validator.iter_errors(&example).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:?}");
    assert!(!validator.is_valid(&json!({ "upstream": {} })));
}

/// `init` writes a starter that checks and serves as it is, and never writes over anything.
#[tokio::test]
async fn the_starter_works() {
    let setup = Setup::empty();
    let ran = setup.run(&["init", "."]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = setup.run(&["check"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let before = std::fs::read_to_string(setup.root().join("config/gateway.yaml")).unwrap();
    std::fs::write(setup.root().join("config/gateway.yaml"), format!("{before}# mine\n")).unwrap();
    let again = setup.run(&["init", "."]).await;
    assert_ne!(again.code, Some(0), "{again:?}");
    let after = std::fs::read_to_string(setup.root().join("config/gateway.yaml")).unwrap();
    assert!(after.ends_with("# mine\n"), "a second init has written over a file");
    let gateway = setup.env("MOONGATE_UPSTREAM", "demo").start().await;
    assert!(!gateway.get("/v1/models").answer().await.json()["data"].as_array().unwrap().is_empty());
}

/// Without LM Studio the demo model answers, streamed and not.
#[tokio::test]
async fn the_demo_answers() {
    let setup = Setup::new("upstreams: { demo: { kind: demo } }\nagents: [{ name: Assistant, model: demo-fast }]");
    let gateway = setup.start().await;
    for name in ["demo-fast", "Assistant"] {
        assert!(!gateway.chat(name, json!({})).answer().await.content().is_empty());
        let said = gateway.chat(name, json!({ "stream": true })).stream().await;
        said.assert_well_formed(name);
        assert!(!said.text().is_empty());
    }
}

/// An unknown command or flag is an error that says what there is.
#[tokio::test]
async fn a_wrong_command() {
    let ran = check("upstreams: {}").await;
    assert!(ran.code.is_some());
    let ran = Setup::empty().run(&["chekc"]).await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("check"), "{ran:?}");
    let help = Setup::empty().run(&["--help"]).await;
    assert!(["serve", "check", "schema", "init"].iter().all(|command| help.stdout.contains(command)), "{help:?}");
    assert!(Setup::empty().run(&["--version"]).await.stdout.contains(env!("CARGO_PKG_VERSION")));
}

/// An address that is taken is an error in words.
#[tokio::test]
async fn a_taken_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ran = Setup::new("upstreams: { demo: { kind: demo } }").run(&["serve", "--listen", &address]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains(&address), "{ran:?}");
}

/// SIGTERM: no new requests, those in flight end, then the process does, at once and with success.
#[tokio::test]
async fn a_drain() {
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let model = ScriptedModel::start([Step::chat(|mut e| async move {
        e.start("text/event-stream").await;
        for delta in spoken("half ") {
            e.event(&chunk(&delta, None)).await.unwrap();
        }
        gate.await.unwrap();
        for delta in spoken("whole") {
            e.event(&chunk(&delta, None)).await.unwrap();
        }
        e.event(&chunk(&json!({}), Some("stop"))).await.unwrap();
        e.send(b"data: [DONE]\n\n").await.unwrap();
        e.end().await;
    })])
    .await;
    let config = "upstreams: { lm: { base_url: \"${LM}\" } }\nagents: [{ name: Assistant, model: scripted }]";
    let mut gateway = Setup::new(config).env("LM", model.url()).start().await;
    let live = gateway.chat("Assistant", json!({ "stream": true })).open().await;
    gateway.signal(Signal::SIGTERM);
    gateway.refuses().await;
    open.send(()).unwrap();
    let said = within(10, "the end of the stream", crate::support::events::Streamed::read(live)).await;
    assert_eq!(said.text(), "half whole");
    assert!(said.done());
    let ended = std::time::Instant::now();
    assert!(gateway.ended().await.success());
    assert!(ended.elapsed() < std::time::Duration::from_secs(3), "{:?}", ended.elapsed());
}

/// An idle gateway ends at once.
#[tokio::test]
async fn an_idle_stop() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut gateway = Setup::new("upstreams: { demo: { kind: demo } }").start().await;
        let asked = std::time::Instant::now();
        gateway.signal(signal);
        assert!(gateway.ended().await.success(), "{signal}");
        assert!(asked.elapsed() < std::time::Duration::from_secs(2), "{signal}: {:?}", asked.elapsed());
    }
}
