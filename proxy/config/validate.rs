//! Whether a configuration makes sense, as far as the documents alone can tell.
//!
//! One room a section; each compares what is written with what else is written, and touches neither files nor network.

mod agents;
mod auth;
mod mcp;
mod server;
mod state;
mod tools;
mod upstreams;

use super::document::{HookEntry, HookOptions, means};
use super::fault::{Fault, Origin};
use super::hint::hint;
use super::load::Loaded;
use super::pending;

/// What is wrong (the configuration cannot be served) and what is odd (it can, and the operator should know).
pub fn validate(loaded: &Loaded) -> (Vec<Fault>, Vec<Fault>) {
    let mut found = Found::default();
    server::check(loaded, &mut found);
    upstreams::check(loaded, &mut found);
    mcp::check(loaded, &mut found);
    agents::check(loaded, &mut found);
    auth::check(loaded, &mut found);
    state::check(loaded, &mut found);
    pending::check(loaded, &mut found.warnings);
    for faults in [&mut found.faults, &mut found.warnings] {
        let order = |fault: &Fault| loaded.files.iter().position(|file| fault.place.as_ref().is_some_and(|p| p.file == *file));
        faults.sort_by_key(|fault| (order(fault), fault.place.as_ref().map(|place| (place.line, place.column))));
    }
    (found.faults, found.warnings)
}

#[derive(Default)]
struct Found {
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

impl Found {
    /// Adds the fault `message` of `key` unless the rule holds.
    fn need(&mut self, holds: bool, origin: &Origin, key: &str, message: impl Into<String>) {
        if !holds {
            self.faults.push(origin.fault(key, message));
        }
    }

    /// `name` must be one of `known`.
    fn reference<'a>(&mut self, what: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone, origin: &Origin, key: &str) {
        if !known.clone().any(|known| known == name) {
            let hint = hint(name, known, "there are");
            self.faults.push(origin.fault(key, format!("there is no {what} `{name}`; {hint}")));
        }
    }

    /// Scripts lie inside the root, and their file names say what they are. Whether they exist is the loader's question.
    fn hooks(&mut self, hooks: &[HookEntry], origin: &Origin, key: &str) {
        for (i, entry) in hooks.iter().enumerate() {
            let key = match entry {
                HookEntry::Path(_) => format!("{key}[{i}]"),
                HookEntry::Options(_) => format!("{key}[{i}].script"),
            };
            self.need(inside(entry.script()), origin, &key, "must be relative to the configuration's root and stay inside it");
            self.need(entry.script().ends_with(".lua"), origin, &key, "must end with `.lua`");
            if let HookEntry::Options(HookOptions { timeout, .. }) = entry {
                self.need(!timeout.is_zero(), origin, &key.replace(".script", ".timeout"), "must be longer than nothing");
            }
        }
    }

    /// The ids in an `allow` list belong to keys.
    fn allow(&mut self, allow: Option<&Vec<String>>, loaded: &Loaded, origin: &Origin, key: &str) {
        for (i, id) in allow.into_iter().flatten().enumerate() {
            let ids = loaded.document.auth.keys.iter().map(|key| key.id.as_str());
            if ids.clone().any(|name| means(id, name)) {
                continue;
            }
            self.reference("key", id, ids, origin, &format!("{key}[{i}]"));
        }
    }
}

/// Whether a path is relative and never climbs above where it starts.
fn inside(path: &str) -> bool {
    let mut depth = 0_i32;
    !path.is_empty()
        && !path.starts_with(['/', '\\'])
        && path.split(['/', '\\']).all(|part| {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            depth >= 0
        })
}

/// Whether `text` is the address of a web server. Its parts are checked, not repeated: they may hold secrets.
fn web_address(text: &str) -> Result<url::Url, &'static str> {
    let url = url::Url::parse(text).map_err(|_| "must be an address such as `http://localhost:1234/v1`")?;
    match (url.scheme(), url.host_str()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err("must begin with `http://` or `https://` and a host"),
    }
}

/// Whether `text` may stand in a header: a line break at its end is the classic fault of a secret read from a file.
fn header_value(text: &str) -> bool {
    http::HeaderValue::from_str(text).is_ok() && text.trim() == text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load_with;

    /// What is found in `yaml`, faults first, as `key: message`.
    pub(super) fn found(yaml: &str) -> Vec<String> {
        let (faults, warnings) = both(yaml);
        faults.into_iter().chain(warnings).collect()
    }

    /// The faults and the warnings of `yaml`.
    pub(super) fn both(yaml: &str) -> (Vec<String>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.yaml");
        std::fs::write(&file, yaml).unwrap();
        let loaded = load_with(&file, &|_| None).unwrap_or_else(|faults| panic!("{faults:?}"));
        let (faults, warnings) = validate(&loaded);
        let text = |faults: Vec<Fault>| faults.into_iter().map(|fault| format!("{}: {}", fault.key, fault.message)).collect();
        (text(faults), text(warnings))
    }

    /// Expects one finding for `yaml` (with an upstream added), which begins with `want`.
    #[track_caller]
    pub(super) fn finds(yaml: &str, want: &str) {
        let mut found = found(&format!("upstreams: {{ up: {{ base_url: 'http://h/v1' }} }}\n{yaml}"));
        found.retain(|finding| !finding.ends_with("has no effect yet"));
        assert!(found.len() == 1 && found[0].starts_with(want), "{yaml}: {found:?}");
    }

    #[test]
    fn scripts_stay_inside_the_root() {
        for path in ["a.lua", "scripts/a.lua", "./a.lua", "a/../b.lua"] {
            assert!(inside(path), "{path}");
        }
        for path in ["", "/etc/a.lua", "../a.lua", "a/../../b.lua", "\\a.lua"] {
            assert!(!inside(path), "{path}");
        }
        finds("models: { m: { model: x, hooks: ['../a.lua'] } }", "models.m.hooks[0]: must be relative");
    }

    #[test]
    fn a_name_that_is_not_there_gets_a_hint() {
        finds("default_upstream: pu", "default_upstream: there is no upstream `pu`; did you mean `up`?");
        finds("default_upstream: other", "default_upstream: there is no upstream `other`; there are `up`");
        finds("models: { m: { model: x, allow: [k] } }", "models.m.allow[0]: there is no key `k`; there are none");
    }
}
