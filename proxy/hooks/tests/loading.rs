//! What stops a (re)load, and what it says.

use super::*;
use crate::config::Fault;

fn faults(files: &[(&str, &str)], entries: &[HookEntry]) -> Vec<String> {
    let scripts = Scripts::new(files);
    let faults = Hooks::load(entries, &scripts.0).err().unwrap_or_default();
    faults.iter().map(Fault::to_string).collect()
}

/// The faults of one script.
fn of(source: &str) -> Vec<String> {
    faults(&[("x.lua", source)], &[entry("x.lua")])
}

#[test]
fn a_script_that_returns_hooks_loads() {
    assert_eq!(of("return { pre_prompt = function() end, config = { limit = 3 } }"), Vec::<String>::new());
    let hooks = hooks("local M = {} function M.post_response() end return M");
    assert!(hooks.has(super::super::Point::PostResponse) && !hooks.has(super::super::Point::PrePrompt));
}

#[test]
fn every_fault_of_a_script_names_file_line_and_remedy() {
    for (source, expected) in [
        ("local x = \nreturn {", "scripts/x.lua:2:1: Expected identifier when parsing expression, got 'return'"),
        ("\n\nerror('boom')", "scripts/x.lua:3:1: boom"),
        ("\nlocal x = nil + 1", "scripts/x.lua:2:1: attempt to perform arithmetic (add) on nil and number"),
        (
            "return 3",
            "scripts/x.lua:1:1: a script returns a table of hooks, and this one returned integer: end it with `return { pre_prompt = ... }`",
        ),
        ("", "scripts/x.lua:1:1: a script returns a table of hooks, and this one returned nil: end it with `return { pre_prompt = ... }`"),
        (
            "local M = {}\n\nfunction M.on_toolcall() end\nreturn M",
            "scripts/x.lua:3:1: `on_toolcall` is not a hook: did you mean `on_tool_call`?",
        ),
        ("local M = {}\nM.helper = 3\nreturn M", "scripts/x.lua:2:1: `helper` is not a hook; keep helpers in local functions"),
        ("return {\n\n  pre_prompt = 3 }", "scripts/x.lua:3:1: `pre_prompt` is a hook and must be a function, not integer"),
        ("return { config = 3 }", "scripts/x.lua:1:1: `config` is a table, not integer"),
        ("\nreturn { config = { 1, 2 } }", "scripts/x.lua:2:1: `config` is a table with names, not a list"),
        ("return { config = { f = print } }", "scripts/x.lua:1:1: `config`.f is a function, which JSON cannot say"),
        ("while true do end", "scripts/x.lua:1:1: the script took more than 50ms of CPU to load"),
        ("pcall(function() while true do end end) return {}", "scripts/x.lua:1:1: the script took more than 50ms of CPU to load"),
        ("return string.rep('x', 2^30)", "scripts/x.lua:1:1: not enough memory"),
        ("\nrequire 'nothing'", "scripts/x.lua:2:1: there is no `nothing.lua` beside this script"),
        ("require 'std.jsn'", "scripts/x.lua:1:1: there is no module `std.jsn`: did you mean `std.json`?"),
    ] {
        assert_eq!(of(source), [expected], "{source}");
    }
}

#[test]
fn what_is_no_script_is_said_of_the_entry() {
    let found = faults(&[], &[entry("gone.lua"), HookEntry::Path("scripts".into())]);
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("[0]: cannot read the script scripts/gone.lua: "), "{found:?}");
    assert_eq!(found[1], "[1]: cannot read the script scripts: it is not a file");
    let scripts = Scripts::new(&[]);
    std::fs::write(scripts.0.join("scripts/b.lua"), b"\x1bLua\xff").unwrap();
    let found = Hooks::load(&[entry("b.lua")], &scripts.0).err().unwrap();
    assert_eq!(found[0].message, "cannot read the script scripts/b.lua: it is not UTF-8 text");
}

#[test]
fn an_unknown_key_of_an_entrys_config_is_refused() {
    let with = |key: &str| vec![entry("x.lua"), options("x.lua", |options| _ = options.config.insert(key.into(), 1.into()))];
    let source = "return { config = { limit = 3, mode = 'a' } }";
    assert_eq!(faults(&[("x.lua", source)], &with("limit")), Vec::<String>::new());
    assert_eq!(
        faults(&[("x.lua", source)], &with("limti")),
        ["[1].config.limti: scripts/x.lua has no `limti` in its `config`: did you mean `limit`?"]
    );
    assert_eq!(
        faults(&[("x.lua", source)], &with("zzz")),
        ["[1].config.zzz: scripts/x.lua has no `zzz` in its `config`: it has limit, mode"]
    );
    assert_eq!(
        faults(&[("x.lua", "return {}")], &with("a")),
        ["[1].config.a: scripts/x.lua has no `a` in its `config`: the script has no `config`"]
    );
}

#[test]
fn all_faults_of_all_scripts_are_collected() {
    let files =
        [("a.lua", "while true do end"), ("b.lua", "return { on_eror = print, x = 1 }"), ("c.lua", "return {"), ("d.lua", "return {}")];
    let entries = files.map(|(name, _)| entry(name));
    let found = faults(&files, &entries);
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().any(|fault| fault.contains("did you mean `on_error`?")), "{found:?}");
}

#[test]
fn a_fault_in_a_required_file_stands_in_that_file() {
    let found = faults(&[("x.lua", "local y = require 'y'\nreturn {}"), ("y.lua", "\n\nlocal = 3")], &[entry("x.lua")]);
    assert_eq!(found, ["scripts/y.lua:3:1: Expected identifier when parsing variable name, got '='"]);
    let found = faults(&[("x.lua", "local y = require 'y'\nreturn {}"), ("y.lua", "\nerror('boom')")], &[entry("x.lua")]);
    assert_eq!(found, ["scripts/y.lua:2:1: boom"]);
    let found = faults(&[("x.lua", "local y = require 'y'\nreturn {}"), ("y.lua", "require 'x' return {}")], &[entry("x.lua")]);
    assert!(found[0].contains("`y` requires itself"), "{found:?}");
}
