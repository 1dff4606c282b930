//! `moongate test`: what authors of scripts see of their tests, and the tests of the scripts that come with the gateway.

mod shipped;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

use crate::support::gateway::Ran;
use crate::support::{Setup, within};

const CONFIG: &str = r#"
upstreams: { demo: { kind: demo } }
agents:
  - name: Clerk
    model: demo
    instructions: Be brief.
    hooks: [{ script: scripts/guard.lua, config: { max: 2 } }]
    policies: { max_tool_hops: 1, max_tool_calls: 2 }
    tools:
      - name: look
        provider: http
        method: GET
        url: https://shop.example.com/{id}
        description: Looks a thing up.
        parameters: { type: object, properties: { id: { type: integer } }, required: [id] }
"#;

const GUARD: &str = r#"
local http = require "std.http"
local guard = { config = { max = 1 } }
function guard.pre_prompt(prompt, run)
  local last = prompt.messages[#prompt.messages].content
  if last == "reach out" then
    http.get "https://api.example.com"
  elseif last == "break" then
    prompt.messages = nil + 1
  end
end
function guard.on_chunk(chunk)
  chunk.text = chunk.text:upper()
end
function guard.on_tool_call(call, run)
  if call.arguments.id > run.config.max then
    return run:reject "no such thing"
  end
end
function guard.on_error(failure, run)
  if failure.code == "upstream_error" then
    return run:answer("sorry: " .. failure.message)
  end
end
return guard
"#;

/// A project with an agent, its script, and a test of it with this body behind its first two lines.
fn project(tests: &str) -> Setup {
    let test = format!("local test, guard = require \"std.test\", require \"guard\"\n\n{tests}");
    Setup::new(CONFIG).file("scripts/guard.lua", GUARD).file("scripts/guard_test.lua", &test)
}

async fn run(tests: &str) -> Ran {
    project(tests).run(&["test"]).await
}

/// The tests fail, and say all of this.
#[track_caller]
fn assert_fails(ran: &Ran, said: &[&str]) {
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    for words in said {
        assert!(ran.stdout.contains(words), "{words:?} is missing in\n{}", ran.stdout);
    }
}

#[track_caller]
fn assert_passes(ran: &Ran) {
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
}

/// A failure names its file and line, and shows how the values differ; the other cases run on.
#[tokio::test]
async fn a_failure_is_shown_where_it_is() {
    let ran = run(r#"test.case("sums", function()
  test.equal(1 + 1, 3, "the sum")
end)
test.case("lists", function()
  local long = ("word "):rep(20)
  test.equal({ a = { "x", "y" }, b = long }, { a = { "x", "z" }, b = long })
end)
test.case("goes on", function() end)
"#)
    .await;
    assert_fails(&ran, &["scripts/guard_test.lua:4: the sum:\n          got  2\n          want 3\n", "-    \"z\"\n          +    \"y\"\n"]);
    assert_fails(&ran, &["  FAILED  sums\n", "  ok      goes on\n", "\n1 passed, 2 failed, in "]);
}

/// A syntax error, in the test or in the script that it requires, stops that file and no other.
#[tokio::test]
async fn a_syntax_error_has_a_place() {
    let setup = project("test.case(\"fine\", function() end)\n")
        .file("scripts/broken.lua", "return {\n  pre_prompt = function(\n")
        .file("scripts/broken_test.lua", "local broken = require \"broken\"\n")
        .file("scripts/odd_test.lua", "local test = require \"std.test\"\ntest.case(\"x\", function( end)\n");
    let ran = setup.run(&["test", "scripts"]).await;
    assert_fails(
        &ran,
        &["FAILED  the file\n", "scripts/broken.lua:3: ", "scripts/odd_test.lua:2: ", "  ok      fine\n", "1 passed, 2 failed"],
    );
}

/// An error in a hook is that of the script's line, and what the script logged stands with it.
#[tokio::test]
async fn a_hooks_error_has_the_scripts_line() {
    let ran = run(r#"test.case("no id", function()
  local run = test.run()
  run.log.info("before", { n = 1 })
  guard.on_tool_call(test.call("look"), run)
end)
test.case("raises", function()
  local message = test.raises(function() guard.on_tool_call(test.call("look"), test.run()) end, "compare")
  test.contains(message, "scripts/guard.lua:16:")
end)
test.case("a typo", function()
  test.run { config = { mx = 3 } }
end)
"#)
    .await;
    let typo = "scripts/guard_test.lua:13: test.run: guard.lua has no `mx` in its `config`";
    assert_fails(
        &ran,
        &["scripts/guard.lua:16: attempt to compare", "log: info before {\"n\":1}", "  ok      raises\n", typo, "1 passed, 2 failed"],
    );
}

/// Nothing to test is a failure, and says how tests are called.
#[tokio::test]
async fn no_test_is_a_failure() {
    let setup = Setup::empty().file("scripts/x.lua", "return {}");
    let ran = setup.run(&["test"]).await;
    assert_fails(&ran, &["no files called *_test.lua here: a test of x.lua is x_test.lua beside it"]);
    let ran = Setup::empty().file("x_test.lua", "local n = 1").run(&["test"]).await;
    assert_fails(&ran, &["x_test.lua\n  (no test.case in it)\n"]);
    let ran = setup.run(&["test", "nowhere"]).await;
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), "moongate: nowhere: No such file or directory (os error 2)\n"));
}

