//! The Python half of the worker has tests of its own, in Python, against a fake gateway.

use std::process::Stdio;

use crate::support::{programs, within};

/// All of tests/python.
#[tokio::test]
async fn the_tests_in_python_pass() {
    let mut unittest = programs::python_module("unittest");
    unittest.args(["discover", "-s", "tests/python", "-p", "*_test.py"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    unittest.env("PYTHONPATH", programs::file("proxy/python/worker")).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = within(600, "the end of tests/python", unittest.stdin(Stdio::null()).kill_on_drop(true).output()).await.unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && log.contains("\nOK"), "{log}");
}
