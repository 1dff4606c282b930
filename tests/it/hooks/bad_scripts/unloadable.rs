//! Scripts that cannot be loaded: `check` and a reload name file, line and column, and the old script serves on.

use serde_json::json;

use crate::support::{Gateway, ScriptedModel, Setup};

const CONFIG: &str = r#"
upstreams: { lm: { base_url: "${LM}" } }
agents:
  - name: Assistant
    model: scripted
    hooks: [scripts/h.lua]
"#;

const GOOD: &str =
    "return { config = { limit = 3 }, pre_prompt = function(prompt, run) return run:answer('limit ' .. run.config.limit) end }";

async fn start(model: &ScriptedModel) -> Gateway {
    let setup = Setup::new(CONFIG).file("scripts/h.lua", GOOD).file("scripts/lib.lua", "return {}");
    setup.env("LM", model.url()).start().await
}

/// `check` and a reload refuse what is on the disk with these words, and what was there before still answers.
async fn is_refused(gateway: &Gateway, model: &ScriptedModel, fault: &str) {
    let ran = Setup::at(&gateway.path("")).env("LM", model.url()).run(&["check"]).await;
    assert_eq!(ran.code, Some(1), "{fault}: {ran:?}");
    assert!(ran.stderr.lines().any(|line| line.trim().starts_with(fault)), "{fault:?} is missing in\n{}", ran.stderr);
    let answer = gateway.reload().await;
    answer.assert_error(422, "invalid_config");
    assert!(answer.text().contains(fault), "{fault:?} is missing in {}", answer.text());
    gateway.logged(&format!("the old one serves on: {fault}")).await;
    assert_eq!(gateway.chat("Assistant", json!({})).answer().await.content(), "limit 3", "after {fault}");
}

/// What is wrong in the script.
#[tokio::test]
async fn faults_of_a_script() {
    let model = ScriptedModel::start([]).await;
    let gateway = start(&model).await;
    for (script, fault) in [
        ("local script = {}\nfunction script.pre_prompt(\nreturn script", "scripts/h.lua:3:1: Expected "),
        ("return {\n  pre_promt = function() end,\n}", "scripts/h.lua:2:1: `pre_promt` is not a hook: did you mean `pre_prompt`?"),
        (
            "local script = {}\n\nfunction script.on_toolcall() end\nreturn script",
            "scripts/h.lua:3:1: `on_toolcall` is not a hook: did you mean `on_tool_call`?",
        ),
        ("return {\n  pre_prompt = 3,\n}", "scripts/h.lua:2:1: `pre_prompt` is a hook and must be a function"),
        ("-- nothing\n", "scripts/h.lua:1:1: a script returns a table of hooks, and this one returned nil"),
        ("\nerror('boom')", "scripts/h.lua:2:1: boom"),
        ("\nerror({ code = 7 })", "scripts/h.lua:2:1: "),
        ("\nwhile true do end", "scripts/h.lua:2:1: the script took more than 50ms of CPU to load"),
        ("\npcall(function() while true do end end)\nreturn {}", "scripts/h.lua:2:1: the script took more than 50ms of CPU to load"),
        ("\nreturn string.rep('x', 2^30)", "scripts/h.lua:1:1: not enough memory"),
        ("local t = {}\nt.t = t\nreturn { config = t }", "scripts/h.lua:3:1: `config`.t is a table that contains itself"),
        ("\nreturn { config = { name = '\\255' } }", "scripts/h.lua:2:1: `config`.name is text that is not UTF-8"),
        ("\nrequire 'libb'\nreturn {}", "scripts/h.lua:2:1: there is no `libb.lua` beside this script"),
        ("\nrequire 'std.jsn'\nreturn {}", "scripts/h.lua:2:1: there is no module `std.jsn`: did you mean `std.json`?"),
    ] {
        gateway.write("scripts/h.lua", script);
        is_refused(&gateway, &model, fault).await;
    }
}

/// One save is read once, though an editor makes it in steps, and what is wrong is said once.
#[tokio::test]
async fn a_refusal_is_logged_once() {
    let model = ScriptedModel::start([]).await;
    let gateway = start(&model).await;
    gateway.write("scripts/h.lua", "return 3");
    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    gateway.write("scripts/h.lua", "return 4");
    gateway.logged("the old one serves on").await;
    gateway.write("scripts/h.lua", GOOD);
    gateway.logged("configuration reloaded").await;
    let n_refusals = gateway.log().lines().filter(|line| line.contains("the old one serves on")).count();
    assert_eq!(n_refusals, 1, "{}", gateway.log());
}

/// What is wrong in a file that the script requires is said of that file.
#[tokio::test]
async fn faults_of_a_required_file() {
    let model = ScriptedModel::start([]).await;
    let gateway = start(&model).await;
    gateway.write("scripts/h.lua", &format!("local lib = require 'lib'\n{GOOD}"));
    gateway.write("scripts/lib.lua", "\n\nlocal = 3");
    is_refused(&gateway, &model, "scripts/lib.lua:3:1: Expected ").await;
    gateway.write("scripts/lib.lua", "\nreturn nil + 1");
    is_refused(&gateway, &model, "scripts/lib.lua:2:1: attempt to perform arithmetic").await;
}

/// What is wrong in the entry is said of the configuration, with the column.
#[tokio::test]
async fn faults_of_an_entry() {
    let model = ScriptedModel::start([]).await;
    let gateway = start(&model).await;
    for (entry, fault) in [
        (
            "{ script: scripts/h.lua, config: { limti: 4 } }",
            "config/gateway.yaml:6:55: agents[0].hooks[0].config.limti: scripts/h.lua has no `limti` in its `config`: did you mean `limit`?",
        ),
        ("{ script: scripts/h.lua, on_eror: skip }", "config/gateway.yaml:6:"),
        ("scripts/gone.lua", "config/gateway.yaml:6:13: agents[0].hooks[0]: cannot read the script scripts/gone.lua"),
    ] {
        gateway.write("config/gateway.yaml", &CONFIG.replace("scripts/h.lua", entry));
        is_refused(&gateway, &model, fault).await;
    }
}
