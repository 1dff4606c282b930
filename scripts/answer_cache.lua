--- Answers a question that was answered before, without asking the model. Only whole answers in text are kept, only of requests with a low
--- temperature, and none that a tool had a part in.
---
---   hooks:
---     - scripts/answer_cache.lua # before redact.lua, if you use both
---   parameters: { temperature: 0 }
---
--- A request with `cache-control: no-cache` is answered anew, and its answer takes the place of the old one.

local cache = require "std.cache"
local crypto = require "std.crypto"
local json = require "std.json"
local text = require "std.text"

---@type Script
local answer_cache = {
  config = {
    ttl = 3600, -- seconds that an answer is kept
    max_temperature = 0.3, -- above it, answers are meant to differ
    without_temperature = false, -- whether to answer requests that leave the temperature to the model
    scope = "key", -- who shares answers: everybody with the same "key", the same "user" (requests that name one), or "all"
    max_chars = 20000, -- longer answers are not kept
  },
}

--- The fields of a request that the answer does not depend on; whom it is for is the scope's matter.
local IGNORED = {
  stream = true,
  stream_options = true,
  user = true,
  safety_identifier = true,
  prompt_cache_key = true,
  metadata = true,
  store = true,
  service_tier = true,
}

--- Whether the same request may get the same answer.
local function is_repeatable(prompt, run)
  if (prompt.n or 1) > 1 then
    return false
  end
  -- In each run a pseudonym stands for somebody else: what answers one user must not answer the next.
  local vault = run.state.redact_vault
  if vault and next(vault.originals) then
    return false
  end
  if prompt.temperature == nil then
    return run.config.without_temperature
  end
  return prompt.temperature <= run.config.max_temperature
end

--- Whom an answer is for. Nil if that is not known: then nothing is kept, or it would be everybody's.
local function owner(run)
  if run.config.scope == "all" then
    return "all"
  elseif run.config.scope == "user" then
    return run.user and { key = run.key, user = run.user }
  elseif run.config.scope == "key" then
    return { key = run.key }
  end
  error(('answer_cache.lua: `scope` is "key", "user" or "all", not "%s"'):format(tostring(run.config.scope)), 0)
end

local function key_of(prompt, run)
  local who = owner(run)
  if not who then
    return nil
  end
  local fields = {}
  for name, value in pairs(prompt) do
    if not IGNORED[name] then
      fields[name] = value
    end
  end
  local asked = { owner = who, agent = run.agent, fields = fields }
  return "answer_cache:" .. crypto.sha256(json.encode(asked))
end

function answer_cache.pre_prompt(prompt, run)
  if run.hop > 1 or not is_repeatable(prompt, run) then
    return
  end
  local key = key_of(prompt, run)
  if not key then
    return
  end
  local wants_news = (run.headers["cache-control"] or ""):find("no-cache", 1, true)
  local answer = not wants_news and cache.get(key)
  if answer then
    run.log.info("answered from the cache")
    return run:answer(answer)
  end
  run.state.answer_key = key
end

function answer_cache.on_tool_call(_, run)
  -- What a tool says may be different the next time.
  run.state.answer_key = nil
end

function answer_cache.post_response(reply, run)
  local key = run.state.answer_key
  local is_whole = reply.finish == "stop" and reply.choice == 0
  if key and is_whole and not text.is_blank(reply.content) and #reply.content <= run.config.max_chars then
    cache.set(key, reply.content, run.config.ttl)
  end
end

return answer_cache
