--- Sends easy questions to a small model and hard ones to a large one. Cheap rules decide first (length, code, images, words that ask for
--- thought); what they leave open, a small model may judge.
---
---   hooks:
---     - script: scripts/model_router.lua
---       config: { easy: small-model, hard: large-model, judge: lmstudio/small-model }
---
--- `easy`, `hard` and `images` are models of the agent's own upstream; `judge` is any model, as clients name it. The choice is made once,
--- before the first model call of a run.

local cache = require "std.cache"
local crypto = require "std.crypto"
local llm = require "std.llm"
local text = require "std.text"

---@type Script
local model_router = {
  config = {
    easy = "", -- the model for easy questions; "": the agent's own
    hard = "", -- the model for hard ones; "": the agent's own
    images = "", -- the model that sees; "": the one for hard questions
    short = 60, -- a question of fewer bytes is easy unless a rule says otherwise
    long = 2000, -- one of more bytes is hard
    hard_words = { "prove", "derive", "analy", "refactor", "debug", "optimi", "algorithm", "step by step", "compare", "trade-off" },
    judge = "", -- asked when no rule decides; "": then the question is easy
    ttl = 3600, -- seconds that a judgement is kept
  },
}

local QUESTION = [[
Is this request easy or hard for a small language model? Hard is what needs several steps of thought, mathematics, code or expert
knowledge. Answer with one word, "easy" or "hard".

%s]]

--- The most of a question, in bytes, that is judged.
local MAX_JUDGED = 4000

local function has_image(message)
  for _, part in ipairs(type(message.content) == "table" and message.content or {}) do
    if type(part) == "table" and part.type == "image_url" then
      return true
    end
  end
  return false
end

local function has_code(question)
  return question:find("```", 1, true) or question:find "[%w_]+%([^()\n]*%)%s*[{;]" or question:find "\n%s*at .-:%d+"
end

--- The first of the words that begins somewhere in the question.
local function word_in(question, words)
  local lower = question:lower()
  for _, word in ipairs(words) do
    if lower:find("%f[%w]" .. word:lower():gsub("%W", "%%%0")) then
      return word
    end
  end
  return nil
end

--- What a small model says: "easy" or "hard", nil and why if it says neither.
local function judged(question, config)
  local asked = QUESTION:format(text.shorten(question, MAX_JUDGED))
  local key = "model_router:" .. crypto.sha256(config.judge .. "\n" .. asked)
  return cache.fetch(key, config.ttl, function()
    local said, why = llm.ask(asked, { model = config.judge, temperature = 0 })
    if not said then
      return nil, why
    end
    -- A model that thinks aloud says its last word last.
    local answer = said:lower():match ".*%f[%a](%a%a%a%a)%f[%A]"
    if answer == "easy" or answer == "hard" then
      return answer
    end
    return nil, "it said " .. text.shorten(said, 100)
  end)
end

--- Easy, hard or images, and the reason.
local function difficulty(message, run)
  local config, question = run.config, text.of(message)
  if has_image(message) then
    return "images", "an image"
  elseif #question > config.long then
    -- Only then the rules that read the question: they take their time with a long one.
    return "hard", "its length"
  elseif has_code(question) then
    return "hard", "code"
  end
  local word = word_in(question, config.hard_words)
  if word then
    return "hard", "the word " .. word
  elseif #question < config.short or config.judge == "" then
    return "easy", "no rule says otherwise"
  end
  local answer, why = judged(question, config)
  if not answer then
    run.log.warn("the judge gave no answer", { judge = config.judge, why = why })
    return "easy", "no rule says otherwise"
  end
  return answer, "the judge"
end

local function model_for(message, run)
  local config = run.config
  local kind, reason = difficulty(message, run)
  local model = config[kind]
  if kind == "images" and model == "" then
    model = config.hard
  end
  run.log.info("a model was chosen", { model = model ~= "" and model or nil, kind = kind, because = reason })
  return model
end

function model_router.pre_prompt(prompt, run)
  local state = run.state
  state.routed_model = state.routed_model or model_for(text.last(prompt.messages) or { role = "user", content = "" }, run)
  if state.routed_model ~= "" then
    prompt.model = state.routed_model
  end
end

return model_router
