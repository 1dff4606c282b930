//! Scripts that run wild: each ends as a clean error, in time, and the next call works.

use super::*;
use crate::error::Kind;
use crate::hooks::meter::cpu_now;

/// What may pass beyond the budget of 50 ms, in milliseconds: what one builtin takes before it asks again.
const GRACE_MS: u64 = 150;

/// Runs a script that fails, checks how, and that the same agent works again.
async fn ends(body: &str, kind: Kind) {
    let source = format!(
        "local wild = {{}}\nfunction wild.pre_prompt(prompt, run)\n  if prompt.temperature == 0 then return end\n{body}\nend\nreturn wild"
    );
    let hooks = hooks(&source);
    let run = hooks.begin(view(), nowhere());
    let mut before = prompt();
    let began = cpu_now();
    let error = run.pre_prompt(&mut before).await.expect_err(body);
    let took = (cpu_now() - began) / 1_000_000;
    println!("{took:>4} ms: {}", error.chain());
    assert_eq!(error.kind, kind, "{body}: {}", error.chain());
    assert!(took < 50 + GRACE_MS, "{body} took {took} ms");
    assert!(!error.message.contains("lua"), "{}", error.message);
    let chain = error.chain();
    let (_, from_line) = chain.split_once("scripts/x.lua:").unwrap_or_default();
    assert!(from_line.starts_with(|c: char| c.is_ascii_digit()), "{body}: {chain}");
    assert_eq!(before, prompt(), "the value from before the hook");
    let mut calm = prompt();
    calm.rest.insert("temperature".into(), 0.into());
    for run in [run, hooks.begin(view(), nowhere())] {
        assert_eq!(run.pre_prompt(&mut calm).await.unwrap(), Verdict::Continue, "after {body}");
    }
}

#[tokio::test]
async fn loops_without_end_are_stopped_at_the_budget() {
    for body in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(pcall, error) end",
        "coroutine.wrap(function() while true do end end)()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do coroutine.yield() end",
        "xpcall(function() while true do end end, function() while true do end end)",
        "return (string.rep('a', 200000):match('.-.-.-.-b'))",
        "local p = string.rep('a?', 28) .. string.rep('a', 28) return (string.rep('a', 28):find(p))",
        "string.gsub(string.rep('x', 100), 'x', function() while true do end end)",
        "table.sort({ 3, 1, 2 }, function() while true do end end)",
        "local t = setmetatable({}, { __index = function() while true do end end }) return t.x",
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
        "for _ in setmetatable({}, { __iter = function() while true do end end }) do end",
        "pcall(function() while true do end end) return nil",
        "local function f() pcall(f) pcall(f) end f()",
    ] {
        ends(body, Kind::HookTimeout).await;
    }
}

/// Builtins that ask no interrupt take time in proportion to their input, which the memory cap bounds.
#[tokio::test]
async fn builtins_without_interrupt_end_soon_enough() {
    for body in [
        "local s, w = string.rep('a', 4e6), string.rep('a', 2e6) .. 'b' while true do s:find(w, 1, true) end",
        "local s, w = string.rep('a', 4e6), string.rep('a', 2e6) .. 'b' while true do s:find(w) end",
        "local s, w = string.rep('a', 2e6), string.rep('a', 1e6) .. 'ba' while true do s:split(w) end",
        "local s = string.rep('a', 6e6) while true do utf8.len(s) end",
        "local s = string.rep(',', 5e5) while true do s:split() end",
        "local s = string.rep('a', 6e5) while true do s:split('') end",
        "local text = require('std.text') local s = string.rep('\\n', 3e5) while true do text.lines(s) text.indent(s) text.replace(s, '\\n', '') end",
        "local a, b, t = string.rep('a', 1e6) .. 'a', string.rep('a', 1e6) .. 'b', {} for i = 1, 1e5 do t[i] = i % 2 == 0 and a or b end table.sort(t)",
        "local json, t = require('std.json'), {} for i = 1, 1e5 do t[i] = i end while true do json.encode(t) json.pretty(t) end",
        "local json, t = require('std.json'), { string.rep('\\1', 1e6) } while true do pcall(json.encode, t) pcall(json.pretty, t) end",
        "local json, s = require('std.json'), '[' .. string.rep('1,', 1e5) .. '1]' while true do json.decode(s) end",
        "local json, s = require('std.json'), '[' .. string.rep('1,', 3e6) .. '1]' while true do pcall(json.decode, s) end",
        "local t = {} for i = 1, 2e5 do t[i] = (i * 7919) % 200003 end while true do table.sort(t) table.sort(t, function(a, b) return a > b end) end",
    ] {
        ends(body, Kind::HookTimeout).await;
    }
}

