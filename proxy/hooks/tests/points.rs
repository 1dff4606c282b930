//! What each hook may read, change and decide.

use async_trait::async_trait;

use super::*;
use crate::chat::Usage;
use crate::error::Kind;
use crate::hooks::{Point, Reach};

/// The world of a run that is at its second model call.
struct Underway;

#[async_trait]
impl World for Underway {
    async fn reach(&self, _: Reach, _: Object) -> Result<Value, String> {
        Err("nothing is here".into())
    }

    fn progress(&self) -> (u32, Usage) {
        (2, Usage { total_tokens: 42, ..Usage::default() })
    }
}

async fn prompted(body: &str) -> (Prompt, Verdict<Message>) {
    let mut prompt = prompt();
    let verdict = begin(&format!("return {{ pre_prompt = function(prompt, run) {body} end }}")).pre_prompt(&mut prompt).await;
    (prompt, verdict.unwrap_or_else(|error| panic!("{body}: {}", error.chain())))
}

#[tokio::test]
async fn an_untouched_prompt_stays_as_it_was() {
    for body in [
        "",
        "local m, t, s = prompt.messages, prompt.tools, prompt.stream_options",
        "for _, m in ipairs(prompt.messages) do m.role = m.role end",
    ] {
        let (after, verdict) = prompted(body).await;
        assert_eq!((after.clone(), verdict), (prompt(), Verdict::Continue));
        assert_eq!(serde_json::to_string(&after.rest).unwrap(), serde_json::to_string(&prompt().rest).unwrap());
    }
}

#[tokio::test]
async fn every_field_of_a_prompt_can_be_changed() {
    let (after, _) = prompted(
        "assert(prompt.model == 'gpt' and prompt.temperature == 0.5 and #prompt.messages == 2 and #prompt.tools == 0 and prompt.stop == nil)
         prompt.model = 'other'
         prompt.temperature = nil
         prompt.top_p = 0.1
         prompt.stop = { 'END' }
         prompt.stream_options.include_usage = false
         prompt.messages[2].content = prompt.messages[2].content .. '!'
         table.insert(prompt.messages, 1, { role = 'developer', content = 'first' })
         prompt.tools = { { type = 'function', ['function'] = { name = 'f' } } }",
    )
    .await;
    assert_eq!(after.model, "other");
    assert_eq!(after.messages, [Message::text("developer", "first"), Message::text("system", "be kind"), Message::text("user", "hello!")]);
    assert_eq!(after.tools, [json!({ "type": "function", "function": { "name": "f" } })]);
    assert_eq!(
        Value::Object(after.rest),
        json!({ "seed": 12345678901234567890_u64, "stop": ["END"], "stream_options": { "include_usage": false }, "top_p": 0.1 })
    );
}

#[tokio::test]
async fn fields_can_be_set_unread_and_removed() {
    let (after, _) = prompted(
        "prompt.stream_options = nil prompt.tools = {} prompt.messages = { { role = 'user', content = 'only' } } prompt.seed = nil",
    )
    .await;
    assert_eq!(after.messages, [Message::text("user", "only")]);
    assert_eq!(Value::Object(after.rest), json!({ "temperature": 0.5, "stop": null }));
    assert!(after.tools.is_empty());
}

#[tokio::test]
async fn verdicts_of_pre_prompt() {
    assert_eq!(prompted("return run:answer('cached')").await.1, Verdict::Answer(Message::text("assistant", "cached")));
    assert_eq!(
        prompted("return run:answer { content = 'cached' }").await.1,
        Verdict::Answer(Message(object(json!({ "content": "cached", "role": "assistant" }))))
    );
    assert_eq!(prompted("return run:reject('no')").await.1, Verdict::Reject("no".into()));
    assert_eq!(prompted("return run:abort(429, 'later')").await.1, Verdict::Abort(429, "later".into()));
    let (after, _) =
        prompted("prompt.model = 'x' local v = run:reject('no') assert(v.kind == 'reject' and v.value == 'no') return v").await;
    assert_eq!(after, prompt(), "a verdict ends it: changes do not matter");
}

#[tokio::test]
async fn a_tool_call_can_be_read_changed_answered_and_refused() {
    let run = begin(
        "return { on_tool_call = function(call, run)
           local args = call.arguments
           if args.amount > 1000 then return run:reject('too much for ' .. call.name) end
           if args.amount == 0 then return run:answer { done = true, list = {} } end
           assert(args.to.bic == nil)
           args.amount = args.amount + 1
         end }",
    );
    let mut call = call();
    assert_eq!(run.on_tool_call(&mut call, ANY).await.unwrap(), Verdict::Continue);
    assert_eq!(serde_json::to_string(&call.arguments).unwrap(), r#"{"amount":251,"to":{"iban":"X","bic":null}}"#);
    call.arguments.insert("amount".into(), 0.into());
    assert_eq!(run.on_tool_call(&mut call, ANY).await.unwrap(), Verdict::Answer(json!({ "done": true, "list": {} })));
    call.arguments.insert("amount".into(), 5000.into());
    assert_eq!(run.on_tool_call(&mut call, ANY).await.unwrap(), Verdict::Reject("too much for refund".into()));
}

