//! Real MCP servers: npm's `server-everything` over each transport, Python's `mcp-server-time` over stdio.

use std::process::Stdio;

use nix::sys::signal::Signal;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;

use crate::support::programs::{self, SERVER_EVERYTHING};
use crate::support::{Gateway, ScriptedModel, Setup, Step, within};

const AGENT: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents: [{ name: Assistant, model: scripted, tools: [{ provider: mcp, mcp_server: real, include: ["*"] }] }]
"#;

/// A gateway whose agent has all tools of the server described by `server`.
async fn start(model: &ScriptedModel, server: &str, env: &[(&str, &str)]) -> Gateway {
    let setup = Setup::new(&format!("{AGENT}mcp_servers: {{ real: {server} }}\n"));
    let setup = env.iter().fold(setup, |setup, (name, value)| setup.env(name, *value));
    setup.env("LM", model.url()).env("EVERYTHING", programs::file(SERVER_EVERYTHING).to_string_lossy()).start().await
}

/// The npm server as a process of its own, on a free port.
async fn serve_everything(transport: &str) -> (Child, u16) {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = programs::node(SERVER_EVERYTHING);
    command
        .arg(transport)
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().expect("node starts");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let listening = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(&port.to_string()) {
                return;
            }
        }
        panic!("the server has ended")
    };
    within(20, "the MCP server", listening).await;
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (child, port)
}

fn calls(name: &'static str, arguments: &'static str) -> Step {
    Step::calls([("a", name, arguments)])
}

/// A sum by the server behind the gateway, whichever way it is reached; then an error that the server itself finds.
async fn adds_up(server: &str) {
    let model = ScriptedModel::start([
        calls("get-sum", r#"{"a": 20, "b": 22}"#),
        calls("echo", r#"{"message": "hi é"}"#).after_tool("42"),
        Step::says("done").after_tool("hi é"),
    ])
    .await;
    let gateway = start(&model, server, &[]).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "done");
    let offered = model.request(1).await.json()["tools"].as_array().unwrap().len();
    assert!(offered >= 10, "{offered} tools");
}

/// Streamable HTTP.
#[tokio::test]
async fn over_http() {
    let (_server, port) = serve_everything("streamableHttp").await;
    adds_up(&format!("{{ transport: http, url: 'http://localhost:{port}/mcp' }}")).await;
}

/// The HTTP+SSE transport of 2024-11-05.
#[tokio::test]
async fn over_sse() {
    let (_server, port) = serve_everything("sse").await;
    adds_up(&format!("{{ transport: sse, url: 'http://localhost:{port}/sse' }}")).await;
}

/// Standard input and output.
#[tokio::test]
async fn over_stdio() {
    adds_up(r#"{ transport: stdio, command: node, args: ["${EVERYTHING}", stdio] }"#).await;
}

/// A child process sees the environment that its configuration gives it, and no secret of the gateway's.
#[tokio::test]
async fn a_child_sees_its_own_environment() {
    let model = ScriptedModel::start([calls("get-env", "{}"), Step::says("done").after_tool("given-value")]).await;
    let server = r#"{ transport: stdio, command: node, args: ["${EVERYTHING}", stdio], env: { GIVEN: given-value } }"#;
    let gateway = start(&model, server, &[("GATEWAY_SECRET", "secret-of-the-gateway")]).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "done");
    let second = model.request(2).await;
    assert!(!second.mentions("GATEWAY_SECRET") && !second.mentions("secret-of-the-gateway"));
}

/// The newest protocol, spoken by a Python server over stdio.
#[tokio::test]
async fn a_python_server() {
    let time = programs::file(".venv/bin/mcp-server-time");
    let model = ScriptedModel::start([
        calls("convert_time", r#"{"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"}"#),
        Step::says("done").after_tool("21:00"),
    ])
    .await;
    let server = r#"{ transport: stdio, command: "${TIME}", args: [--local-timezone, UTC] }"#;
    let gateway = start(&model, server, &[("TIME", &time.to_string_lossy())]).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "done");
}

/// The processes whose parent is this one, by their ids.
fn children(parent: u32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
    let parent_of = |id: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    processes.filter(|id| parent_of(id) == Some(parent)).collect()
}

/// A child that dies in the middle of a call costs that call; a later one finds a new child. With the gateway, its children end.
#[tokio::test]
async fn a_child_that_dies_is_replaced() {
    let model = ScriptedModel::start([
        calls("die", "{}"),
        Step::says("it died"),
        calls("alive", "{}"),
        Step::says("done").after_tool("alive and well"),
    ])
    .await;
    let (python, script) = (programs::file(".venv/bin/python"), programs::file("tests/clients/mortal_server.py"));
    let env = [("PYTHON", &*python.to_string_lossy()), ("SCRIPT", &*script.to_string_lossy())];
    let mut gateway = start(&model, r#"{ transport: stdio, command: "${PYTHON}", args: ["${SCRIPT}"] }"#, &env).await;
    let first = children(gateway.process_id());
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "it died");
    within(20, "the new child", async {
        while gateway.get("/agents/Assistant").answer().await.json()["status"] != "ready" || children(gateway.process_id()) == first {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "done");
    let second = children(gateway.process_id());
    assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
    gateway.signal(Signal::SIGTERM);
    assert!(gateway.ended().await.success());
    assert!(!std::path::Path::new(&format!("/proc/{}", second[0])).exists(), "the child has outlived its gateway");
}