#[tokio::test]
async fn memory_is_capped() {
    for body in [
        "return string.rep('x', 2^30)",
        "local t = {} for i = 1, 1e9 do t[i] = string.rep('x', 1e5) .. i end",
        "local s = 'x' while true do s = s .. s end",
        "return buffer.create(2^30)",
        "local t = table.create(6e7, 1) return t",
        "coroutine.wrap(function() return string.rep('x', 2^30) end)()",
        "string.gsub(string.rep('x', 1e6), 'x', string.rep('y', 1000))",
    ] {
        ends(body, Kind::HookMemory).await;
    }
}

#[tokio::test]
async fn errors_of_every_shape_are_hook_errors() {
    for body in [
        "error('boom')",
        "error({ code = 1 })",
        "error()",
        "error(nil, 2)",
        "error(run)",
        "error('\\255\\254')",
        "error(setmetatable({}, { __tostring = function() error('again') end }))",
        "local function f() return 1 + f() end f()",
        "local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x",
        "return {}",
        "return false",
        "return prompt",
        "run:reject('no')",
        "run.reject('no')",
        "return run:answer()",
        "return run:answer(print)",
        "return run:answer('\\255')",
        "return run:answer(3)",
        "return run:answer({ tool_calls = { { id = 'a' } } })",
        "return run:answer({ content = require('std.json').null })",
        "return run:answer({})",
        "local t = {} t.content = t return run:answer(t)",
        "return run:abort(200, 'fine')",
        "return run:reject({})",
        "run.hop = 3",
        "run.config.x = 3",
        "string.rep = nil",
        "getmetatable('').__index = nil",
        "_G.string.len = nil",
        "prompt.messages = 'text'",
        "prompt.messages = { 'text' }",
        "prompt.messages[1] = nil",
        "prompt.messages[1].content = print",
        "prompt.messages[1].content = '\\255'",
        "prompt.messages[1].self = prompt.messages",
        "prompt.model = nil",
        "prompt.model = 3",
        "prompt.tools = 'none'",
        "prompt.extra = 0/0",
        "prompt[1] = 1",
        "rawset(prompt, 1, 1)",
    ] {
        ends(body, Kind::HookError).await;
    }
}

#[tokio::test]
async fn nothing_of_the_outside_is_in_reach() {
    let source = r#"
        local outside = {
          "loadstring", "load", "dofile", "loadfile", "collectgarbage", "gcinfo", "getfenv", "setfenv", "newproxy",
          "io", "package", "ffi", "jit", "python", "os.execute", "os.getenv", "os.exit", "os.remove", "os.rename", "os.tmpname",
          "debug.info", "debug.getinfo", "debug.getregistry", "debug.getupvalue", "debug.sethook", "string.dump",
        }
        return { on_tool_call = function(call, run)
          for _, path in ipairs(outside) do
            local value = _G
            for name in path:gmatch("[^.]+") do
              value = value and value[name]
            end
            if value ~= nil then
              return run:answer(path)
            end
          end
          for _, name in ipairs({ "../secret", "/etc/passwd", "sub/x", ".", "..", "", "x.lua", "std.secret", "std.jsn" }) do
            if pcall(require, name) then
              return run:answer(name)
            end
          end
          assert(getmetatable(call) == false and getmetatable(run) == false and getmetatable(run:answer(1)) == false)
          assert(not pcall(setmetatable, call, nil) and not pcall(table.freeze, run.state, run) == false)
          return run:answer("safe")
        end }"#;
    assert_eq!(begin(source).on_tool_call(&mut call(), ANY).await.unwrap(), Verdict::Answer(json!("safe")));
}