#[tokio::test]
async fn what_a_tool_call_cannot_be_is_said() {
    for (body, expected) in [
        ("call.name = 'x'", "scripts/x.lua:1: call.name cannot be changed"),
        ("call.argument = {}", "scripts/x.lua:1: call has no field `argument`"),
        ("call.arguments = { 1, 2 }", "scripts/x.lua:1: call.arguments must be a table with names"),
        ("call.arguments = nil", "scripts/x.lua:1: call.arguments must be a table with names"),
        ("call.arguments.to.f = print", "scripts/x.lua:1: call.arguments.to.f is a function, which JSON cannot say"),
        ("\nrun:abort(1)", "scripts/x.lua:2: run:abort(status, message): the status is a whole number from 400 to 599"),
        (
            "run:reject('no')",
            "scripts/x.lua:1: `on_tool_call` made a verdict and did not return it: a verdict has no effect unless returned (`return run:reject(...)`)",
        ),
        ("\nrun.reject('no')", "scripts/x.lua:2: write `run:reject(...)`, with a colon"),
    ] {
        let run = begin(&format!("return {{ on_tool_call = function(call, run) {body} end }}"));
        let mut changed = call();
        let error = run.on_tool_call(&mut changed, ANY).await.unwrap_err();
        assert_eq!(error.kind, Kind::HookError);
        assert_eq!(error.chain(), format!("a hook of this agent failed: {expected}"));
        assert_eq!(changed, call());
    }
}

/// Changed arguments that the tool does not take are the bug of the script that changed them; what nobody changed is not asked for.
#[tokio::test]
async fn changed_arguments_must_fit() {
    let sources = [
        ("a.lua", "return { on_tool_call = function(call) local _ = call.arguments.amount end }"),
        ("b.lua", "\nreturn { on_tool_call = function(call) call.arguments.amount = 'much' end }"),
    ];
    let never: &Fits = &|_| Err("no".into());
    let scripts = Scripts::new(&sources);
    assert_eq!(scripts.load(&[entry("a.lua")]).begin(view(), nowhere()).on_tool_call(&mut call(), never).await.unwrap(), Verdict::Continue);
    let error = scripts.load(&[entry("b.lua")]).begin(view(), nowhere()).on_tool_call(&mut call(), never).await.unwrap_err();
    assert!(error.chain().ends_with("scripts/b.lua:2: call.arguments are not what the tool takes: no"), "{}", error.chain());
    let skipped = scripts.load(&[options("b.lua", |options| options.on_error = OnError::Skip)]);
    let mut unchanged = call();
    assert_eq!(skipped.begin(view(), nowhere()).on_tool_call(&mut unchanged, never).await.unwrap(), Verdict::Continue);
    assert_eq!(unchanged, call());
}

#[tokio::test]
async fn a_reply_can_be_changed_and_replaced() {
    let run = begin(
        "return { post_response = function(reply, run)
           if reply.content == 'bad' then return run:answer('good') end
           reply.content = reply.content:upper() .. reply.usage.total_tokens
         end }",
    );
    let mut reply = ReplyView { content: "hi ".into(), ..ReplyView::default() };
    reply.usage.total_tokens = 7;
    assert_eq!(run.post_response(&mut reply).await.unwrap(), Verdict::Continue);
    assert_eq!((reply.content.as_str(), reply.usage.total_tokens), ("HI 7", 7));
    reply.content = "bad".into();
    assert_eq!(run.post_response(&mut reply).await.unwrap(), Verdict::Answer(Message::text("assistant", "good")));
}

#[tokio::test]
async fn a_streamed_reply_is_only_observed() {
    let run = begin(
        "return { post_response = function(reply, run) if reply.streamed then reply.content = 'late' else return run:answer('x') end end }",
    );
    let mut reply = ReplyView { content: "sent".into(), streamed: true, ..ReplyView::default() };
    assert_eq!(run.post_response(&mut reply).await.unwrap(), Verdict::Continue);
    assert_eq!(reply.content, "sent");
    let run = begin("return { post_response = function(reply, run) return run:answer('late') end }");
    assert_eq!(run.post_response(&mut reply).await.unwrap(), Verdict::Continue);
    let run = begin("return { post_response = function(reply, run) return run:abort(500, 'stop') end }");
    assert_eq!(run.post_response(&mut reply).await.unwrap(), Verdict::Abort(500, "stop".into()));
}

