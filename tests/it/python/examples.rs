//! The examples in agents/, as they are shipped: on the demo upstream, through the official client.

use std::process::Stdio;

use super::PATIENCE;
use crate::support::{Setup, programs, within};

/// Streamed and not, each calls its own tools and hands over.
#[tokio::test]
async fn they_run_on_the_demo() {
    let root = programs::file("Cargo.toml").parent().unwrap().to_owned();
    let gateway = Setup::at(&root).env("MOONGATE_UPSTREAM", "demo").env("MOONGATE_MODEL", "demo-fast").start().await;
    within(PATIENCE, "the Python worker", gateway.logged("Python worker ready")).await;
    let mut client = programs::python("tests/clients/sdk_agents.py");
    client.arg(gateway.base_url()).stdin(Stdio::null()).kill_on_drop(true);
    let output = within(120, "the client's end", client.output()).await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert_eq!(stdout.lines().filter(|line| line.ends_with(" ok")).count(), 4, "{stdout}");
    gateway.stop().await;
}
