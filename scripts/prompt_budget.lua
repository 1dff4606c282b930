--- Keeps each prompt under a number of tokens: the oldest turns go first, whole, and the model is told that they are gone. The
--- instructions, the user's last message and the newest tool results always stay.
---
---   hooks:
---     - script: scripts/prompt_budget.lua
---       config: { max_tokens: 16000, summarize: true }
---
--- With `summarize` a model retells what was cut. A summary is kept and grows with the conversation, so each turn is read for it once.

local crypto = require "std.crypto"
local cache = require "std.cache"
local json = require "std.json"
local llm = require "std.llm"
local text = require "std.text"

---@type Script
local prompt_budget = {
  config = {
    max_tokens = 8000, -- of messages and tools together, as `text.estimate_tokens` counts
    image_tokens = 1000, -- what an image counts for
    summarize = false, -- put a summary in the place of what was cut
    summary_model = "", -- who writes it, as clients name it; "": the run's own model
    summary_tokens = 300, -- how long it may be
    summary_ttl = 86400, -- seconds that it is kept
  },
}

--- What every message costs beside its words.
local MESSAGE_TOKENS = 4

--- The most of a conversation, in bytes, that is read for one summary.
local MAX_READ = 48000

local function message_tokens(message, image_tokens)
  local count = MESSAGE_TOKENS + text.estimate_tokens(text.of(message))
  if message.tool_calls then
    count = count + text.estimate_tokens(json.encode(message.tool_calls))
  end
  for _, part in ipairs(type(message.content) == "table" and message.content or {}) do
    if type(part) == "table" and part.type == "image_url" then
      count = count + image_tokens
    end
  end
  return count
end

local function is_instruction(message)
  return message.role == "system" or message.role == "developer"
end

--- What may be cut, oldest first, as lists of places. An earlier turn goes from one user message to the next; of the current one each call
--- goes with its results, but not the newest: the model is about to read them.
local function turns_of(messages)
  local _, question = text.last(messages)
  question = question or 0
  local turns, turn = {}, nil
  for i, message in ipairs(messages) do
    if i == question then
      turn = nil
    elseif not is_instruction(message) then
      if not turn or message.role == (i < question and "user" or "assistant") then
        turn = {}
        table.insert(turns, turn)
      end
      table.insert(turn, i)
    end
  end
  if turn then
    table.remove(turns)
  end
  return turns
end

--- A turn as it is read for a summary.
local function told(messages, turn)
  local lines = {}
  for _, i in ipairs(turn) do
    local message = messages[i]
    local calls = message.tool_calls and " " .. json.encode(message.tool_calls) or ""
    table.insert(lines, message.role .. ": " .. text.of(message) .. calls)
  end
  return table.concat(lines, "\n")
end

--- A summary of the turns. It continues the newest one that is known of their beginning.
local function summary_of(turns, run)
  local keys, key = {}, ""
  for i, turn in ipairs(turns) do
    key = crypto.sha256(key .. turn)
    keys[i] = "prompt_budget:" .. key
  end
  local known, n_known = nil, #turns
  while n_known > 0 do
    known = cache.get(keys[n_known])
    if known then
      break
    end
    n_known = n_known - 1
  end
  if n_known == #turns then
    return known
  end

  local rest = table.concat(turns, "\n", n_known + 1)
  local before = known and "What was said before, in short: " .. known .. "\n\n" or ""
  local summary, why = llm.ask(before .. text.shorten(rest, MAX_READ), {
    model = run.config.summary_model ~= "" and run.config.summary_model or nil,
    system = "Summarize this part of a conversation in a few sentences. Keep names, numbers, decisions and open questions. Only the summary.",
    max_tokens = run.config.summary_tokens,
  })
  if not summary or text.is_blank(summary) then
    run.log.warn("there is no summary of what was cut", { why = why })
    return known
  end
  cache.set(keys[#keys], text.trim(summary), run.config.summary_ttl)
  return text.trim(summary)
end

--- Many chat templates take one system message only, so the note goes into the one that is there.
local function add_note(messages, note)
  local first = messages[1]
  if first and is_instruction(first) and type(first.content) == "string" then
    first.content = first.content .. "\n\n" .. note
  else
    table.insert(messages, 1, { role = "system", content = note })
  end
end

function prompt_budget.pre_prompt(prompt, run)
  local config, messages = run.config, prompt.messages
  local tokens = prompt.tools[1] and text.estimate_tokens(json.encode(prompt.tools)) or 0
  local costs = {}
  for i, message in ipairs(messages) do
    costs[i] = message_tokens(message, config.image_tokens)
    tokens = tokens + costs[i]
  end
  if tokens <= config.max_tokens then
    return
  end

  local cut, gone, n_gone = {}, {}, 0
  for _, turn in ipairs(turns_of(messages)) do
    if tokens <= config.max_tokens then
      break
    end
    table.insert(cut, told(messages, turn))
    for _, i in ipairs(turn) do
      gone[i] = true
      n_gone = n_gone + 1
      tokens = tokens - costs[i]
    end
  end
  if tokens > config.max_tokens then
    run.log.warn("the prompt is over its budget, and nothing more can be cut", { tokens = tokens, max_tokens = config.max_tokens })
  end
  if n_gone == 0 then
    return
  end

  local kept = {}
  for i, message in ipairs(messages) do
    if not gone[i] then
      table.insert(kept, message)
    end
  end
  local summary = config.summarize and summary_of(cut, run)
  local note = ("[%d earlier messages of this conversation were cut.%s]"):format(n_gone, summary and " In short: " .. summary or "")
  add_note(kept, note)
  prompt.messages = kept
  run.log.info("a prompt was cut", { messages = n_gone, tokens = tokens })
end

return prompt_budget
