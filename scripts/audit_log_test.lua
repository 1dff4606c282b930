local crypto = require "std.crypto"
local json = require "std.json"
local test = require "std.test"
local audit_log = require "audit_log"

local URL = "https://audit.example.com/runs"

--- A webhook that answers with these statuses in turn; nil is no answer.
local function webhook(...)
  local statuses, n = { ... }, 0
  return test.fake("http", function()
    n = n + 1
    if not statuses[n] then
      return nil, "connection refused"
    end
    return { status = statuses[n] }
  end)
end

local function run_with(config, fields)
  local options = { config = { url = URL, secret = "s3cret" } }
  for name, value in pairs(config or {}) do
    options.config[name] = value
  end
  for name, value in pairs(fields or {}) do
    options[name] = value
  end
  return test.run(options)
end

test.case("a record says who, what and how much, and no words", function()
  test.clock(1700000000)
  local sent = webhook(204)
  local run = run_with(nil, {
    key = "webui",
    user = "ada",
    session = "s1",
    hop = 2,
    usage = { prompt_tokens = 30, completion_tokens = 5, total_tokens = 35 },
  })
  audit_log.pre_prompt(test.prompt "my secret question", run)
  audit_log.on_tool_result(test.result("search", "a result", { arguments = { q = "secret" } }), run)
  audit_log.on_tool_result(test.result("roll", "no dice", { is_error = true }), run)
  audit_log.post_response(test.reply "my secret answer", run)

  test.equal(json.decode(sent[1].body), {
    time = "2023-11-14T22:13:20Z",
    run = "run-1",
    agent = "agent",
    model = "agent",
    key = "webui",
    user = "ada",
    session = "s1",
    model_calls = 2,
    usage = { prompt_tokens = 30, completion_tokens = 5, total_tokens = 35 },
    tools = {
      { name = "search", failed = false, arguments_hash = crypto.hmac_sha256("s3cret", '{"q":"secret"}') },
      { name = "roll", failed = true, arguments_hash = crypto.hmac_sha256("s3cret", "{}") },
    },
    outcome = "answered",
    finish = "stop",
  })
end)

test.case("the body is signed", function()
  local sent = webhook(200)
  audit_log.post_response(test.reply "hi", run_with { headers = { authorization = "Bearer x" } })
  local request = sent[1]
  test.equal({ request.method, request.url, request.timeout }, { "POST", URL, 3 })
  test.equal(request.headers["content-type"], "application/json")
  test.equal(request.headers["x-signature"], crypto.hmac_sha256("s3cret", request.body))
  test.equal(request.headers.authorization, "Bearer x")
end)

test.case("words and arguments are sent to who asks for them", function()
  local sent = webhook(200)
  local run = run_with { messages = true, arguments = true }
  audit_log.pre_prompt(test.prompt "question", run)
  audit_log.on_tool_result(test.result("search", "found", { arguments = { q = "x" } }), run)
  audit_log.post_response(test.reply "answer", run)
  local record = json.decode(sent[1].body)
  test.equal({ record.question, record.answer }, { "question", "answer" })
  test.equal(record.tools, { { name = "search", failed = false, arguments = { q = "x" } } })
end)

test.case("a failed run has its record", function()
  local sent = webhook(200)
  audit_log.on_error(test.failure { code = "upstream_timeout", status = 504 }, run_with())
  local record = json.decode(sent[1].body)
  test.equal(record.outcome, "failed")
  test.equal(record.error, { code = "upstream_timeout", status = 504 })
  test.contains(sent[1].body, '"tools":[]')
end)

test.case("without a secret nothing is signed or hashed", function()
  local sent = webhook(200)
  local run = run_with { secret = "" }
  audit_log.on_tool_result(test.result("search", "found", { arguments = { q = "x" } }), run)
  audit_log.post_response(test.reply "hi", run)
  test.equal(sent[1].headers, { ["content-type"] = "application/json" })
  test.equal(json.decode(sent[1].body).tools, { { name = "search", failed = false } })
end)

test.case("where asked, a run has a record when it begins, which a rejected one has alone", function()
  local sent = webhook(200, 200)
  audit_log.pre_prompt(test.prompt "hello", run_with { started = true })
  audit_log.pre_prompt(test.prompt "hello", run_with({ started = true }, { hop = 2 }))
  audit_log.pre_prompt(test.prompt "hello", run_with())
  test.equal(#sent, 1)
  test.equal(json.decode(sent[1].body).outcome, "started")
end)

test.case("it tries twice", function()
  test.clock(0)
  local sent = webhook(503, 200)
  audit_log.post_response(test.reply "hi", run_with())
  test.equal(#sent, 2)
  test.equal(sent[2].body, sent[1].body)
  test.equal(test.lines(), {})
end)

test.case("a webhook that is down costs a line in the log", function()
  test.clock(0)
  local sent = webhook()
  test.equal(audit_log.post_response(test.reply "hi", run_with()), nil)
  test.equal(#sent, 2)
  test.equal(test.lines(), { 'error the audit record was not delivered {"url":"' .. URL .. '","why":"connection refused"}' })
  test.equal(audit_log.on_error(test.failure(), test.run()), nil)
  test.contains(test.lines()[2], "needs the `url`")
end)

test.case("of several choices the first is the record", function()
  local sent = webhook(200, 200)
  audit_log.post_response(test.reply "a", run_with())
  audit_log.post_response(test.reply("b", { choice = 1 }), run_with())
  test.equal(#sent, 1)
end)
