//! What scripts find in the place of Luau's builtins: errors as text, the gateway's threads out of reach, nothing left for the next run.

use super::stdlib_plain::{fails, passes};
use super::*;

/// What a script catches is text that says where it happened, and nothing of Lua's stack or the gateway's own files.
#[tokio::test]
async fn a_caught_error_is_text() {
    passes(
        r#"local json = std.json
        local function check(problem, part)
          assert(type(problem) == "string", type(problem))
          assert(problem:find(part, 1, true), problem)
          assert(not problem:find("stack", 1, true) and not problem:find("std.guard", 1, true) and not problem:find("mlua", 1, true), problem)
        end
        local _, problem = pcall(json.decode, "{")
        check(problem, "scripts/x.lua:")
        check(problem, ": json.decode: EOF while parsing")
        check(tostring(problem), "json.decode")
        check(select(2, pcall(function() return json.decode("{") end)), "scripts/x.lua:")
        check(select(2, xpcall(json.decode, function(e) return e end, "{")), "json.decode: EOF")
        check(select(2, coroutine.resume(coroutine.create(json.decode), "{")), "json.decode: EOF")
        check(select(2, pcall(coroutine.wrap(json.decode), "{")), "json.decode: EOF")
        check(select(2, pcall(require, "std.jsn")), "did you mean `std.json`?")
        check(select(2, pcall(run.reject, "no")), "with a colon")
        check(select(2, pcall(table.sort, { "a", 1 })), "attempt to compare")
        check(select(2, pcall(std.text.trim, nil)), "attempt to index nil")
        local own = { code = 7 }
        assert(select(2, pcall(error, own)) == own and select(2, pcall(error, "mine", 0)) == "mine")
        assert(select(2, pcall(function() error("up", 2) end)) == "up")
        assert(select('#', pcall(function() return 1, nil, nil end)) == 4)
        assert(xpcall(function(a) return a end, print, 3))"#,
    )
    .await;
}

/// The message that a client gets of a caught error has no stack.
#[tokio::test]
async fn a_caught_error_may_be_shown() {
    let source = "return { on_tool_call = function(call, run) local _, e = pcall(require('std.json').decode, '{') return run:reject(tostring(e)) end }";
    let Verdict::Reject(message) = begin(source).on_tool_call(&mut call(), ANY).await.unwrap() else { panic!("not rejected") };
    assert_eq!(message, "scripts/x.lua:1: json.decode: EOF while parsing an object at line 1 column 1");
}

/// A branch of `parallel.all` that waits, and the hook's own thread while its branches run, cannot be resumed by the script: it would get
/// what only the gateway understands, and wait with it for ever.
#[tokio::test]
async fn the_gateways_threads_are_not_resumed() {
    let source = r#"return { on_tool_call = function(call, run)
      local parallel, time = require("std.parallel"), require("std.time")
      local top, branch, said = coroutine.running(), nil, {}
      parallel.all(function()
        branch = coroutine.running()
        time.sleep(0.01)
      end, function()
        for _, thread in { branch, top } do
          local ok, sentinel = coroutine.resume(thread)
          table.insert(said, tostring(ok) .. " " .. tostring(sentinel))
          ok, sentinel = coroutine.close(thread)
          table.insert(said, tostring(ok) .. " " .. tostring(sentinel))
        end
      end)
      return run:answer(table.concat(said, "; "))
    end }"#;
    let verdict = tokio::time::timeout(std::time::Duration::from_secs(10), async { begin(source).on_tool_call(&mut call(), ANY).await });
    let said = ["false cannot resume a thread of the gateway's", "false cannot close a thread of the gateway's"].repeat(2).join("; ");
    assert_eq!(verdict.await.expect("it ends").unwrap(), Verdict::Answer(json!(said)));
}

