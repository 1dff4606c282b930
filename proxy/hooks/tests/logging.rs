//! What the operator reads in the log.

use std::io::Write;
use std::sync::Mutex;

use super::*;

/// The lines that are logged while it lives, on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What is logged while one tool call passes the hook.
async fn logged(body: &str) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().json().with_max_level(tracing::Level::DEBUG).with_writer(move || writer.clone()).finish();
    let run = begin(&format!("return {{ on_tool_call = function(call, run)\n{body}\nend }}"));
    let _guard = tracing::subscriber::set_default(subscriber);
    _ = run.on_tool_call(&mut call(), ANY).await;
    let text = log.0.lock().unwrap();
    String::from_utf8(text.clone()).unwrap()
}

#[tokio::test]
async fn a_failed_hook_is_logged_with_script_line_and_run() {
    for (body, expected) in [
        ("\nlocal x = nil + 1", "scripts/x.lua:3: attempt to perform arithmetic (add) on nil and number"),
        ("\n\nrun.reject('no')", "scripts/x.lua:4: write `run:reject(...)`, with a colon"),
        ("\nwhile true do end", "scripts/x.lua:3: the hook used up its CPU budget"),
        ("\nlocal s = ('x'):rep(1000)\nwhile true do s:match('.-.-.-b') end", "scripts/x.lua:4: the hook used up its CPU budget"),
    ] {
        let text = logged(body).await;
        let line: Value = serde_json::from_str(text.trim()).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["fields"]["error"], expected);
        assert_eq!((&line["fields"]["script"], &line["fields"]["run"]), (&json!("scripts/x.lua"), &json!("run-1")));
        assert_eq!((&line["fields"]["point"], &line["fields"]["agent"]), (&json!("on_tool_call"), &json!("support")));
    }
}

#[tokio::test]
async fn scripts_log_with_their_name_and_not_without_bound() {
    let text = logged("run.log.warn('careful', { n = 1 }) print('a', 2) require('std.log').debug(('x'):rep(10000))").await;
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (&lines[0]["level"], &lines[0]["fields"]["message"], &lines[0]["fields"]["fields"]),
        (&json!("WARN"), &json!("careful"), &json!(r#"{"n":1}"#))
    );
    assert_eq!((&lines[1]["fields"]["message"], &lines[1]["fields"]["script"]), (&json!("a\t2"), &json!("scripts/x.lua")));
    assert_eq!(lines[2]["fields"]["message"].as_str().map(str::len), Some(4096));
    let text = logged("for i = 1, 1000 do print(i) end").await;
    assert_eq!(text.lines().count(), 101);
}
