//! What scripts may rely on, through the gateway's own door.

mod guarded;
mod hostile;
mod loading;
mod logging;
mod points;
mod sharing;
mod stdlib_plain;
mod stdlib_redact;
mod stdlib_regex;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::pool::Pool;
use super::{CallView, Fits, HookRun, Hooks, Nowhere, ReplyView, RunView, Verdict, World};
use crate::chat::{Message, Object, Prompt};
use crate::config::agent::HookOptions;
use crate::config::{HookEntry, OnError};

/// A folder of scripts, gone at the end of the test.
struct Scripts(PathBuf);

impl Scripts {
    fn new(files: &[(&str, &str)]) -> Self {
        static N: AtomicU32 = AtomicU32::new(0);
        let root = std::env::temp_dir().join(format!("moongate-hooks-{}-{}", std::process::id(), N.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(root.join("scripts")).unwrap();
        for (name, source) in files {
            std::fs::write(root.join("scripts").join(name), source).unwrap();
        }
        Scripts(root)
    }

    /// The hooks of an agent with these entries, on a pool of its own.
    fn load(&self, entries: &[HookEntry]) -> Arc<Hooks> {
        let mut hooks = Hooks::load(entries, &self.0).unwrap_or_else(|faults| panic!("{faults:?}"));
        hooks.pool = Arc::new(Pool::new(4));
        Arc::new(hooks)
    }
}

impl Drop for Scripts {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The options of an entry, with what the test is about changed.
fn options(script: &str, change: impl FnOnce(&mut HookOptions)) -> HookEntry {
    let mut options = HookOptions {
        script: format!("scripts/{script}"),
        config: Object::new(),
        on_error: OnError::Fail,
        hold: false,
        timeout: std::time::Duration::from_millis(50),
    };
    change(&mut options);
    HookEntry::Options(options)
}

fn entry(script: &str) -> HookEntry {
    options(script, |_| {})
}

/// The hooks of an agent with one script.
fn hooks(source: &str) -> Arc<Hooks> {
    Scripts::new(&[("x.lua", source)]).load(&[entry("x.lua")])
}

fn view() -> RunView {
    RunView { id: "run-1".into(), agent: "support".into(), model: "support".into(), ..RunView::default() }
}

/// A world in which nothing is there.
fn nowhere() -> Arc<dyn World> {
    Arc::new(Nowhere)
}

fn begin(source: &str) -> HookRun {
    hooks(source).begin(view(), nowhere())
}

fn prompt() -> Prompt {
    Prompt {
        model: "gpt".into(),
        messages: vec![Message::text("system", "be kind"), Message::text("user", "hello")],
        tools: vec![],
        rest: object(
            json!({ "temperature": 0.5, "seed": 12345678901234567890_u64, "stop": null, "stream_options": { "include_usage": true } }),
        ),
    }
}

fn call() -> CallView {
    CallView { name: "refund".into(), arguments: object(json!({ "amount": 250, "to": { "iban": "X", "bic": null } })) }
}

/// A tool that takes any arguments.
const ANY: &Fits = &|_| Ok(());

fn object(value: Value) -> Object {
    value.as_object().cloned().unwrap()
}