/// A script that ran into the memory cap and caught the error keeps its run; no other run gets the VM.
#[tokio::test]
async fn a_caught_memory_error_spoils_the_vm() {
    for catch in [
        "pcall(string.rep, 'x', 2^30)",
        "coroutine.resume(coroutine.create(function() string.rep('x', 2^30) end))",
        "xpcall(function() string.rep('x', 2^30) end, function() end)",
        "pcall(pcall, function() local t = {} for i = 1, 1e9 do t[i] = string.rep('x', 1e6) .. i end end)",
    ] {
        let hooks = hooks(&format!(
            "return {{ on_tool_call = function(call, run) run.state.n = (run.state.n or 0) + 1 {catch} return run:answer(run.state.n) end }}"
        ));
        let run = hooks.begin(view(), nowhere());
        for n in 1..3 {
            assert_eq!(run.on_tool_call(&mut call(), ANY).await.unwrap(), Verdict::Answer(json!(n)), "{catch}");
        }
        drop(run);
        assert_eq!(hooks.pool.n_idle(), 0, "{catch}");
    }
}

/// One run's seed says nothing of the next run's random numbers, though both have the same VM.
#[tokio::test]
async fn random_numbers_are_each_runs_own() {
    let hooks = hooks(
        "return { on_tool_call = function(call, run) math.randomseed(7) local a = math.random(1e9) return run:answer(a) end, \
                        on_tool_result = function(result, run) result.content = tostring(math.random(1e9)) end }",
    );
    let mut seen = std::collections::HashSet::new();
    for _ in 0..3 {
        let run = hooks.begin(view(), nowhere());
        let mut result = crate::hooks::ResultView::default();
        run.on_tool_result(&mut result).await.unwrap();
        assert!(seen.insert(result.content), "the numbers of the run before");
        run.on_tool_call(&mut call(), ANY).await.unwrap();
        drop(run);
        assert_eq!(hooks.pool.n_idle(), 1);
    }
}

/// Lists can be copied and stay lists, and what they have in common cannot be changed.
#[tokio::test]
async fn lists_are_copied_as_lists() {
    let source = "return { pre_prompt = function(prompt)
      local copy = table.clone(prompt.messages)
      table.insert(copy, { role = 'user', content = 'more' })
      table.clear(prompt.tools)
      assert(not pcall(function() getmetatable(copy).__index = print end))
      assert(not pcall(rawset, getmetatable(copy), '__index', print))
      prompt.messages = copy
    end }";
    let mut after = prompt();
    begin(source).pre_prompt(&mut after).await.unwrap();
    assert_eq!(after.messages.len(), 3);
    assert_eq!(after.messages[2], Message::text("user", "more"));
    assert_eq!(after.messages[..2], prompt().messages[..]);
}

/// Whoever walks through a hook's argument meets all its fields, read before or not.
#[tokio::test]
async fn an_arguments_fields_are_all_met() {
    let source = "return { pre_prompt = function(prompt)
      for _, walk in { function(t) return pairs(t) end, function(t) return t end } do
        local names = {}
        for name, value in walk(prompt) do table.insert(names, name .. ' ' .. type(value)) end
        table.sort(names)
        local all = table.concat(names, ', ')
        assert(all == 'messages table, model string, seed number, stream_options table, temperature number, tools table', all)
      end
    end }";
    let mut after = prompt();
    begin(source).pre_prompt(&mut after).await.unwrap();
    assert_eq!(after, prompt());
}

/// `_G` is the script's own: what is put there is a global of the script.
#[tokio::test]
async fn the_global_table_is_the_scripts_own() {
    passes("_G.mine = 7 assert(mine == 7 and _G.mine == 7 and rawget(_G, 'mine') == 7 and _G.print == print and _G._G == _G)").await;
}

#[tokio::test]
async fn misspelt_names_are_refused() {
    fails("std.text.trimm('x')", "`std.text` has no `trimm`: did you mean `trim`?").await;
    fails("std.store.set('k', 1, { tll = 3 })", "store.set: there is no option `tll`: did you mean `ttl`?").await;
    fails("std.http.get('http://x', { timout = 3 })", "http.get: there is no option `timout`: did you mean `timeout`?").await;
    fails("std.http.request { url = 'http://x', bdy = '' }", "http.request: there is no option `bdy`: did you mean `body`?").await;
    fails("std.limit.take('k', { rate = -1 })", "limit.take: `rate` must be a number above 0, not -1").await;
    fails("std.limit.take('k', { rate = 1, pre = 3 })", "limit.take: there is no option `pre`: did you mean `per`?").await;
    fails("std.limit.take('k')", "limit.take: needs a table with a `rate`, not nil").await;
    fails("std.crypto.sha256(string.rep('x', 9e6))", "crypto.sha256: the text is longer than 8 MiB").await;
}

