//! Hooks without end, or without measure: each is stopped by its budget, soon after it is used up.

use std::time::Duration;

use serde_json::json;

use super::super::stage;
use super::{Bug, Ward};
use crate::support::Step;

/// The CPU time that a hook may have, and what may pass until it is noticed and the run has ended.
const BUDGET: Duration = Duration::from_millis(50);
const GRACE: Duration = Duration::from_millis(150);

/// The most memory that a gateway may take which serves hooks that want a gigabyte, in MiB.
const MOST: u64 = 256;

/// CPU time and not the clock on the wall: on a busy machine, the others have their share of that.
async fn are_stopped(bugs: &[Bug], code: &str) -> Ward {
    let ward = Ward::new(bugs).await;
    for (n, bug) in bugs.iter().enumerate() {
        let took = ward.fails(n, bug, code).await;
        assert!(took <= BUDGET + GRACE, "{took:?} of CPU: {}", bug.1);
    }
    ward
}

/// Wherever the loop is: in the hook, where it catches its own end, in a coroutine, or in what a builtin calls.
#[tokio::test]
async fn endless_loops() {
    let late = "4: the hook used up its CPU budget";
    are_stopped(
        &[
            ("pre_prompt", "while true do end", late),
            ("on_request", "while true do end", late),
            ("on_chunk", "while true do end", late),
            ("on_tool_call", "while true do end", late),
            ("on_tool_result", "while true do end", late),
            ("post_response", "while true do end", late),
            ("pre_prompt", "while true do pcall(function() while true do end end) end", late),
            ("pre_prompt", "pcall(function() while true do end end) return run:answer('escaped')", late),
            ("pre_prompt", "xpcall(function() while true do end end, function() while true do end end)", late),
            ("pre_prompt", "local function f() pcall(f) pcall(f) end f()", late),
            ("pre_prompt", "coroutine.wrap(function() while true do end end)()", late),
            ("pre_prompt", "while true do coroutine.resume(coroutine.create(function() while true do end end)) end", late),
            ("pre_prompt", "while true do coroutine.yield() end", late),
            ("pre_prompt", "local text = string.rep('a', 30) text:find(string.rep('a?', 30) .. text)", late),
            ("pre_prompt", "string.match(string.rep('a', 200000), '.-.-.-.-b')", late),
            ("pre_prompt", "string.gsub(string.rep('x', 100), 'x', function() while true do end end)", late),
            ("pre_prompt", "table.sort({ 3, 1, 2 }, function() while true do end end)", late),
            (
                "pre_prompt",
                "local a, b, t = string.rep('a', 1e6) .. 'a', string.rep('a', 1e6) .. 'b', {} for i = 1, 1e5 do t[i] = i % 2 == 0 and a or b end table.sort(t)",
                late,
            ),
            ("pre_prompt", "local s, text = string.rep('\\n', 3e5), require('std.text') while true do text.lines(s) text.indent(s) end", late),
            ("pre_prompt", "local s = string.rep(',', 5e5) while true do s:split() end", late),
            ("pre_prompt", "local json, t = require('std.json'), table.create(1e5, 1) while true do json.pretty(t) end", late),
            ("pre_prompt", "local json, t = require('std.json'), { string.rep('\\1', 1e6) } while true do json.encode(t) end", late),
            ("pre_prompt", "local json, s = require('std.json'), '[' .. string.rep('1,', 1e5) .. '1]' while true do json.decode(s) end", late),
            ("pre_prompt", "local _ = setmetatable({}, { __index = function() while true do end end }).x", late),
            ("pre_prompt", "error(setmetatable({}, { __tostring = function() while true do end end }))", late),
        ],
        "hook_timeout",
    )
    .await;
}

/// Nor does the gateway itself grow.
#[tokio::test]
async fn endless_memory() {
    let full = "2: not enough memory";
    let ward = are_stopped(
        &[
            ("pre_prompt", "return run:answer(string.rep('x', 2^30))", full),
            ("on_chunk", "it.text = string.rep('x', 2^30)", full),
            ("pre_prompt", "local text = 'x' while true do text = text .. text end", full),
            ("pre_prompt", "local t = {} while true do t[#t + 1] = string.rep('x', 1e6) .. #t end", full),
            ("pre_prompt", "buffer.create(2^30)", full),
            ("pre_prompt", "table.create(6e7, 1)", full),
            ("pre_prompt", "string.gsub(string.rep('x', 1e6), 'x', string.rep('y', 1000))", full),
            ("pre_prompt", "coroutine.wrap(function() string.rep('x', 2^30) end)()", "4: not enough memory"),
            ("pre_prompt", "error(setmetatable({}, { __tostring = function() return string.rep('x', 2^30) end }))", full),
        ],
        "hook_memory",
    )
    .await;
    let peak = ward.gateway.peak_memory();
    println!("{peak} MiB at most");
    assert!(peak < MOST, "{peak} MiB");
}

/// After the first byte the client is told by an error event, and the stream has no end as of a whole answer.
#[tokio::test]
async fn in_the_middle_of_a_stream() {
    let script = "return { on_chunk = function(chunk) if chunk.text:find('two') then while true do end end end }";
    let stage = stage(script, [Step::says("one two three"), Step::says("one")]).await;
    let streamed = stage.gateway.chat("Assistant", json!({ "stream": true })).stream().await;
    assert_eq!((streamed.text().as_str(), streamed.done()), ("one ", false));
    assert_eq!(streamed.error().expect("an error event"), super::harmless("hook_timeout"));
    stage.gateway.logged("scripts/h.lua:1: the hook used up its CPU budget").await;
    assert_eq!(stage.ask(json!({ "stream": false })).await.content(), "one");
}