#[tokio::test]
async fn run_shows_what_the_contract_names() {
    let source = "return { config = { limit = 3, deep = { a = 1 } }, on_tool_call = function(call, run)
        return run:answer {
          id = run.id, agent = run.agent, model = run.model, hop = run.hop, limit = run.config.limit, deep = run.config.deep,
          tenant = run.headers['x-tenant'], key = run.key, user = run.user, session = run.session, total = run.usage.total_tokens,
          state = type(run.state), log = type(run.log.info), missing = run.nothing == nil,
        } end }";
    let hooks = Scripts::new(&[("x.lua", source)]).load(&[options("x.lua", |o| _ = o.config.insert("limit".into(), 9.into()))]);
    let run = hooks.begin(
        RunView {
            headers: Arc::new(vec![("x-tenant".into(), "acme".into())]),
            key: Some("webui".into()),
            user: Some("ada".into()),
            session: Some("s1".into()),
            ..view()
        },
        Arc::new(Underway),
    );
    let Verdict::Answer(seen) = run.on_tool_call(&mut call(), ANY).await.unwrap() else { panic!("no answer") };
    assert_eq!(
        seen,
        json!({
            "id": "run-1", "agent": "support", "model": "support", "hop": 2, "limit": 9, "deep": { "a": 1 }, "tenant": "acme", "key": "webui",
            "user": "ada", "session": "s1", "total": 42, "state": "table", "log": "function", "missing": true,
        })
    );
}

#[tokio::test]
async fn scripts_fire_in_order_and_the_first_verdict_ends_it() {
    let scripts = Scripts::new(&[
        ("a.lua", "return { pre_prompt = function(p, run) p.model = p.model .. 'a' run.state.seen = 'a' end }"),
        ("b.lua", "return { pre_prompt = function(p, run) p.model = p.model .. 'b' .. run.state.seen end }"),
        ("no.lua", "return { pre_prompt = function(p, run) return run:reject('no') end, on_tool_call = function() end }"),
        ("bug.lua", "return { pre_prompt = function(p, run) p.model = 'half' error('boom') end }"),
        ("slow.lua", "return { pre_prompt = function(p, run) p.model = 'half' while true do end end }"),
    ]);
    let mut changed = prompt();
    let verdict = scripts.load(&[entry("a.lua"), entry("b.lua")]).begin(view(), nowhere()).pre_prompt(&mut changed).await.unwrap();
    assert_eq!((changed.model.as_str(), verdict), ("gptaba", Verdict::Continue));

    let verdict = scripts.load(&[entry("no.lua"), entry("bug.lua")]).begin(view(), nowhere()).pre_prompt(&mut prompt()).await.unwrap();
    assert_eq!(verdict, Verdict::Reject("no".into()));

    let skipped = |name: &str| options(name, |options| options.on_error = OnError::Skip);
    let hooks = scripts.load(&[entry("a.lua"), skipped("bug.lua"), skipped("slow.lua"), entry("a.lua")]);
    let mut changed = prompt();
    hooks.begin(view(), nowhere()).pre_prompt(&mut changed).await.unwrap();
    assert_eq!(changed.model, "gptaa", "a hook that is skipped leaves nothing behind");
    assert!(hooks.has(Point::PrePrompt) && !hooks.has(Point::OnToolCall) && !hooks.hold());
}

#[tokio::test]
async fn the_standard_library_does_what_it_says() {
    let source = r#"
        local json, text, log = require "std.json", require "std.text", require "std.log"
        assert(json == require "std.json")
        return { on_tool_call = function(call, run)
          assert(json.encode({ a = json.array {}, b = json.null }) == '{"a":[],"b":null}')
          local value = json.decode('{"list":[],"n":null,"x":[1,2]}')
          assert(value.n == json.null and #value.x == 2 and json.encode(value.list) == "[]")
          assert(not pcall(json.decode, "{") and not pcall(json.encode, print))
          assert(not pcall(function() json.encode = nil end))
          assert(text.trim("  a b \n") == "a b" and text.trim(" ") == "" and text.trim("") == "")
          assert(table.concat(text.split("a,b,,c"), "|") == "a|b||c" and #text.split("abc", "") == 3)
          assert(text.starts_with("abc", "ab") and not text.starts_with("abc", "b") and text.ends_with("abc", "bc") and text.ends_with("a", ""))
          assert(text.contains("a.b", ".") and not text.contains("ab", "."))
          local replaced, n = text.replace("a.b.c", ".", "%1")
          assert(replaced == "a%1b%1c" and n == 2 and text.replace("a", "", "x") == "a")
          assert(text.shorten("abcdef", 5) == "ab..." and text.shorten("abc", 3) == "abc" and text.shorten("ééé", 4, "") == "éé")
          assert(text.shorten("ééé", 3, "") == "é" and text.join({ "a", "b" }, "-") == "a-b")
          assert(("hello"):find("l") == 3 and select(2, ("hello"):find("ll")) == 4 and ("a.b"):find(".", 2, true) == 2)
          assert(("abc"):find("") == 1 and ("abc"):find("", 4) == 4 and ("abc"):find("", 5) == nil and ("abc"):find("c", -1) == 3 and ("abc"):find("a", -99) == 1)
          assert(("k=v"):find("(%w)=(%w)") == 1 and ("x"):find("y") == nil and #(("a,b"):split(",")) == 2)
          log.info("hello", { a = 1 }) log.warn("w") log.error("e") log.debug("d") print("p", 1, nil)
          run.log.info("from run")
          return run:answer("ok")
        end }"#;
    let verdict = begin(source).on_tool_call(&mut call(), ANY).await;
    assert_eq!(verdict.unwrap_or_else(|error| panic!("{}", error.chain())), Verdict::Answer(json!("ok")));
}