/// A path may be a folder, a test, or the script that is tested.
#[tokio::test]
async fn paths_choose() {
    let setup = project("test.case(\"a\", function() end)\n").file("other/b_test.lua", "require \"std.test\".case(\"b\", function() end)");
    for (path, expected) in
        [("scripts", "1 passed"), ("scripts/guard_test.lua", "1 passed"), ("scripts/guard.lua", "1 passed"), (".", "2 passed")]
    {
        let ran = setup.run(&["test", path]).await;
        assert_passes(&ran);
        assert!(ran.stdout.contains(expected), "{path}: {}", ran.stdout);
    }
}

/// A case that never ends is ended, at the line where it hangs; the next one runs.
#[tokio::test]
async fn an_endless_loop_ends() {
    let ran = run("test.case(\"for ever\", function()\n  while true do end\nend)\ntest.case(\"next\", function() end)\n").await;
    assert_fails(&ran, &["scripts/guard_test.lua:4: it used 5s of CPU", "  ok      next\n", "1 passed, 1 failed"]);
}

/// Who reaches out and is not played to, is told what to write, and in a direct call where the script asks.
#[tokio::test]
async fn nothing_leaves_a_test() {
    let ran = run(r#"test.case("direct", function()
  guard.pre_prompt(test.prompt "reach out", test.run())
end)
test.case("whole run", function()
  test.agent("Clerk"):chat("reach out", { model = { "hi" } })
end)
test.case("tool", function()
  test.agent("Clerk"):chat("hi", { model = { { calls = { { name = "look", arguments = { id = 1 } } } }, "done" } })
end)
test.case("played", function()
  local asked = test.fake("http", function() return { json = { n = 1 } } end)
  guard.pre_prompt(test.prompt "reach out", test.run())
  test.equal(asked, { { method = "GET", url = "https://api.example.com" } })
end)
"#)
    .await;
    let hint = "the script reaches out by std.http, and nobody plays it: test.fake(\"http\", function(request) ... end)";
    let tool = "the tool `look` is called, and nobody plays it: tools = { look = function(arguments) ... end }";
    assert_fails(
        &ran,
        &[&format!("scripts/guard.lua:7: {hint}"), &format!("scripts/guard_test.lua:7: {hint}"), tool, "1 passed, 3 failed"],
    );
}