/// A hook that computes for longer than a slice lets the other tasks of its thread run.
#[tokio::test]
async fn a_long_hook_lets_other_tasks_run() {
    let hooks = Scripts::new(&[("x.lua", "return { pre_prompt = function() local n = 0 for i = 1, 1e6 do n = n + math.sin(i) end end }")])
        .load(&[options("x.lua", |o| o.timeout = std::time::Duration::from_secs(60))]);
    let run = hooks.begin(view(), nowhere());
    let turns = std::cell::Cell::new(0);
    let mut prompt = prompt();
    let others = async {
        loop {
            turns.set(turns.get() + 1);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        verdict = run.pre_prompt(&mut prompt) => assert_eq!(verdict.unwrap(), Verdict::Continue),
        () = others => {}
    }
    assert!(turns.get() > 3, "only {} turns", turns.get());
}

/// Between slices a script's own coroutines go on as if nothing had happened.
#[tokio::test]
async fn slices_do_not_disturb_coroutines() {
    let source = r#"
        return { on_tool_call = function(call, run)
          local co = coroutine.wrap(function()
            for i = 1, 20 do
              local n = 0
              for j = 1, 2e4 do n = n + math.sin(j) end
              coroutine.yield(i)
            end
          end)
          local sum = 0
          for i = 1, 20 do
            sum = sum + co()
          end
          local ok, inside = pcall(function() for j = 1, 2e5 do math.sin(j) end return "through" end)
          return run:answer({ sum = sum, inside = inside })
        end }"#;
    let hooks = Scripts::new(&[("x.lua", source)]).load(&[options("x.lua", |o| o.timeout = std::time::Duration::from_secs(5))]);
    let verdict = hooks.begin(view(), nowhere()).on_tool_call(&mut call(), ANY).await.unwrap();
    assert_eq!(verdict, Verdict::Answer(json!({ "sum": 210, "inside": "through" })));
}

/// A large prompt is the client's, not the script's: it does not count against the script's memory or time.
#[tokio::test]
async fn a_large_prompt_is_not_the_scripts_fault() {
    let run = begin("return { pre_prompt = function(prompt) prompt.messages[1].role = 'developer' end }");
    for _ in 0..3 {
        let mut prompt = prompt();
        prompt.messages[0] = Message::text("system", "x".repeat(20 << 20));
        run.pre_prompt(&mut prompt).await.unwrap();
        assert_eq!(prompt.messages[0].role(), "developer");
    }
}

/// Nor is a large text that the hook gets at once.
#[tokio::test]
async fn a_large_reply_is_not_the_scripts_fault() {
    let run = begin("return { post_response = function(reply) reply.content = #reply.content .. ' bytes' end }");
    for _ in 0..3 {
        let mut reply = ReplyView { content: "x".repeat(20 << 20), ..ReplyView::default() };
        run.post_response(&mut reply).await.unwrap();
        assert_eq!(reply.content, "20971520 bytes");
    }
}

/// The calls of a VM share one Lua thread. A script that keeps it can do nothing with it.
#[tokio::test]
async fn the_thread_of_an_earlier_call_is_of_no_use() {
    let source = "local kept return { pre_prompt = function(prompt)
        for _, attack in { coroutine.close, coroutine.resume, coroutine.wrap } do
          pcall(attack, kept)
          coroutine.wrap(function() pcall(attack, kept) end)()
        end
        kept = coroutine.running()
        prompt.model = prompt.model .. '!'
        if prompt.temperature == 0 then error('out of here') end
      end }";
    let run = begin(source);
    for fails in [false, true, false, false] {
        let mut prompt = prompt();
        prompt.rest.insert("temperature".into(), u8::from(!fails).into());
        assert_eq!(run.pre_prompt(&mut prompt).await.is_err(), fails);
        assert_eq!(prompt.model, if fails { "gpt" } else { "gpt!" });
    }
}

/// Garbage alone does not run into the cap.
#[tokio::test]
async fn garbage_is_collected_in_time() {
    let hooks =
        Scripts::new(&[("x.lua", "return { pre_prompt = function() for i = 1, 3000 do local s = string.rep('x', 5e4) .. i end end }")])
            .load(&[options("x.lua", |o| o.timeout = std::time::Duration::from_secs(5))]);
    hooks.begin(view(), nowhere()).pre_prompt(&mut prompt()).await.unwrap();
}
