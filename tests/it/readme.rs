//! The README's commands do what it says: its configurations check, its `curl` lines are answered.

use std::path::Path;
use std::process::Stdio;

use crate::support::{Setup, within};

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    std::fs::read_to_string(&path).expect("there is a README.md")
}

/// The fenced blocks of this language.
fn blocks(language: &str) -> Vec<String> {
    let text = readme();
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == format!("```{language}") {
            blocks.push(lines.by_ref().take_while(|line| line.trim() != "```").collect::<Vec<_>>().join("\n"));
        }
    }
    blocks
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
        let here = command.replace("localhost:8080", &gateway.address.to_string()).replace("127.0.0.1:8080", &gateway.address.to_string());
        let mut shell = tokio::process::Command::new("bash");
        shell
            .args(["-c", &here.replacen("curl ", "curl --fail-with-body --silent --show-error ", 1)])
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = within(30, &command, shell.output()).await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !text.is_empty(), "{command}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Every configuration in the README that is a whole one checks.
#[tokio::test]
async fn its_configurations_check() {
    for config in blocks("yaml").into_iter().filter(|block| block.contains("upstreams:")) {
        let ran = Setup::new(&config).run(&["check"]).await;
        assert_eq!(ran.code, Some(0), "{config}\n{}", ran.stderr);
    }
}
