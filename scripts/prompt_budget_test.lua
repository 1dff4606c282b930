local test = require "std.test"
local prompt_budget = require "prompt_budget"

--- 104 tokens: 100 of words.
local function long(role, name)
  return { role = role, content = name .. (" "):rep(400 - #name) }
end

local function called(id)
  return { role = "assistant", tool_calls = { { id = id, type = "function", ["function"] = { name = "f", arguments = "{}" } } } }
end

local function result(id)
  local message = long("tool", id)
  message.tool_call_id = id
  return message
end

local function system()
  return { role = "system", content = "Be brief." }
end

local NOTE = "Be brief.\n\n[%d earlier messages of this conversation were cut.%s]"

--- The prompt's messages after the hook, in short: roles, and the first word of each.
local function kept(messages, config, run)
  local prompt = test.prompt { messages = messages }
  prompt_budget.pre_prompt(prompt, run or test.run { config = config })
  local names = {}
  for i, message in ipairs(prompt.messages) do
    local words = type(message.content) == "string" and message.content:match "^%S*" or "..."
    names[i] = message.role .. " " .. words
  end
  return names, prompt.messages
end

test.case("a prompt within its budget stays as it is", function()
  local messages = { system(), long("user", "one"), long("assistant", "two"), long("user", "three") }
  local _, after = kept(messages, { max_tokens = 400 })
  test.equal(after, messages)
  test.equal(test.lines(), {})
end)

test.case("the oldest turns go, whole, and the model is told", function()
  local names, messages = kept({
    system(),
    long("user", "one"),
    long("assistant", "two"),
    long("user", "three"),
    long("assistant", "four"),
    long("user", "five"),
  }, { max_tokens = 400 })
  test.equal(names, { "system Be", "user three", "assistant four", "user five" })
  test.equal(messages[1].content, NOTE:format(2, ""))
  test.contains(test.lines()[1], 'info a prompt was cut {"messages":2')
end)

test.case("a call and its results stay together", function()
  local turn = { long("user", "one"), called "a", result "a", long("assistant", "two"), long("user", "three") }
  local names = kept(turn, { max_tokens = 350 })
  test.equal(names, { "system [4", "user three" }, "the whole earlier turn went")

  local hops = { long("user", "one"), called "a", result "a", called "b", result "b" }
  names = kept(hops, { max_tokens = 300 })
  test.equal(names, { "system [2", "user one", "assistant ...", "tool b" }, "of the current turn the first call went")
end)

test.case("the last question, the newest results and all instructions stay, whatever they cost", function()
  local messages = { system(), long("user", "one"), called "a", result "a", long("system", "rule") }
  local names = kept(messages, { max_tokens = 10 })
  test.equal(names, { "system Be", "user one", "assistant ...", "tool a", "system rule" })
  test.contains(test.lines()[1], "warn the prompt is over its budget, and nothing more can be cut")
end)

test.case("tools and images count", function()
  local messages = { long("user", "one"), long("assistant", "two"), { role = "user", content = "three" } }
  local prompt = test.prompt { messages = messages, tools = { { type = "function", ["function"] = { name = ("f"):rep(400) } } } }
  prompt_budget.pre_prompt(prompt, test.run { config = { max_tokens = 300 } })
  test.equal(#prompt.messages, 2)

  messages[3].content = { { type = "text", text = "what is it?" }, { type = "image_url", image_url = { url = "data:," } } }
  test.equal(#kept(messages, { max_tokens = 1300 }), 3)
  test.equal(#kept(messages, { max_tokens = 1200 }), 2, "without the turn before, with the note")
end)

test.case("content that is no text counts, and is no reason to fail", function()
  local messages = { { role = "user", content = { 1, 2 } }, { role = "user", content = 7 }, long("user", "three") }
  test.equal(#kept(messages, { max_tokens = 1000 }), 3)
end)

test.case("a summary stands for what was cut, and grows", function()
  local asked = test.fake("llm", function(request)
    return "summary of " .. #request.messages[2].content .. " bytes"
  end)
  local run = test.run { config = { max_tokens = 250, summarize = true, summary_model = "small" } }
  local said = { long("user", "one"), long("user", "two"), long("user", "three"), long("user", "four") }
  local function ask()
    local messages = { system() }
    for _, message in ipairs(said) do
      table.insert(messages, message)
    end
    local _, after = kept(messages, nil, run)
    return after[1].content
  end

  local first = "summary of " .. #"user: " * 2 + 801 .. " bytes"
  test.equal(ask(), NOTE:format(2, " In short: " .. first))
  test.equal(asked[1].model, "small")

  ask()
  test.equal(#asked, 1, "the same cut has its summary already")

  table.insert(said, long("user", "five"))
  ask()
  test.equal(#asked, 2)
  local question = asked[2].messages[2].content
  test.contains(question, "What was said before, in short: " .. first)
  test.contains(question, "user: three")
  test.ok(not question:find("user: two", 1, true), "what is in the summary is not read again")
end)

test.case("without a summary the run goes on", function()
  test.fake("llm", function()
    return nil, "the model is away"
  end)
  local _, after = kept({ long("user", "one"), long("user", "two") }, { max_tokens = 150, summarize = true })
  test.equal(after[1].content, "[1 earlier messages of this conversation were cut.]")
  test.contains(test.lines()[1], "the model is away")
end)
