//! Programs that `make test` installs: Python's from .venv, Node's from tests/clients.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// The npm MCP server with a tool for everything.
pub const SERVER_EVERYTHING: &str = "tests/clients/node_modules/@modelcontextprotocol/server-everything/dist/index.js";

/// A file of the repository that must be there.
pub fn file(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    assert!(path.exists(), "{} is not there: `make test` installs what the tests need", path.display());
    path
}

/// A Python script of the repository, run by the tests' own Python.
pub fn python(script: &str) -> Command {
    let mut command = Command::new(file(".venv/bin/python"));
    command.arg(file(script));
    command
}

/// The virtual environment of the tests' own Python.
#[cfg(feature = "python")]
pub fn venv() -> PathBuf {
    file(".venv/bin/python").parent().and_then(Path::parent).expect("bin stands in it").to_owned()
}

/// Runs a client to its end, which must be a good one; returns what it printed.
pub async fn prints(mut program: Command) -> String {
    let running = program.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = super::within(120, "the client's end", running).await.expect("the client starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    stdout.into_owned()
}

/// A module of Python's, such as `venv`, run by the tests' own Python.
#[cfg(feature = "python")]
pub fn python_module(name: &str) -> Command {
    let mut command = Command::new(file(".venv/bin/python"));
    command.args(["-m", name]);
    command
}

/// A JavaScript file of the repository, run by Node.
pub fn node(script: &str) -> Command {
    file("tests/clients/node_modules");
    let mut command = Command::new("node");
    command.arg(file(script));
    command
}
