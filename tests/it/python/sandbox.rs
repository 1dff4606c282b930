//! `python.sandbox` is held by the kernel: what a tool may not read or reach, it does not.

use super::{setup_with, start, told};
use crate::support::{ScriptedModel, Step};
use serde_json::json;

const CODE: &str = r#"
import socket

def reach(path: str = "", port: int = 0) -> str:
    """Reads a file, or dials out."""
    if path:
        with open(path) as file:
            return file.read()
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        return "connected"
"#;

/// A file on the list is read, one that is not fails, and so does a connection.
#[tokio::test]
async fn a_tool_stays_inside() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(outside.path(), "outside").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let arguments = [
        r#"{"path": "data/inside.txt"}"#.to_owned(),
        format!(r#"{{"path": {:?}}}"#, outside.path()),
        format!(r#"{{"port": {}}}"#, listener.local_addr().unwrap().port()),
    ];
    let arguments = arguments.map(|arguments| &*arguments.leak());
    let call = |i: usize| Step::calls([("c", "reach", arguments[i])]);
    let done = || Step::says("done");
    for (sandbox, expected) in [
        (", sandbox: { read: [data], network: none }", ["inside", "Permission denied", "Permission denied"]),
        ("", ["inside", "outside", "connected"]),
    ] {
        let model = ScriptedModel::start([call(0), done(), call(1), done(), call(2), done()]).await;
        let python = format!("workers: 1{sandbox}");
        let setup = setup_with(&model, &python, &super::with_function("reach", "50s"), CODE).file("data/inside.txt", "inside");
        let gateway = start(setup).await;
        for (i, words) in expected.into_iter().enumerate() {
            assert_eq!(gateway.chat("more", json!({})).answer().await.content(), "done");
            let told = told(&*model.request(2 * i + 2).await);
            let refused = told[0].contains("ermission") || told[0].contains("not permitted") || told[0].contains("rohibited");
            assert!(told[0].contains(words) || (words.starts_with("Perm") && refused), "{words}: {told:?}");
        }
        gateway.stop().await;
    }
}
