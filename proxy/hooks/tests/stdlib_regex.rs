//! `std.regex`, as scripts use it, well and badly.

use super::stdlib_plain::{fails, passes};
use super::*;
use crate::error::Kind;
use crate::hooks::meter::cpu_now;

#[tokio::test]
async fn patterns_are_found_and_replaced() {
    passes(
        r#"local regex = std.regex
        assert(regex.test("order 42", [[\d+]]) and not regex.test("order", [[\d]]))
        local first, last, key, value = regex.find("a k=v", [[(\w)=(\w)]])
        assert(first == 3 and last == 5 and key == "k" and value == "v")
        assert(regex.find("aXbX", "X", 3) == 4 and regex.find("aXbX", "X", -2) == 4 and regex.find("aX", "X", 9) == nil and regex.find("aX", "y") == nil)
        assert(regex.find("éx", "x", 2) == 3 and regex.find("", "", 1) == 1 and select(2, regex.find("ab", "")) == 0)
        local _, _, none, b = regex.find("b", "(a)|(b)")
        assert(none == nil and b == "b")
        local date = regex.match("on 2026-11-24", [[(?<year>\d{4})-(\d\d)]])
        assert(date[0] == "2026-11" and date[1] == "2026" and date[2] == "11" and date.year == "2026" and regex.match("x", "y") == nil)
        local all = regex.find_all("é1 b22", [[(\p{L})(?<n>\d+)]])
        assert(#all == 2 and all[1].first == 1 and all[1].last == 3 and all[2].text == "b22" and all[2].captures.n == "22")
        assert(#regex.find_all("x", "y") == 0)
        local text, n = regex.replace("Ada Lovelace", [[(\w+) (?<last>\w+)]], "${last}, $1 $$")
        assert(text == "Lovelace, Ada $" and n == 1)
        text, n = regex.replace("a1b22", [[\d+]], function(match) if match.text == "22" then return "<" .. #match.text .. ">" end end)
        assert(text == "a1b<2>" and n == 2 and regex.replace("ab", "", "-") == "-a-b-" and regex.replace("ab", "", function() return "-" end) == "-a-b-")
        assert(regex.replace("abc", "x", "y") == "abc" and regex.replace("a", "a", function() return 5 end) == "5")
        assert(table.concat(regex.split("a1b22c", [[\d+]]), "|") == "a|b|c" and #regex.split("", ",") == 1)
        assert(regex.test("1+1", "^" .. regex.escape("1+1") .. "$") and regex.escape("a.b") == [[a\.b]])
        assert(regex.test(std.text.join({ "A", "ä" }), "(?i)aÄ"))"#,
    )
    .await;
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_line() {
    fails("std.regex.test('x', 'a(b')", "regex.test: the pattern `a(b` is wrong at character 2: unclosed group").await;
    fails("std.regex.test(nil, 'a')", "regex.test: the text must be a string, not nil").await;
    fails("std.regex.find('x')", "regex.find: the pattern must be a string, not nil").await;
    fails("std.regex.find('x', 'x', 'y')", "regex.find: the place to begin at must be a number, not a string").await;
    fails("std.regex.match('\\255', 'a')", "regex.match: the text is not UTF-8").await;
    fails("std.regex.replace('a', 'a', {})", "regex.replace: the replacement must be a string, not a table").await;
    fails(
        "std.regex.replace('a', 'a', function() return {} end)",
        "regex.replace: the replacement function must return a string or nil, not a table",
    )
    .await;
    fails("std.regex.test(('x'):rep(9 * 2^20), 'a')", "regex.test: the text is longer than 8 MiB").await;
    fails("std.regex.find_all(('x'):rep(10001), 'x')", "regex.find_all: the text has more than 10000 matches").await;
    fails("std.regex.split(('x'):rep(10001), 'x')", "regex.split: the text has more than 10000 matches").await;
    fails("std.regex.replace(('x'):rep(4000), 'x+', ('$0'):rep(4000))", "regex.replace: the result would be longer than 8 MiB").await;
    fails("std.regex.test('x', ('x'):rep(20000))", "regex.test: the pattern is longer than 16 KiB").await;
}

/// Native work ends soon after the hook's budget, as all else does.
#[tokio::test]
async fn no_pattern_hangs_a_thread() {
    for body in [
        "local s = ('a'):rep(2e6) while true do std.regex.find_all(s, '.*[^a-z]|[a-z]') end",
        "local s = ('ab'):rep(3e5) while true do std.regex.test(s, '(a|ab|b)*c') end",
        "local n = 0 while true do n += 1 pcall(std.regex.test, 'x', '\\\\w{20}' .. n) end",
        "local s = ('1 '):rep(2e5) while true do std.redact.find(s) end",
        "local s = ('a@'):rep(2e5) while true do std.redact.text(s, { patterns = { x = '(a|b)+c' } }) end",
        "std.regex.replace(('x'):rep(9000), 'x', function() while true do end end)",
    ] {
        let source = format!(
            "local std = setmetatable({{}}, {{ __index = function(_, name) return require('std.' .. name) end }}) return {{ pre_prompt = function() {body} end }}"
        );
        let began = cpu_now();
        let error = begin(&source).pre_prompt(&mut prompt()).await.expect_err(body);
        let took = (cpu_now() - began) / 1_000_000;
        println!("{took:>4} ms: {}", error.chain());
        assert_eq!(error.kind, Kind::HookTimeout, "{body}: {}", error.chain());
        assert!(took < 1000, "{body} took {took} ms");
    }
}

#[tokio::test]
async fn a_search_that_could_take_long_is_refused() {
    fails(
        "std.regex.test(('ab'):rep(1e6), '[ab]*a[ab]{200}c')",
        "regex.test: with the counts in this pattern a text may have 1322342 bytes; it has 2000000",
    )
    .await;
    passes("local text = ('ab '):rep(2e6) assert(not std.regex.test(text, [[\\d{4}-\\d{2}-\\d{2}]]) and not std.regex.test(text, [[\\w+@\\w+]]))").await;
}
