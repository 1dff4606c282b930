local test = require "std.test"
local answer_cache = require "answer_cache"

local function asking(question, fields)
  local prompt = { temperature = 0, messages = { { role = "user", content = question } } }
  for name, value in pairs(fields or {}) do
    prompt[name] = value
  end
  return test.prompt(prompt)
end

--- One run: asks, lets the model answer where the cache did not. Returns the cache's answer.
local function ask(prompt, reply, options)
  local run = test.run(options)
  local verdict = answer_cache.pre_prompt(prompt, run)
  if verdict then
    test.equal(verdict.kind, "answer")
    return verdict.value
  end
  answer_cache.post_response(type(reply) == "table" and reply or test.reply(reply or "the model's"), run)
  return nil
end

test.case("the second time the model is not asked", function()
  test.equal(ask(asking "capital of France?", "Paris"), nil)
  test.equal(ask(asking "capital of France?"), "Paris")
  test.equal(test.lines(), { "info answered from the cache" })
end)

test.case("every difference in the request counts", function()
  ask(asking "q", "first")
  for name, value in pairs { model = "other", temperature = 0.1, seed = 7, tools = { { type = "function" } }, max_tokens = 5, top_k = 3 } do
    test.equal(ask(asking("q", { [name] = value })), nil, name)
  end
  test.equal(ask(asking("q", { messages = { { role = "user", content = "Q" } } })), nil, "messages")
  test.equal(ask(asking "q", nil, { agent = "other" }), nil, "agent")
  test.equal(ask(asking "q"), "first")
end)

test.case("answers belong to a key, unless they are for all", function()
  ask(asking "q", "for a", { key = "a" })
  test.equal(ask(asking "q", nil, { key = "b" }), nil)
  test.equal(ask(asking "q", nil, { key = "a" }), "for a")

  ask(asking "u", "for ada", { key = "a", user = "ada", config = { scope = "user" } })
  test.equal(ask(asking "u", nil, { key = "a", user = "bob", config = { scope = "user" } }), nil)
  test.equal(ask(asking "u", nil, { key = "a", user = "ada", config = { scope = "user" } }), "for ada")

  ask(asking "v", "for nobody", { key = "a", config = { scope = "user" } })
  test.equal(ask(asking "v", nil, { key = "a", config = { scope = "user" } }), nil, "without a user nothing is kept")
  test.raises(function()
    ask(asking "v", nil, { config = { scope = "users" } })
  end, '`scope` is "key", "user" or "all"')

  ask(asking "w", "for all", { key = "a", config = { scope = "all" } })
  test.equal(ask(asking "w", nil, { key = "b", config = { scope = "all" } }), "for all")
end)

test.case("what makes no difference does not count", function()
  ask(asking("q", { stream = true, user = "ada" }), "first")
  test.equal(ask(asking "q"), "first")
end)

test.case("only a low temperature asks for the same answer again", function()
  local unset = function()
    return test.prompt "q"
  end
  for _, prompt in ipairs { asking("q", { temperature = 0.7 }), unset() } do
    test.equal(ask(prompt), nil)
    test.equal(ask(prompt), nil)
  end
  ask(unset(), "kept", { config = { without_temperature = true } })
  test.equal(ask(unset(), nil, { config = { without_temperature = true } }), "kept")
end)

test.case("what is not a whole answer is not kept", function()
  local cut = test.reply("it was", { finish = "length" })
  local calls = test.reply("I will look", { finish = "tool_calls" })
  for _, reply in ipairs { cut, calls, test.reply "", test.reply(("x"):rep(30000)), test.reply("b", { choice = 1 }) } do
    test.equal(ask(asking "q", reply), nil)
  end
  test.equal(ask(asking("q", { n = 2 })), nil)
  test.equal(ask(asking("q", { n = 2 })), nil)
end)

test.case("an answer with tools is not kept", function()
  local run = test.run()
  answer_cache.pre_prompt(asking "q", run)
  answer_cache.on_tool_call(test.call "get_weather", run)
  answer_cache.post_response(test.reply "It rains.", run)
  test.equal(ask(asking "q"), nil)
end)

test.case("a later model call of the run is left alone", function()
  ask(asking "q", "kept")
  test.equal(answer_cache.pre_prompt(asking "q", test.run { hop = 2 }), nil)
end)

test.case("no-cache asks the model, and keeps what it says now", function()
  ask(asking "q", "old")
  test.equal(ask(asking "q", "new", { headers = { ["cache-control"] = "no-cache" } }), nil)
  test.equal(ask(asking "q"), "new")
end)

test.case("pseudonyms are nobody's in particular", function()
  local vault = { originals = { ["[EMAIL_1]"] = "a@example.com" }, placeholders = {}, counts = {} }
  ask(asking "I am [EMAIL_1]", "Hello", { state = { redact_vault = vault } })
  test.equal(ask(asking "I am [EMAIL_1]"), nil)
end)
