//! `std.json`, `std.crypto`, `std.time`, `std.template` and `std.text`, as scripts use them.

use super::*;

/// Runs Lua in a hook. `std.x` is `require "std.x"`.
pub(super) async fn passes(body: &str) {
    if let Err(problem) = ran(body).await {
        panic!("{problem}\n{body}");
    }
}

/// Runs Lua in a hook that must fail so, at its line.
pub(super) async fn fails(body: &str, expected: &str) {
    let problem = ran(body).await.expect_err(body);
    assert_eq!(problem, format!("a hook of this agent failed: scripts/x.lua:2: {expected}"), "{body}");
}

pub(super) async fn ran(body: &str) -> Result<(), String> {
    let source = format!(
        "local std = setmetatable({{}}, {{ __index = function(_, name) return require('std.' .. name) end }}) return {{ on_tool_call = function(call, run)\n{body}\nend }}"
    );
    let hooks = Scripts::new(&[("x.lua", &source)]).load(&[options("x.lua", |o| o.timeout = std::time::Duration::from_secs(20))]);
    let result = hooks.begin(view(), nowhere()).on_tool_call(&mut call(), ANY).await;
    result.map(|_| ()).map_err(|error| error.chain())
}

#[tokio::test]
async fn json_is_queried_and_made_pretty() {
    passes(
        r#"local json = std.json
        local value = { items = { { title = "a", price = 5 }, { title = "b", price = 15 }, { title = "c" } }, none = json.null }
        assert(table.concat(json.query(value, "$.items[*].title"), ",") == "a,b,c")
        assert(table.concat(json.query(json.encode(value), "$.items[?@.price < 10].title"), ",") == "a")
        assert(json.query(value, "$.none")[1] == json.null and json.query(value, "$..price")[2] == 15)
        assert(#json.query(value, "$.nothing") == 0 and json.encode(json.query(value, "$.nothing")) == "[]")
        assert(json.pretty({ b = json.array {}, a = { 1 } }) == '{\n  "a": [\n    1\n  ],\n  "b": []\n}')"#,
    )
    .await;
    fails("std.json.query({}, '$.[')", "json.query: `$.[` is not a JSONPath: it is wrong at character 3, at `[`").await;
    fails("std.json.query({}, nil)", "json.query: the path must be a string, not nil").await;
    fails("std.json.query('{', '$')", "json.query: EOF while parsing an object at line 1 column 1").await;
    fails("std.json.query({ print }, '$')", "json.query: the value[1] is a function, which JSON cannot say").await;
    fails("std.json.encode(string.rep('x', 8e6 + 4e5))", "json.encode: the value is too large").await;
    fails("std.json.encode(string.rep('\\1', 2e6))", "json.encode: the text would be longer than 8 MiB").await;
    fails("std.json.pretty({ string.rep('\\1', 2e6) })", "json.pretty: the text would be longer than 8 MiB").await;
    fails("std.json.decode(string.rep(' ', 9e6))", "json.decode: the text is longer than 8 MiB").await;
    fails("std.json.query(string.rep(' ', 9e6), '$')", "json.query: the text is longer than 8 MiB").await;
    fails("std.json.decode(nil)", "json.decode: the text must be a string, not nil").await;
}

#[tokio::test]
async fn crypto_hashes_and_encodes() {
    passes(
        r#"local crypto = std.crypto
        assert(crypto.sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        assert(crypto.hmac_sha256("key", "The quick brown fox jumps over the lazy dog")
          == "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8")
        assert(crypto.hex("\0\255a") == "00ff61")
        local bytes = "\251\255\0x"
        assert(crypto.base64_encode(bytes) == "+/8AeA==" and crypto.base64_encode(bytes, { url = true }) == "-_8AeA")
        assert(crypto.base64_decode("+/8AeA==") == bytes and crypto.base64_decode("+/8AeA") == bytes)
        assert(crypto.base64_decode("-_8AeA", { url = true }) == bytes and crypto.base64_decode("") == "")
        local id = crypto.uuid()
        assert(#id == 36 and id:sub(15, 15) == "4" and id ~= crypto.uuid())
        assert(crypto.equal("a", "a") and not crypto.equal("a", "b") and not crypto.equal("a", "aa"))
        assert(#crypto.random(1) == 2 and #crypto.random(100) == 200 and crypto.random(16) ~= crypto.random(16))
        assert(crypto.random(40):match("^%x+$"))"#,
    )
    .await;
    fails("std.crypto.sha256()", "crypto.sha256: the text must be a string, not nil").await;
    fails("std.crypto.hmac_sha256('k', 1)", "crypto.hmac_sha256: the text must be a string, not a number").await;
    fails("std.crypto.random(0)", "crypto.random: the number of bytes is from 1 to 1024").await;
    fails("std.crypto.random(1.5)", "crypto.random: the number of bytes must be a whole number").await;
    fails("std.crypto.base64_encode('a', { urls = true })", "crypto.base64_encode: there is no option `urls`: did you mean `url`?").await;
    fails("std.crypto.base64_decode('-_8', {})", "crypto.base64_decode: the text is not base64: Invalid symbol 45, offset 0.").await;
}

#[tokio::test]
async fn time_is_read_and_written() {
    passes(
        r#"local time = std.time
        local now = time.now()
        assert(now > 1700000000 and math.abs(time.ms() - now * 1000) < 5000 and time.ms() % 1 == 0)
        assert(time.iso(0) == "1970-01-01T00:00:00Z" and time.iso(1795519748.9) == "2026-11-24T11:29:08Z")
        assert(time.parse(time.iso()) == math.floor(time.now()) or time.parse(time.iso()) == math.floor(time.now()))
        assert(time.parse("2026-11-24T11:29:08Z") == 1795519748 and time.parse("2026-11-24 11:29:08") == 1795519748)
        assert(time.parse("2026-11-24T13:29:08+02:00") == 1795519748 and time.parse("2026-11-24T06:59:08-0430") == 1795519748)
        assert(time.parse("2026-11-24T11:29:08.25Z") == 1795519748.25 and time.parse("2024-02-29T00:00:00Z") == 1709164800)
        for _, wrong in { "", "now", "2026-02-29T00:00:00Z", "2026-11-24T24:00:00Z", "2026-11-24T11:29:08CET", "2026-11-24", 5, false } do
          local seconds, problem = time.parse(wrong)
          assert(seconds == nil and type(problem) == "string", tostring(wrong))
        end
        assert(time.parse(nil) == nil)
        assert(time.seconds("1h30m") == 5400 and time.seconds("2d") == 172800 and time.seconds("500ms") == 0.5 and time.seconds("1.5s") == 1.5)
        for _, wrong in { "", "5", "h", "1y", "1h 2", "-1s", 5 } do
          local seconds, problem = time.seconds(wrong)
          assert(seconds == nil and type(problem) == "string", tostring(wrong))
        end"#,
    )
    .await;
    fails("std.time.iso('now')", "time.iso: the time must be a number of seconds from 0 to 253402300799").await;
    fails("std.time.iso(0/0)", "time.iso: the time must be a number of seconds from 0 to 253402300799").await;
}

#[tokio::test]
async fn templates_are_filled_in() {
    passes(
        r#"local render = std.template.render
        assert(render("Hello {{name}}!", { name = "Ada" }) == "Hello Ada!" and render("") == "" and render("a } b {", {}) == "a } b {")
        assert(render("{{a.b.c}} {{ list.2.x }} {{n}} {{no}}", { a = { b = { c = 1 } }, list = { 0, { x = true } }, n = 2.5, no = false }) == "1 true 2.5 false")
        assert(render("{{name | dear guest }}, {{ x|}}.", { name = std.json.null }) == "dear guest, .")
        assert(render("{{a}}{{b}}", { a = "{{b}}", b = "}}%1" }) == "{{b}}}}%1", "what was filled in is not looked at again")
        assert(render("{{list}} {{t}}", { list = { 1, 2 }, t = { a = "x" } }) == '[1,2] {"a":"x"}')
        assert(render([[\{{name}} {{name}}]], { name = "x" }) == "{{name}} x")"#,
    )
    .await;
    fails("std.template.render('Hi {{user.name}}', { user = {} })", "template.render: there is no value for {{user.name}}").await;
    fails("std.template.render('Hi {{a.b}}', { a = 'text' })", "template.render: there is no value for {{a.b}}").await;
    fails("std.template.render('{{a b}}')", "template.render: `{{a b}}` does not name a value; `\\{{` stands for the braces themselves")
        .await;
    fails("std.template.render('{{a')", "template.render: a `{{` has no `}}`; `\\{{` stands for the braces themselves").await;
    fails("std.template.render()", "template.render: the text must be a string, not nil").await;
    fails("std.template.render('', 'x')", "template.render: the values must be a table, not a string").await;
}

#[tokio::test]
async fn texts_are_taken_apart() {
    passes(
        r#"local text = std.text
        local function joined(list) return table.concat(list, "|") end
        assert(joined(text.lines("a\r\nb\n\nc")) == "a|b||c" and joined(text.lines("a\n")) == "a" and #text.lines("") == 0 and #text.lines("\n") == 1)
        assert(joined(text.words("  two  words\n")) == "two|words" and #text.words(" ") == 0)
        assert(text.indent("a\n\nb") == "  a\n\n  b" and text.indent("a", "> ") == "> a")
        assert(text.is_blank(nil) and text.is_blank("") and text.is_blank(" \n\t") and not text.is_blank(" a "))
        assert(text.estimate_tokens("") == 0 and text.estimate_tokens("abcde") == 2)"#,
    )
    .await;
}

/// Modules are shared by the runs of a VM, one after the other: none can be changed, in no place that a script can reach.
#[tokio::test]
async fn no_module_can_be_changed() {
    passes(
        r#"local seen = {}
        local function check(value, path)
          if type(value) ~= "table" or seen[value] or value == std.json.null then return end
          seen[value] = true
          assert(table.isfrozen(value), path .. " can be changed")
          assert(not getmetatable(value), path .. " shows its metatable")
          for name, inner in pairs(value) do check(inner, path .. "." .. tostring(name)) end
        end
        for _, name in { "crypto", "json", "log", "redact", "regex", "template", "text", "time" } do check(std[name], name) end
        local redact = std.redact
        for _, object in { redact.stream(), redact.unmask_stream(redact.vault()), redact.stream().finder } do
          assert(getmetatable(object) == false)
          assert(not pcall(setmetatable, object, {}))
        end
        assert(not pcall(function() redact.stream().finder.x = 1 end))
        local lists = getmetatable(std.json.array {})
        assert(table.isfrozen(lists) and not pcall(rawset, lists, "__index", print))"#,
    )
    .await;
}
