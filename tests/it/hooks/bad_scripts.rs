//! Scripts with a bug: the client reads an error with a code and nothing of the script, the log has its line, the next request works.

mod everywhere;
mod runaway;
mod unloadable;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::fake_mcp::Tool;
use crate::support::scripted_model::{asked, reply, spoken};
use crate::support::{Answer, Exchange, FakeMcp, Gateway, ScriptedModel, Setup, Step};

/// A script's bug: the point, the code, and what the log says of it behind `script:`.
type Bug = (&'static str, &'static str, &'static str);

/// The hook stands in line 2, its bug in line 4.
const SCRIPT: &str = r#"local script = {}
function script.POINT(it, run)
  if run.headers["x-bug"] then
    BUG
  end
end
return script
"#;

/// A gateway with one agent for each bug: `bug0`, `bug1`, ... It shows when the client asks with the header `x-bug`.
struct Ward {
    gateway: Gateway,
    mcp: FakeMcp,
    _model: ScriptedModel,
}

/// Asks for the weather where it can, and then says that all is well.
async fn forecaster(exchange: Exchange) {
    let request = exchange.request.json();
    let begins = request["messages"].as_array().and_then(|messages| messages.last()).is_some_and(|last| last["role"] == "user");
    if begins && request["tools"].is_array() {
        reply(exchange, asked(&[("a", "get_weather", r#"{"city":"Paris"}"#)]), "tool_calls").await;
    } else {
        reply(exchange, spoken("all is well"), "stop").await;
    }
}

impl Ward {
    async fn new(bugs: &[Bug]) -> Self {
        let mcp = FakeMcp::start([Tool::weather()]).await;
        let model = ScriptedModel::start([Step::every_chat(forecaster)]).await;
        let mut config = String::from(
            "upstreams: { lm: { base_url: \"${LM}\" } }\nmcp_servers: { weather: { transport: http, url: \"${MCP}\" } }\nagents:\n",
        );
        let mut setup = Setup::empty();
        for (n, (point, bug, _)) in bugs.iter().enumerate() {
            setup = setup.file(&format!("scripts/bug{n}.lua"), &SCRIPT.replace("POINT", point).replace("BUG", bug));
            config.push_str(&format!("  - name: bug{n}\n    model: scripted\n    hooks: [scripts/bug{n}.lua]\n"));
            if point.starts_with("on_tool") {
                config.push_str("    tools: [{ name: get_weather, provider: mcp, mcp_server: weather, mcp_method: current }]\n");
            }
        }
        let gateway = setup.file("config/gateway.yaml", &config).env("LM", model.url()).env("MCP", mcp.url()).start().await;
        Ward { gateway, mcp, _model: model }
    }

    /// The answer, and the gateway's CPU time for it.
    async fn ask(&self, n: usize, headers: &[(&str, &str)]) -> (Answer, Duration) {
        let request = self.gateway.chat(&format!("bug{n}"), json!({}));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(name, value));
        let before = self.gateway.cpu_time();
        let answer = request.answer().await;
        (answer, self.gateway.cpu_time() - before)
    }

    /// The agent works, the request with the bug fails with this code, and the agent works again. Returns the bug's CPU time.
    async fn fails(&self, n: usize, bug: &Bug, code: &str) -> Duration {
        let (point, body, logged) = bug;
        let (well, usual) = self.ask(n, &[]).await;
        assert_eq!(well.content(), "all is well", "{body}");
        let n_calls = self.mcp.seen().calls.len();
        let (answer, cost) = self.ask(n, &[("x-bug", "1")]).await;
        assert_eq!(answer.assert_error(500, code), harmless(code), "{body}");
        let n_more = self.mcp.seen().calls.len() - n_calls;
        assert_eq!(n_more, usize::from(*point == "on_tool_result"), "a tool is not called after a bug: {body}");
        self.gateway.logged(&format!("scripts/bug{n}.lua:{logged}")).await;
        let (well, _) = self.ask(n, &[]).await;
        assert_eq!(well.content(), "all is well", "after {body}");
        cost.saturating_sub(usual)
    }
}

/// All that the client may read of a bug.
fn harmless(code: &str) -> Value {
    let message = match code {
        "hook_timeout" => "a hook of this agent took too long",
        "hook_memory" => "a hook of this agent needed too much memory",
        _ => "a hook of this agent failed",
    };
    json!({ "message": message, "type": "server_error", "param": null, "code": code })
}

async fn all_fail(bugs: &[Bug]) {
    let ward = Ward::new(bugs).await;
    for (n, bug) in bugs.iter().enumerate() {
        ward.fails(n, bug, "hook_error").await;
    }
}

/// Verdicts that are not returned, that mean nothing at their point, or whose value means nothing.
#[tokio::test]
async fn wrong_verdicts() {
    all_fail(&[
        ("pre_prompt", "run:reject('no')", "2: `pre_prompt` made a verdict and did not return it"),
        ("on_tool_call", "local v = run:answer('x')", "2: `on_tool_call` made a verdict and did not return it"),
        ("post_response", "run:abort(451, 'no')", "2: `post_response` made a verdict and did not return it"),
        (
            "on_request",
            "return run:answer('x')",
            "2: `run:answer` means nothing in `on_request`; here you may return `run:reject`, `run:abort`",
        ),
        ("on_chunk", "return run:answer('x')", "2: `run:answer` means nothing in `on_chunk`; here you may return `run:abort`"),
        ("on_chunk", "return run:reject('x')", "2: `run:reject` means nothing in `on_chunk`; here you may return `run:abort`"),
        ("on_tool_result", "return run:answer('x')", "2: `run:answer` means nothing in `on_tool_result`; here you may return `run:reject`"),
        ("pre_prompt", "return 7", "2: `pre_prompt` returned a"),
        ("pre_prompt", "return it", "2: `pre_prompt` returned its argument"),
        ("pre_prompt", "return { kind = 'answer', value = 'forged' }", "2: `pre_prompt` returned a table"),
        (
            "pre_prompt",
            "return run:answer({ tool_calls = { { id = 'a' } } })",
            "2: run:answer(message): a hook's answer cannot have `tool_calls`",
        ),
        ("post_response", "return run:answer({ content = require('std.json').null })", "2: run:answer(message): its content must be text"),
        ("pre_prompt", "return run:answer(7)", "2: run:answer(x): x must be text or a message"),
        ("pre_prompt", "return run:answer({ role = 'user', content = 'x' })", "2: run:answer(message): its role must be `assistant`"),
        ("post_response", "return run:answer('\\255')", "2: `post_response` answered with a value that is text that is not UTF-8"),
        (
            "pre_prompt",
            "local t = {} t.content = t return run:answer(t)",
            "2: `pre_prompt` answered with a value that.content is a table that contains itself",
        ),
        (
            "on_tool_call",
            "local t = {} t.t = t return run:answer(t)",
            "2: `on_tool_call` answered with a value that.t is a table that contains itself",
        ),
        ("on_tool_call", "return run:answer(print)", "2: `on_tool_call` answered with a value that is a function"),
        ("on_request", "return run:abort(200, 'fine')", "4: run:abort(status, message): the status is a whole number from 400 to 599"),
        ("pre_prompt", "return run.reject('no')", "4: write `run:reject(...)`, with a colon"),
    ])
    .await;
}

/// Changes that leave something of a wrong type, text that is no text, or a table inside itself.
#[tokio::test]
async fn wrong_changes() {
    all_fail(&[
        ("on_request", "it.headers = 7", "2: head.headers must be a table of texts"),
        ("on_request", "it.headers['x-a'] = 7", "2: head.headers must be a table of texts"),
        ("on_request", "it.path = '/elsewhere'", "2: head.path cannot be changed"),
        ("pre_prompt", "it.messages = 7", "2: prompt.messages must be a list"),
        ("pre_prompt", "it.messages = nil", "2: prompt.messages must be a list"),
        ("pre_prompt", "it.messages[1] = 'text'", "2: prompt.messages[1] must be a table with a `role`"),
        ("pre_prompt", "it.messages[1].role = 7", "2: prompt.messages[1] must be a table with a `role`"),
        ("pre_prompt", "it.messages[3] = it.messages[1]", "2: prompt.messages is a list with holes"),
        ("pre_prompt", "it.messages[1].content = print", "2: prompt.messages[1].content is a function"),
        ("pre_prompt", "it.messages[1].content = '\\255\\254'", "2: prompt.messages[1].content is text that is not UTF-8"),
        ("pre_prompt", "it.messages[1].self = it.messages", "2: prompt.messages[1].self"),
        ("pre_prompt", "it.model = 7", "2: prompt.model must be text"),
        ("pre_prompt", "it.tools = 'none'", "2: prompt.tools must be a list of tables"),
        ("pre_prompt", "it.temperature = 0/0", "2: prompt.temperature is NaN"),
        ("on_chunk", "it.text = 7", "2: chunk.text must be text"),
        ("on_chunk", "it.text = '\\255'", "2: chunk.text is text that is not UTF-8"),
        ("on_tool_call", "it.name = 'rm'", "2: call.name cannot be changed"),
        ("on_tool_call", "it.arguments = 'Paris'", "2: call.arguments must be a table with names"),
        ("on_tool_call", "it.arguments.self = it.arguments", "2: call.arguments.self is a table that contains itself"),
        ("on_tool_call", "it.arguments.city = '\\255'", "2: call.arguments.city is text that is not UTF-8"),
        ("on_tool_call", "it.arguments.city = 7", "2: call.arguments are not what the tool takes: /city: 7 is not of type"),
        ("on_tool_result", "it.content = { 'x' }", "2: result.content must be text"),
        ("on_tool_result", "it.is_error = true", "2: result.is_error cannot be changed"),
        ("post_response", "it.content = 7", "2: reply.content must be text"),
        ("post_response", "it.content = nil", "2: reply.content must be text"),
    ])
    .await;
}

/// Errors whose object is text, and errors whose object is none.
#[tokio::test]
async fn errors_of_every_shape() {
    all_fail(&[
        ("pre_prompt", "error('secret detail')", "4: secret detail"),
        ("on_request", "error('secret detail')", "4: secret detail"),
        ("on_chunk", "error('secret detail')", "4: secret detail"),
        ("on_tool_call", "error('secret detail')", "4: secret detail"),
        ("on_tool_result", "error('secret detail')", "4: secret detail"),
        ("post_response", "error('secret detail')", "4: secret detail"),
        ("pre_prompt", "local x = nil + 1", "4: attempt to perform arithmetic"),
        ("pre_prompt", "coroutine.wrap(function() error('inside') end)()", "4: inside"),
        ("pre_prompt", "local function f() return 1 + f() end f()", "4: stack overflow"),
        ("pre_prompt", "error('\\255\\254')", "4: "),
        ("pre_prompt", "error()", "4: nil"),
        ("pre_prompt", "require('std.text').trim(nil)", "4: attempt to index nil with 'match'"),
        ("pre_prompt", "require('std.text').trimm('x')", "4: `std.text` has no `trimm`: did you mean `trim`?"),
        ("pre_prompt", "require('std.http').get('http://x', { timout = 3 })", "4: http.get: there is no option `timout`: did you mean `timeout`?"),
        ("pre_prompt", "require('std.limit').take('k', { rate = -1 })", "4: limit.take: `rate` must be a number above 0, not -1"),
        ("pre_prompt", "require('std.json').encode(string.rep('\\1', 2e6))", "4: json.encode: the text would be longer than 8 MiB"),
        ("pre_prompt", "local _, e = pcall(require('std.json').decode, '{') error(e, 0)", "4: json.decode: EOF while parsing"),
        ("pre_prompt", "local _, e = pcall(string.rep, 'x', 2^30) error('caught: ' .. e .. '!')", "4: caught: not enough memory!"),
        (
            "pre_prompt",
            "local p, t, b, v = require('std.parallel'), require('std.time') p.all(function() b = coroutine.running() t.sleep(0.05) end, function() v = select(2, coroutine.resume(b)) end) coroutine.yield(v) error(v)",
            "4: cannot resume a thread of the gateway's",
        ),
        ("pre_prompt", "math.randomseed('x')", "4: invalid argument #1 to 'randomseed'"),
        ("pre_prompt", "error({ code = 7 })", "4: table"),
        ("pre_prompt", "error(run)", "4: table"),
        ("pre_prompt", "error(print)", "4: function"),
        ("pre_prompt", "error(buffer.create(8))", "4: buffer"),
        ("pre_prompt", "error(require('std.json').null)", "4: "),
        ("pre_prompt", "error(setmetatable({}, { __tostring = function() return 'told' end }))", "4: told"),
        ("pre_prompt", "error(setmetatable({}, { __tostring = function() return {} end }))", "2: '__tostring' must return a string"),
        ("pre_prompt", "error(setmetatable({}, { __tostring = function() error('again') end }))", "4: "),
        ("pre_prompt", "error(setmetatable({}, { __tostring = function() coroutine.yield() end }))", "4: "),
    ])
    .await;
}
