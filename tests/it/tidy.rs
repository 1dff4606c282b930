//! The rules of the house that no compiler knows: who may know whom, one door for each crate, one purpose a file.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The layers from the top down. A module may use modules of lower layers, and of its own where they are listed together.
const LAYERS: [&[&str]; 13] = [
    &["cli"],
    &["server", "init", "logs", "testing"],
    &["gateway"],
    &["admin"],
    &["downstream", "snapshot"],
    &["route"],
    &["agent"],
    &["model", "tools", "hooks"],
    &["python", "upstream"],
    &["access", "demo", "flight", "limits", "responses", "sessions", "store"],
    &["chat", "config"],
    &["shared"],
    &["backoff", "error", "metrics", "program", "sandbox", "shelf", "tls"],
];

/// Crates that one part of the house alone may name, and where that is.
const DOORS: [(&str, &[&str]); 7] = [
    ("redis", &["proxy/shared"]),
    ("mlua", &["proxy/hooks/"]),
    ("rmcp", &["proxy/tools/mcp"]),
    ("pyo3", &["proxy/python/", "proxy/build.rs"]),
    ("landlock", &["proxy/sandbox/files.rs"]),
    ("seccompiler", &["proxy/sandbox/calls.rs"]),
    ("pingora", &["proxy/gateway", "proxy/downstream", "proxy/server", "proxy/upstream"]),
];

const MAX_LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `folder` that ends so, as `(path from the root, text)`.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.ends_with("node_modules") {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push((name, String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()));
            }
        }
    }
    found.sort();
    found
}

fn rust() -> Vec<(String, String)> {
    let mut all = files("proxy", ".rs");
    all.extend(files("tests/it", ".rs"));
    all.extend(files("benches", ".rs"));
    all
}

/// The module of the library that a file belongs to: `proxy/tools/http.rs` is `tools`.
fn module(file: &str) -> Option<&str> {
    let name = file.strip_prefix("proxy/")?.split('/').next()?;
    Some(name.strip_suffix(".rs").unwrap_or(name)).filter(|name| !["build", "lib", "main"].contains(name))
}

/// Each first name after `crate::` in the code, `use crate::{a, b::c}` too. Comments do not count.
fn named_modules(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let mut names = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let word = |text: &str| text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        if !rest.starts_with('{') {
            names.insert(word(rest));
            continue;
        }
        let mut depth = 0;
        let mut start = 1;
        for (i, c) in rest.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (depth == 1 && c == ',') || depth == 0 {
                names.insert(word(&rest[start..i]));
                start = i + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The code that ships: what comes before the unit tests.
fn shipped(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or_default()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// Modules use what lies below them, or beside them in a row that is listed as one.
#[test]
fn arrows_point_down() {
    let mut wrong = Vec::new();
    for (file, text) in files("proxy", ".rs") {
        let Some(module) = module(&file) else { continue };
        let Some(from) = layer(module) else {
            wrong.push(format!("{file}: the module {module} has no layer in tests/it/tidy.rs"));
            continue;
        };
        for used in named_modules(shipped(&text)) {
            if used != module && layer(&used).is_none_or(|to| to < from) {
                wrong.push(format!("{file}: {module} may not use {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// mlua, rmcp, pyo3 and Pingora each have one door.
#[test]
fn crates_keep_to_their_doors() {
    let mut wrong = Vec::new();
    for (file, text) in files("proxy", ".rs") {
        for (krate, doors) in DOORS {
            let names = |line: &str| {
                let code = line.split("//").next().unwrap_or_default();
                // What stands between quotes is text.
                let code: String = code.split('"').step_by(2).collect();
                code.contains(&format!("{krate}::")) || code.contains(&format!("{krate}_")) || code.contains(&format!("use {krate}"))
            };
            if !doors.iter().any(|door| file.starts_with(door)) {
                let lines = text.lines().enumerate().filter(|(_, line)| names(line));
                wrong.extend(lines.map(|(i, _)| format!("{file}:{}: {krate} belongs to {doors:?}", i + 1)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each file is one room: its purpose in the first line, and an end before it grows into a hall.
#[test]
fn files_are_rooms() {
    let mut wrong = Vec::new();
    for (file, text) in rust() {
        let n_lines = text.lines().count();
        if n_lines > MAX_LINES {
            wrong.push(format!("{file}: {n_lines} lines, {MAX_LINES} are the most"));
        }
        let first = text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") || first.len() < 20 {
            wrong.push(format!("{file}: the first line says what the file is for"));
        }
    }
    for (file, text) in ["agents", "tests/clients", "tests/webui"].into_iter().flat_map(|folder| files(folder, ".py")) {
        if !text.starts_with("\"\"\"") {
            wrong.push(format!("{file}: the first line says what the file is for"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// No silenced lints, no skipped tests: an exception says `#[expect]` and why.
#[test]
fn nothing_is_silenced() {
    let (allow, ignore) = (concat!("#[", "allow("), concat!("#[", "ignore"));
    let mut wrong = Vec::new();
    for (file, text) in rust() {
        for (i, line) in text.lines().enumerate().filter(|(_, line)| line.contains(allow) || line.contains(ignore)) {
            wrong.push(format!("{file}:{}: {}", i + 1, line.trim()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each dependency has a comment that says why it is there.
#[test]
fn dependencies_say_why() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut in_dependencies = false;
    let mut explained = false;
    let mut wrong = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.ends_with("dependencies]");
        } else if line.starts_with('#') {
            explained = true;
            continue;
        } else if in_dependencies && line.contains('=') && !explained && !line.contains(" # ") {
            wrong.push(line.to_owned());
        }
        explained = false;
    }
    assert!(wrong.is_empty(), "no comment says why these are there:\n{}", wrong.join("\n"));
}

/// Lock files name no server to download from, and no file names a path of somebody's machine.
#[test]
fn nothing_names_a_machine() {
    let npm = std::fs::read_to_string(root().join("tests/clients/package-lock.json")).unwrap();
    assert!(!npm.contains("\"resolved\""), "package-lock.json names a registry: omit-lockfile-registry-resolved leaves it out");
    let mut wrong = Vec::new();
    let texts = [".rs", ".md", ".yaml", ".yml", ".toml", ".lua", ".py", ".mjs", "Makefile", "Dockerfile", ".ci/run"];
    for ending in texts {
        for folder in ["proxy", "tests", "benches", "config", "agents", "scripts", "docs", "lua-stdlib", ".github", ".ci"] {
            for (file, text) in files(folder, ending) {
                let homes = [concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/ho", "me/")];
                if homes.iter().any(|home| text.contains(home)) {
                    wrong.push(file);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "these name a folder of one machine: {wrong:?}");
}

/// The checks themselves see what they are for.
#[test]
fn named_modules_are_found() {
    let names =
        named_modules("use crate::chat::Message;\nuse crate::{error::{A, B}, tools};\nfn f() { crate::run::go() } // crate::gateway");
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["chat", "error", "run", "tools"]);
}
