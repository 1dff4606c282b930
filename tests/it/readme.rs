//! The README and the guide do what they say: configurations check, `curl` lines are answered, scripts and their tests run.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;

use crate::support::{Setup, within};

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).expect("there is such a page")
}

/// The README's fenced blocks of this language.
fn blocks(language: &str) -> Vec<String> {
    blocks_of("README.md", language)
}

fn blocks_of(name: &str, language: &str) -> Vec<String> {
    let text = page(name);
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(fence) = line.trim().strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| line.trim() != "```").collect();
        if fence == language {
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

/// The setup with every script of a page in it; the first line of each names its file.
fn with_scripts(mut setup: Setup, name: &str) -> Setup {
    for block in blocks_of(name, "lua") {
        let first = block.lines().next().unwrap_or_default();
        let file = first.trim_start_matches("-- ").split(':').next().unwrap_or_default().to_owned();
        assert!(file.starts_with("scripts/"), "the first line of a script names its file: {first}");
        setup = setup.file(&file, &block);
    }
    setup
}

/// Each `curl` command, continued lines joined.
fn curls() -> Vec<String> {
    let text = blocks("sh").into_iter().chain(blocks("bash")).chain(blocks("console")).collect::<Vec<_>>().join("\n");
    let joined = text.replace("\\\n", " ");
    joined.lines().map(|line| line.trim_start_matches("$ ").trim().to_owned()).filter(|line| line.starts_with("curl ")).collect()
}

/// Against the repository's own configuration with the demo model, every `curl` of the README succeeds.
#[tokio::test]
async fn its_curl_commands_are_answered() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let gateway = Setup::at(repository).env("MOONGATE_UPSTREAM", "demo").env("MOONGATE_MODEL", "demo-fast").start().await;
    let commands = curls();
    assert!(!commands.is_empty(), "the README shows how to ask the gateway");
    for command in commands {
        if command.contains(r#""researcher""#) && cfg!(not(feature = "python")) {
            // Its own test says what such a build answers.
            continue;
        }
        let here = command.replace("localhost:8080", &gateway.address.to_string()).replace("127.0.0.1:8080", &gateway.address.to_string());
        let mut shell = tokio::process::Command::new("bash");
        shell
            .args(["-c", &here.replacen("curl ", "curl --fail-with-body --silent --show-error ", 1)])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = within(60, &command, shell.output()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !text.is_empty(), "{command}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Every configuration in the README and in the page about access that is a whole one checks.
#[tokio::test]
async fn its_configurations_check() {
    for config in blocks("yaml").into_iter().chain(blocks_of("docs/access.md", "yaml")).filter(|block| block.contains("upstreams:")) {
        let ran = Setup::new(&config).run(&["check"]).await;
        assert_eq!(ran.code, Some(0), "{config}\n{}", ran.stderr);
    }
}

/// The repository's own configuration and agents in a folder of the test's, with the README's files written into it.
fn follower() -> Setup {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut setup = Setup::empty().env("MOONGATE_UPSTREAM", "demo").env("MOONGATE_MODEL", "demo-fast");
    for file in ["config/gateway.yaml", "agents/hello.yaml"] {
        setup = setup.file(file, &std::fs::read_to_string(repository.join(file)).unwrap());
    }
    let setup = with_scripts(setup, "README.md");
    let line = blocks("yaml").into_iter().find(|block| block.starts_with("hooks:")).expect("the line for agents/hello.yaml");
    let hello = std::fs::read_to_string(setup.root().join("agents/hello.yaml")).unwrap();
    setup.file("agents/hello.yaml", &format!("{hello}{line}\n"))
}

/// The newcomer's path: write a hook, see its effect, test it, break it, read the error.
#[tokio::test]
async fn its_script_can_be_followed() {
    let setup = follower();
    let tested = setup.run(&["test", "scripts/lucky_test.lua"]).await;
    assert_eq!(tested.code, Some(0), "{}{}", tested.stdout, tested.stderr);
    assert!(tested.stdout.contains("2 passed, 0 failed"), "{}", tested.stdout);
    let script = std::fs::read_to_string(setup.root().join("scripts/lucky.lua")).unwrap();
    let gateway = setup.start().await;
    let ask = || gateway.chat("hello", json!({ "messages": [{ "role": "user", "content": "Roll a die." }] })).answer();
    assert!(ask().await.content().contains("Rolled 6"));
    gateway.write("scripts/lucky.lua", &script.replace("on_tool_call", "on_toolcall"));
    let said = blocks("").into_iter().find(|block| block.starts_with("scripts/lucky.lua:")).expect("what the README says of it");
    gateway.logged(said.trim()).await;
    assert!(ask().await.content().contains("Rolled 6"), "the old one serves on");
}

/// The guide's scripts pass the guide's tests.
#[tokio::test]
async fn the_guides_scripts_are_tested() {
    let tested = with_scripts(Setup::empty(), "docs/scripting.md").run(&["test"]).await;
    assert_eq!(tested.code, Some(0), "{}{}", tested.stdout, tested.stderr);
    assert!(tested.stdout.contains("2 passed, 0 failed"), "{}", tested.stdout);
}
