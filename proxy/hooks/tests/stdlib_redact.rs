//! `std.redact`, as scripts use it.

use super::stdlib_plain::{fails, passes};

#[tokio::test]
async fn findings_are_listed_and_replaced() {
    passes(
        r#"local redact = std.redact
        local found = redact.find("é a@b.org 192.0.2.7")
        assert(#found == 2 and found[1].kind == "email" and found[1].first == 4 and found[1].last == 10 and found[1].text == "a@b.org")
        local text, findings = redact.text("é a@b.org 192.0.2.7")
        assert(text == "é [EMAIL] [IPV4]" and #findings == 2 and findings[2].kind == "ipv4" and findings[2].text == nil and findings[1].first == 4)
        assert(redact.text("nothing") == "nothing")
        assert(redact.text("a@b.org 192.0.2.7", { kinds = { "email" }, placeholder = "<%s%%>" }) == "<EMAIL%%> 192.0.2.7")
        assert(redact.text("a@b.org", { placeholder = function(finding) return finding.kind .. #finding.text end }) == "email7")
        assert(redact.text("help@b.org x@b.org", { allow = { "help@b.org" } }) == "help@b.org [EMAIL]")
        assert(redact.text("C-12, a@b.org", { kinds = {}, patterns = { customer = [[C-\d+]] } }) == "[CUSTOMER], a@b.org")"#,
    )
    .await;
    fails("std.redact.text(nil)", "redact.text: the text must be a string, not nil").await;
    fails("std.redact.find('\\255')", "redact.find: the text is not UTF-8").await;
    fails("std.redact.find('', { kind = {} })", "redact.find: there is no option `kind`: did you mean `kinds`?").await;
    fails("std.redact.find('', { kinds = { 'mail' } })", "redact.find: there is no kind `mail`: did you mean `email`?").await;
    fails("std.redact.find('', { kinds = 'email' })", "redact.find: `kinds` must be a table, not a string").await;
    fails("std.redact.find('', { patterns = { x = '(' } })", "redact.find: the pattern `(` is wrong at character 1: unclosed group").await;
    fails("std.redact.find('', { patterns = { email = 'x' } })", "redact.find: `email` in `patterns` is a built-in kind").await;
    fails("std.redact.find('', { patterns = { 'x' } })", "redact.find: a name in `patterns` must be a string, not a number").await;
    fails("std.redact.text('', { placeholder = 5 })", "redact.text: `placeholder` must be a string or a function, not a number").await;
    fails("std.redact.mask('a', {})", "redact.mask: the vault must be one that redact.vault made").await;
    fails("std.redact.unmask(nil, std.redact.vault())", "redact.unmask: the value must be a string or a table, not nil").await;
    fails("std.redact.find(('1.1.1.1 '):rep(20001))", "redact.find: there are more than 20000 findings").await;
}

#[tokio::test]
async fn pseudonyms_are_the_same_for_the_same_value_and_go_back() {
    passes(
        r#"local redact, json = std.redact, std.json
        local vault = redact.vault(run.state)
        assert(vault == redact.vault(run.state) and vault ~= redact.vault())
        local text = "a@b.org, c@d.org, a@b.org, 192.0.2.7"
        local masked, n = redact.mask(text, vault)
        assert(masked == "[EMAIL_1], [EMAIL_2], [EMAIL_1], [IPV4_1]" and n == 4)
        assert(redact.mask("c@d.org", vault) == "[EMAIL_2]")
        local back, m = redact.unmask(masked .. " [EMAIL_9] [x]", vault)
        assert(back == text .. " [EMAIL_9] [x]" and m == 4)
        -- A placeholder that stands in the text already is not used for anything else.
        assert(redact.mask("[EMAIL_3] e@f.org", vault) == "[EMAIL_3] [EMAIL_4]")
        local arguments = { to = { "a@b.org", { cc = "x" } }, n = 1 }
        arguments.self = arguments
        local same, count = redact.mask(arguments, vault)
        assert(same == arguments and count == 1 and arguments.to[1] == "[EMAIL_1]")
        assert(redact.unmask(arguments, vault).to[1] == "a@b.org")
        assert(json.decode(json.encode(vault)).originals["[EMAIL_1]"] == "a@b.org", "a vault is a plain table")"#,
    )
    .await;
}

#[tokio::test]
async fn messages_lose_what_the_model_must_not_read() {
    passes(
        r#"local redact, json = std.redact, std.json
        local function messages()
          return {
            { role = "system", content = "write to help@b.org" },
            { role = "user", content = "I am a@b.org" },
            { role = "user", content = { { type = "text", text = "c@d.org" }, { type = "image_url", image_url = { url = "https://x@y.com/" } } } },
            { role = "assistant", tool_calls = { { id = "1", ["function"] = { name = "f", arguments = '{"to":"a@b.org","n":5}' } } } },
            { role = "tool", content = "sent to a@b.org" },
            { role = "assistant" },
          }
        end
        local list = messages()
        assert(redact.messages(list) == 4)
        assert(list[1].content == "write to help@b.org" and list[2].content == "I am [EMAIL]" and list[3].content[1].text == "[EMAIL]")
        assert(list[3].content[2].image_url.url == "https://x@y.com/" and list[5].content == "sent to [EMAIL]")
        local arguments = json.decode(list[4].tool_calls[1]["function"].arguments)
        assert(arguments.to == "[EMAIL]" and arguments.n == 5)
        local vault = redact.vault()
        list = messages()
        assert(redact.messages(list, vault, { allow = { "c@d.org" } }) == 3)
        assert(list[2].content == "I am [EMAIL_1]" and list[3].content[1].text == "c@d.org" and list[5].content == "sent to [EMAIL_1]")
        assert(redact.messages({ { role = "user", content = "a@b.org" } }, { placeholder = "x" }) == 1)"#,
    )
    .await;
    fails("std.redact.messages(nil)", "redact.messages: the messages must be a table, not nil").await;
    fails("std.redact.messages({}, { plceholder = '' })", "redact.messages: there is no option `plceholder`: did you mean `placeholder`?")
        .await;
}

/// Every cut between two bytes, so within characters too.
#[tokio::test]
async fn streams_say_the_same_however_they_are_cut() {
    passes(
        r#"local redact = std.redact
        local vault = redact.vault()
        local text = "é an ada@b.org, +49 30 1234567 – C-12 at 192.0.2.7\nC-3 [x] ghp_abcdefghijklmnopqrstuvwxyz0123456789."
        local function cut(make, sample, expected, check)
          for first = 0, #sample do
            for second = first, #sample, 5 do
              local stream = make()
              local result = stream:push(sample:sub(1, first)) .. stream:push(sample:sub(first + 1, second)) .. stream:push(sample:sub(second + 1)) .. stream:finish()
              assert(result == expected, result)
            end
          end
          local stream, result = make(), ""
          for i = 1, #sample do
            local piece = stream:push(sample:sub(i, i))
            assert(not check or utf8.len(piece), "half a character")
            result ..= piece
          end
          assert(result .. stream:finish() == expected)
        end
        for _, options in { {}, { patterns = { customer = [[C-\d+]] }, kinds = { "email", "phone" } }, { placeholder = "<é %s>" } } do
          cut(function() return redact.stream(options) end, text, (redact.text(text, options)), true)
        end
        local masked = redact.mask(text, vault) .. " [EMAIL_1 [[EMAIL_1]] [PHONE_1"
        cut(function() return redact.unmask_stream(vault) end, masked, (redact.unmask(masked, vault)))
        local stream = redact.stream()
        assert(stream:push("Hello ") == "Hello " and stream:push("a@b.or") == "" and stream:push("g, ") == "[EMAIL], " and stream:finish() == "")"#,
    )
    .await;
    fails("std.redact.stream():push(nil)", "redact.stream: push takes a string, not nil").await;
    fails("std.redact.stream():push('a\\255b')", "redact.stream: the text is not UTF-8").await;
    fails("local s = std.redact.stream() s:push('\\195') s:finish()", "redact.stream: the text is not UTF-8").await;
}

/// A conversation of a megabyte is searched within the time that the shipped agent gives the script.
#[tokio::test]
async fn a_long_conversation_is_searched_in_time() {
    use super::*;
    let scripts = Scripts::new(&[("redact.lua", include_str!("../../../scripts/redact.lua"))]);
    let run = scripts.load(&[options("redact.lua", |o| o.timeout = std::time::Duration::from_secs(1))]).begin(view(), nowhere());
    let text =
        "Dear Ms. Lovelace, thank you for your letter about order 4711; we have looked into it, and it will be with you on Thursday.\n";
    let text = text.repeat((1 << 20) / text.len());
    let mut prompt = prompt();
    prompt.messages[1] = Message::text("user", &(text + "ada@example.org"));
    run.pre_prompt(&mut prompt).await.unwrap();
    assert!(prompt.messages[1].0["content"].as_str().unwrap().ends_with("Thursday.\n[EMAIL_1]"));
}
