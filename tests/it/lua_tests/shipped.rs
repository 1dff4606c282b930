//! The scripts in scripts/: they load as their first comment shows, pass their tests, and get along with each other.

use std::path::{Path, PathBuf};

use super::assert_passes;
use crate::support::Setup;

/// Fewer cases than this mean that some were not found.
const LEAST_CASES: usize = 60;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Each script's path from the root, and its text.
fn scripts() -> Vec<(String, String)> {
    let files = std::fs::read_dir(root().join("scripts")).unwrap().map(|entry| entry.unwrap().path());
    let is_script = |path: &PathBuf| path.to_string_lossy().ends_with(".lua") && !path.to_string_lossy().ends_with("_test.lua");
    let files = files.filter(is_script).map(|path| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    });
    files.collect()
}

/// A project with all of them.
fn project(config: &str) -> Setup {
    let setup = Setup::new(config).env("SEARCH_TOKEN", "x").env("AUDIT_SECRET", "x");
    scripts().iter().fold(setup, |setup, (name, text)| setup.file(name, text))
}

/// The example in a script's first comment: the lines that are set in.
fn example(text: &str) -> String {
    let comment = text.lines().map_while(|line| line.strip_prefix("---"));
    comment.filter_map(|line| line.strip_prefix("   ")).fold(String::new(), |yaml, line| yaml + "    " + line + "\n")
}

#[tokio::test]
async fn they_pass_their_tests() {
    for (name, _) in scripts() {
        let test = name.replace(".lua", "_test.lua");
        assert!(root().join(&test).is_file(), "{test} is missing");
    }
    let ran = Setup::at(root()).run(&["test", "scripts"]).await;
    assert_passes(&ran);
    let sum = ran.stdout.lines().last().unwrap_or_default();
    let n_passed: usize = sum.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or_default();
    assert!(n_passed >= LEAST_CASES, "{sum}");
}

/// With nothing but their defaults, and as the comment shows.
#[tokio::test]
async fn they_load() {
    let mut config = String::from("upstreams: { demo: { kind: demo } }\nagents:\n");
    for (name, text) in scripts() {
        let example = example(&text);
        assert!(example.contains(&name), "the first comment of {name} shows no entry of it:\n{example}");
        config += &format!(
            "  - {{ name: \"{name}\", model: demo, hooks: [{name}] }}\n  - name: \"example of {name}\"\n    model: demo\n{example}"
        );
    }
    let ran = project(&config).run(&["check"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{config}");
}

/// All of them on one agent, on the arguments that the gateway makes.
#[tokio::test]
async fn they_get_along() {
    const CONFIG: &str = r#"
upstreams: { demo: { kind: demo } }
agents:
  - name: All
    model: own
    instructions: Be brief.
    parameters: { temperature: 0 }
    hooks:
      - scripts/answer_cache.lua
      - scripts/redact.lua
      - { script: scripts/retrieval.lua, config: { url: "https://search.example.com" } }
      - { script: scripts/prompt_budget.lua, config: { max_tokens: 300, summarize: true } }
      - { script: scripts/model_router.lua, config: { hard: large } }
      - { script: scripts/tool_approval.lua, config: { approve: [send] } }
      - { script: scripts/language_guard.lua, config: { language: en }, hold: true }
      - { script: scripts/audit_log.lua, config: { url: "https://audit.example.com", messages: true } }
"#;
    const TEST: &str = r#"
local json = require "std.json"
local test = require "std.test"

local ENGLISH = "It is on the way to you, and that is all there is to be said for now."

local function play(reply)
  local searches, audits = {}, {}
  test.fake("http", function(request)
    local is_audit = request.url:find("audit", 1, true)
    table.insert(is_audit and audits or searches, request)
    return { json = { results = { { text = "a passage" } } } }
  end)
  local asked = test.fake("llm", function(request)
    return request.messages[1].content:find "^Summarize" and "they greeted" or reply
  end)
  return searches, audits, asked
end

test.case("a long conversation with a tool, streamed", function()
  local searches, audits, asked = play(ENGLISH)
  local outcome = test.agent("All"):chat("", {
    messages = {
      { role = "user", content = ("hello "):rep(200) },
      { role = "assistant", content = "hi" },
      { role = "user", content = "Compare the two offers and send the better one to ada@example.com" },
    },
    headers = { ["x-approved-tools"] = "send" },
    stream = true,
    model = {
      { calls = { { name = "send", arguments = { to = "[EMAIL_1]" } } } },
      "Das ist auf dem Weg zu ihr, und mehr kann ich dazu nicht sagen: [EMAIL_1]",
    },
    tools = { send = function() return "sent to ada@example.com" end },
  })
  test.equal(outcome.error, nil)
  test.equal(outcome.content, ENGLISH)
  test.equal(outcome.calls, { { name = "send", arguments = { to = "ada@example.com" } } })
  for _, prompt in ipairs(outcome.prompts) do
    test.equal(prompt.model, "large")
    test.equal(prompt.messages[1].content, "Be brief.\n\n[2 earlier messages of this conversation were cut. In short: they greeted]")
    test.contains(prompt.messages[2].content, "[1] a passage\n\nCompare the two offers and send the better one to [EMAIL_1]")
  end
  test.equal(outcome.prompts[2].messages[4].content, "sent to [EMAIL_1]")
  test.equal({ #searches, #asked }, { 1, 2 }, "one search, one summary and one translation")
  local record = json.decode(audits[1].body)
  test.equal({ record.outcome, record.model_calls, record.tools[1].name }, { "answered", 2, "send" })
end)

test.case("the second time nobody is asked", function()
  local _, audits = play()
  local first = test.agent("All"):chat("Who is bob@example.com?", { model = { "Bob is [EMAIL_1]" } })
  test.equal(first.content, "Bob is bob@example.com")
  local second = test.agent("All"):chat("Who is bob@example.com?", { model = {} })
  test.equal(second.content, first.content)
  play()
  local other = test.agent("All"):chat("Who is eve@example.com?", { model = { "Eve is [EMAIL_1]" } })
  test.equal(other.content, "Eve is eve@example.com", "one's answer is not another's")
  test.equal(#audits, 2)
end)

test.case("a failed run is on record", function()
  local _, audits = play()
  local outcome = test.agent("All"):chat("hi", { model = { { error = "away" } } })
  test.equal(outcome.error.code, "upstream_error")
  test.equal(json.decode(audits[1].body).error, { code = "upstream_error", status = outcome.error.status })
end)
"#;
    let ran = project(CONFIG).file("all_test.lua", TEST).run(&["test", "all_test.lua"]).await;
    assert_passes(&ran);
    assert!(ran.stdout.contains("3 passed, 0 failed"), "{}", ran.stdout);
}

/// A project of one's own begins with them, and they pass there, too.
#[tokio::test]
async fn they_come_with_the_starter() {
    let setup = Setup::empty();
    assert_passes(&setup.run(&["init", "."]).await);
    assert_passes(&setup.run(&["test"]).await);
}
