--- Sends a record of each run to a webhook: who asked which agent, what it cost, which tools were called, how it ended. Signed, and without
--- the words of the conversation unless you ask for them.
---
---   hooks:
---     - script: scripts/audit_log.lua
---       on_error: skip
---       config: { url: "https://audit.example.com/runs", secret: "${AUDIT_SECRET}" }
---
--- The header `x-signature` is the HMAC-SHA256 of the body under the secret, in hexadecimal digits; without a secret there is none. A webhook
--- that is down costs a run two short waits and a line in the log, never its answer.
---
--- No hook fires when another hook rejects or aborts a run, or its client leaves: such a run has no record at its end. With `started: true`
--- each run has one at its beginning as well, and those that have only this one were turned away. Name this script first among the hooks.

local crypto = require "std.crypto"
local http = require "std.http"
local json = require "std.json"
local text = require "std.text"
local time = require "std.time"

---@type Script
local audit_log = {
  config = {
    url = "", -- of the webhook; must be set
    secret = "", -- signs the records and hashes the tools' arguments; "": neither
    started = false, -- a record when a run begins, too
    headers = {}, -- sent with each record
    arguments = false, -- the tools' arguments themselves in place of their hashes
    messages = false, -- the user's last message and the reply
    timeout = 3, -- seconds for each of the two attempts
    pause = 0.5, -- seconds between them
  },
}

--- Sends the record once. Nil and why if nobody took it.
local function post(body, config)
  local headers = { ["content-type"] = "application/json" }
  if config.secret ~= "" then
    headers["x-signature"] = crypto.hmac_sha256(config.secret, body)
  end
  for name, value in pairs(config.headers) do
    headers[name] = value
  end
  local response, why = http.post(config.url, body, { headers = headers, timeout = config.timeout })
  if response and not response.ok then
    return nil, "status " .. response.status
  end
  return response, why
end

local function deliver(record, run)
  local config = run.config
  if config.url == "" then
    run.log.error "audit_log.lua needs the `url` of a webhook in its config"
    return
  end
  local body = json.encode(record)
  local sent, why = post(body, config)
  if not sent then
    time.sleep(config.pause)
    sent, why = post(body, config)
  end
  if not sent then
    run.log.error("the audit record was not delivered", { url = config.url, why = why })
  end
end

--- What all records have.
local function record_of(run)
  return {
    time = time.iso(),
    run = run.id,
    agent = run.agent,
    model = run.model,
    key = run.key,
    user = run.user,
    session = run.session,
    model_calls = run.hop,
    usage = run.usage,
    tools = json.array(run.state.audit_tools),
    question = run.state.audit_question,
  }
end

function audit_log.pre_prompt(prompt, run)
  if run.config.started and run.hop == 1 then
    local record = record_of(run)
    record.outcome = "started"
    deliver(record, run)
  end
  if not run.config.messages then
    return
  end
  local message = text.last(prompt.messages)
  run.state.audit_question = message and text.of(message)
end

function audit_log.on_tool_result(result, run)
  local call = { name = result.name, failed = result.is_error }
  if run.config.arguments then
    call.arguments = result.arguments
  elseif run.config.secret ~= "" then
    -- Anybody could guess what a hash without a secret stands for.
    call.arguments_hash = crypto.hmac_sha256(run.config.secret, json.encode(result.arguments))
  end
  run.state.audit_tools = run.state.audit_tools or {}
  table.insert(run.state.audit_tools, call)
end

function audit_log.post_response(reply, run)
  if reply.choice > 0 then
    return
  end
  local record = record_of(run)
  record.outcome, record.finish = "answered", reply.finish
  record.answer = run.config.messages and reply.content or nil
  deliver(record, run)
end

function audit_log.on_error(failure, run)
  local record = record_of(run)
  record.outcome = "failed"
  record.error = { code = failure.code, status = failure.status }
  deliver(record, run)
end

return audit_log
