//! Programs that `make test` installs: Python's from .venv, Node's from tests/clients.

use std::path::{Path, PathBuf};

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