/// A whole run: hooks with the entry's config, the agent's limits, its prompt; streamed or not.
#[tokio::test]
async fn a_whole_run() {
    let ran = run(r#"local function looks(id)
  return { calls = { { name = "look", arguments = { id = id } } } }
end
local tools = { look = function(arguments) return "thing " .. arguments.id end }

test.case("hooks", function()
  for _, stream in ipairs { false, true } do
    local outcome = test.agent("Clerk"):chat("hi", { model = { looks(2), "It is there." }, tools = tools, stream = stream })
    test.equal(outcome.content, "IT IS THERE.")
    test.equal(outcome.calls, { { name = "look", arguments = { id = 2 } } })
    test.equal(outcome.prompts[1].messages[1], { role = "system", content = "Be brief." })
    test.equal(outcome.prompts[2].messages[4].content, "thing 2")
  end
end)
test.case("a verdict", function()
  local outcome = test.agent("Clerk"):chat("hi", { model = { looks(3), "none" }, tools = tools })
  test.equal(outcome.calls, {})
  test.equal(outcome.prompts[2].messages[4].content, "no such thing")
end)
test.case("limits and schemas", function()
  local outcome = test.agent("Clerk"):chat("hi", { model = { looks("x"), "done" }, tools = tools })
  test.contains(outcome.prompts[2].messages[4].content, "invalid arguments")
  test.equal(#outcome.prompts[2].tools, 0, "the second call is the last one")
end)
test.case("on_error", function()
  local outcome = test.agent("Clerk"):chat("hi", { model = { { error = "it is away" } } })
  test.contains(outcome.content, "sorry: ")
end)
test.case("an error", function()
  local outcome = test.agent("Clerk"):chat("break", { model = {} })
  test.equal({ outcome.error.code, outcome.error.status }, { "hook_error", 500 })
  test.contains(outcome.error.detail, "scripts/guard.lua:9:")
end)
"#)
    .await;
    assert_passes(&ran);
    assert!(ran.stdout.contains("5 passed, 0 failed"), "{}", ran.stdout);
}

/// The tests are the operator's: an agent that is kept for some keys is as good as any.
#[tokio::test]
async fn an_agent_that_is_kept_for_some_keys() {
    let tests = "test.case(\"kept\", function() test.agent(\"Clerk\"):chat(\"hi\", { model = { \"hi\" } }) end)\n";
    let kept = CONFIG.replace("    hooks:", "    allow: [somebody]\n    hooks:") + "auth: { keys: [{ id: somebody, key: secret }] }\n";
    assert_passes(&project(tests).file("config/gateway.yaml", &kept).run(&["test"]).await);
}

/// A script of replies has as many as the model is asked for.
#[tokio::test]
async fn a_models_replies_are_counted() {
    let ran = run(r#"test.case("too many", function()
  test.agent("Clerk"):chat("hi", { model = { "a", "b" } })
end)
test.case("too few", function()
  test.agent("Clerk"):chat("hi", { model = {} })
end)
"#)
    .await;
    assert_fails(&ran, &["the model has 2 replies and was asked 1 times", "the model is asked 1 times, and has no reply to the last"]);
}

/// A whole run needs the agent and a configuration that can be used; tests without one need neither.
#[tokio::test]
async fn a_configuration_that_cannot_be_used() {
    const TESTS: &str = "test.case(\"run\", function() test.agent(\"Clark\"):chat(\"hi\", { model = {} }) end)\n\
        test.case(\"direct\", function() test.equal(test.run().config, { max = 1 }) end)\n";
    let setup = project(TESTS)
        .file("config/typo.yaml", &CONFIG.replace("hooks:", "hoks:"))
        .file("config/wrong.yaml", &CONFIG.replace("max: 2", "mx: 2"));
    let cases = [
        (
            "config/gateway.yaml",
            "scripts/guard_test.lua:3: agent:chat: config/gateway.yaml has no agent, and no alias with hooks, called `Clark`; its agents are: Clerk",
        ),
        ("config/typo.yaml", "config/typo.yaml:7:5: agents[0].hoks: is not a key here; did you mean `hooks`?"),
        ("config/wrong.yaml", "agents[0].hooks[0].config.mx: scripts/guard.lua has no `mx` in its `config`: did you mean `max`?"),
        ("config/none.yaml", "config/none.yaml: cannot be read: No such file or directory"),
    ];
    for (config, said) in cases {
        let ran = setup.run(&["test", "--config", config]).await;
        assert_fails(&ran, &[said, "  ok      direct\n", "1 passed, 1 failed"]);
    }
}

/// `--watch` runs the tests again when a script, or its test, is saved.
#[tokio::test]
async fn watching() {
    let setup = project("test.case(\"limit\", function() test.equal(guard.config.max, 2) end)\n");
    let mut child = setup.spawn(&["test", "--watch"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(round(&mut lines).await.contains("0 passed, 1 failed"));
    let setup = setup.file("scripts/guard.lua", &GUARD.replace("max = 1", "max = 2"));
    assert!(round(&mut lines).await.contains("1 passed, 0 failed"));
    let _setup = setup.file("scripts/guard_test.lua", "local = 3");
    assert!(round(&mut lines).await.contains("scripts/guard_test.lua:1: "));
    child.kill().await.unwrap();
}

/// What a watching command prints until it waits again.
async fn round(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let mut said = String::new();
    let read = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.starts_with("waiting for a change") {
                return;
            }
            said.push_str(&line);
            said.push('\n');
        }
        panic!("the command has ended");
    };
    within(20, "a round of tests", read).await;
    said
}

/// What a test plays has a name that exists, a hook's verdict means something at its point, and the failure of a whole run is looked at.
#[tokio::test]
async fn mistakes_of_a_test_are_said() {
    let setup = project(
        r#"test.case("fake", function()
  test.fake("htp", function() end)
end)
test.case("unseen", function()
  test.agent("Clerk"):chat("break", { model = {} })
end)
test.case("seen", function()
  local outcome = test.agent("Clerk"):chat("break", { model = {} })
  test.equal(outcome.error.code, "hook_error")
end)
"#,
    )
    .file("scripts/odd.lua", "return { on_chunk = function(_, run) return run:answer('x') end, pre_prompt = function(_, run) run:reject('x') end, post_response = function() return 7 end }")
    .file(
        "scripts/odd_test.lua",
        r#"local test, odd = require "std.test", require "odd"
test.case("illegal", function() odd.on_chunk(test.chunk("x"), test.run()) end)
test.case("forgotten", function() odd.pre_prompt(test.prompt(), test.run()) end)
test.case("wrong", function() odd.post_response(test.reply("x"), test.run()) end)
"#,
    );
    assert_fails(
        &setup.run(&["test"]).await,
        &[
            "scripts/guard_test.lua:4: test.fake: nobody plays `htp`: did you mean `http`?",
            "the run of `Clerk` failed, and the test did not look at its `error`: hook_error: a hook of this agent failed",
            "  ok      seen\n",
            "scripts/odd_test.lua:2: `run:answer` means nothing in `on_chunk`; here you may return `run:abort` or nothing",
            "scripts/odd_test.lua:3: `pre_prompt` made a verdict and did not return it",
            "scripts/odd_test.lua:4: `post_response` returned a",
            "1 passed, 5 failed",
        ],
    );
}
