//! MCP servers that are programs: their start, their environment, their end.

use std::path::Path;

use serde_json::{Value, json};

use crate::chat::{Object, ToolResult};
use crate::tools::mcp::{McpServer, Phase};

use super::*;

/// A server in shell: answers what it must, and runs what a call's tool is named after.
const SCRIPT: &str = r#"
echo "a word on stderr" >&2
sleep 1000 &
while read -r line; do
  id=$(printf '%s' "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p')
  case "$line" in
    *'"method":"initialize"'*) r='"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}';;
    *'"method":"tools/list"'*) r='"result":{"tools":[{"name":"env","inputSchema":{"type":"object"}}]}';;
    *'"name":"env"'*) r='"result":{"content":[{"type":"text","text":"'$(env | cut -d= -f1 | sort | tr '\n' ' ')'"}]}';;
    *'"name":"pids"'*) r='"result":{"content":[{"type":"text","text":"'$$' '$!'"}]}';;
    *'"name":"die"'*) exit 3;;
    *'"id"'*) r='"error":{"code":-32601,"message":"no"}';;
    *) continue;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,%s}\n' "$id" "$r"
done
wait
"#;

async fn start(config: Value) -> std::sync::Arc<McpServer> {
    let mut fields = json!({ "transport": "stdio", "command": "sh", "args": ["-c", SCRIPT] });
    fields.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let server = McpServer::new("sh", &serde_json::from_value(fields).unwrap(), Path::new("/tmp"));
    server.start(&tokio::runtime::Handle::current());
    server.wait_first_attempt(Duration::from_secs(10)).await;
    server
}

fn alive(pid: &str) -> bool {
    // A zombie is dead; so is a process that is not there.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_program_sees_only_what_it_is_given() {
    let server = start(json!({ "env": { "GIVEN": "x" } })).await;
    let result = server.call("env", Object::new()).await;
    assert!(!result.is_error, "{result:?} {:?}", server.status());
    let own = ["PWD", "SHLVL", "OLDPWD", "_"];
    for name in result.content.split_whitespace().filter(|name| !own.contains(name)) {
        assert!(crate::program::INHERITED.contains(&name) || name == "GIVEN", "{name} leaked");
    }
    assert!(result.content.contains("GIVEN") && result.content.contains("PATH"), "{result:?}");
}

#[tokio::test]
async fn a_program_that_dies_is_started_again() {
    let server = start(json!({})).await;
    let result = server.call("die", Object::new()).await;
    assert!(result.is_error && result.content.contains("broke during the call"), "{result:?}");
    server.until(|state| state.restarts == 1).await;
    assert!(!server.call("env", Object::new()).await.is_error);
}

#[tokio::test]
async fn stopping_ends_the_whole_group() {
    let server = start(json!({})).await;
    let ToolResult { content, .. } = server.call("pids", Object::new()).await;
    let pids: Vec<&str> = content.split_whitespace().collect();
    assert!(pids.len() == 2 && pids.iter().all(|pid| alive(pid)), "{content}");
    server.stop().await;
    assert!(matches!(server.shared.state.borrow().phase, Phase::Stopped));
    while pids.iter().any(|pid| alive(pid)) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    for (config, want) in [
        (json!({ "command": "no-such-program-here" }), "there is no program `no-such-program-here`"),
        (json!({ "cwd": "no/such/folder" }), "the folder /tmp/no/such/folder does not exist"),
        (json!({ "args": ["-c", "echo no key given >&2; exit 1"] }), "its last words: no key given"),
    ] {
        let status = start(config.clone()).await.status();
        assert_eq!(status.state, "failed", "{config}");
        assert!(status.last_error.as_deref().unwrap_or_default().contains(want), "{config}: {:?}", status.last_error);
    }
}