/// An error that is raised inside `std.*` is the script's: its line is named.
#[tokio::test]
async fn errors_of_the_library_have_the_scripts_line() {
    for (body, expected) in [
        ("std.text.trim(nil)", "attempt to index nil with 'match'"),
        ("std.http.get(nil)", "http.get: the url must be a string, not nil"),
        ("std.http.get('http://x', 7)", "http.get: the options must be a table, not a number"),
        ("std.json.encode(print)", "json.encode: the value is a function, which JSON cannot say"),
        ("std.store.get(nil)", "store.get: the key must be a string, not nil"),
        ("std.text.join({ {} })", "invalid value (table) at index 1 in table for 'concat'"),
        (
            "std.redact.text('a@example.com', { placeholder = function() return 1 end })",
            "redact.text: the `placeholder` function must return a string, not number",
        ),
        ("std.cache.fetch('k', 1, 7)", "attempt to call a number value"),
        ("local t = { 'a', 1 } table.sort(t)", "attempt to compare"),
        ("local _, e = pcall(std.text.trim, nil) error(e, 0)", "attempt to index nil with 'match'"),
    ] {
        let problem = super::stdlib_plain::ran(body).await.expect_err(body);
        let (place, what) = problem.split_once("scripts/x.lua:").unwrap_or_else(|| panic!("{body}: {problem}"));
        assert_eq!(place, "a hook of this agent failed: ");
        assert!(what.starts_with(&format!("2: {expected}")), "{body}: {problem}");
    }
}

/// A verdict's message is text, whatever it was made of, and no longer than anybody reads.
#[tokio::test]
async fn a_verdicts_message_is_short_text() {
    let decide = async |verdict: &str| {
        let source = format!("return {{ on_tool_call = function(call, run) return {verdict} end }}");
        begin(&source).on_tool_call(&mut call(), ANY).await.unwrap()
    };
    assert_eq!(decide("run:abort(499, 12)").await, Verdict::Abort(499, "12".into()));
    assert_eq!(decide("run:reject(1.5)").await, Verdict::Reject("1.5".into()));
    let Verdict::Reject(message) = decide("run:reject(string.rep('ä', 1e6))").await else { panic!("not rejected") };
    assert_eq!(message, "ä".repeat(2048));
    let Verdict::Abort(_, message) = decide("run:abort(400, string.rep('x', 1e6))").await else { panic!("not aborted") };
    assert_eq!(message.len(), 4096);
}

#[tokio::test]
async fn small_texts_are_cut_well() {
    passes(
        r#"local text = std.text
        assert(text.shorten("äöü", 4, "") == "äö" and text.shorten("äöü", 3, "") == "ä" and text.shorten("äöü", 1, "") == "")
        assert(text.shorten("abcdef", 5) == "ab..." and text.shorten("abcdef", 2) == "ab" and text.shorten("äöü", 5, "…") == "ä…")
        assert(text.shorten("äöüß", 3, "…") == "…" and text.shorten("äöüß", 2, "…") == "ä" and text.shorten("abc", 0) == "")
        local messages = { { role = "user", content = "a" }, { role = "user", content = "b" }, { role = "tool", content = "c" } }
        local message, place = text.last(messages)
        assert(message == messages[2] and place == 2 and text.last(messages, "tool") == messages[3] and text.last({}) == nil)
        assert(table.concat(("a,b,"):split(), "|") == "a|b|" and #(""):split("x") == 1 and #("abc"):split("") == 3 and #(""):split("") == 0)
        assert(table.concat(("aXXbXXX"):split("XX"), "|") == "a|b|X")"#,
    )
    .await;
}
