local test = require "std.test"
local model_router = require "model_router"

local MODELS = { easy = "small", hard = "large" }
local OPEN = "Which of these two cities would you rather move to with a family, and why?"

--- The model that a question goes to.
local function model_for(content, config)
  local all = {}
  for _, fields in ipairs { MODELS, config or {} } do
    for name, value in pairs(fields) do
      all[name] = value
    end
  end
  local prompt = test.prompt { model = "own", messages = { { role = "user", content = content } } }
  model_router.pre_prompt(prompt, test.run { config = all })
  return prompt.model
end

test.case("without models in its config it changes nothing", function()
  local prompt = test.prompt "Prove it."
  model_router.pre_prompt(prompt, test.run())
  test.equal(prompt.model, "model")
end)

test.case("rules decide what they can", function()
  test.equal(model_for "hello", "small")
  test.equal(model_for "Prove that there is no largest prime.", "large")
  test.equal(model_for "Think step by step: 17 * 23?", "large")
  test.equal(model_for "Can you improve my mood?", "small", "a word begins where a word does")
  test.equal(model_for "Why?\n```\nx = 1\n```", "large")
  test.equal(model_for "What does foo(bar); do?", "large")
  test.equal(model_for(("word "):rep(500)), "large")
  test.equal(model_for(OPEN), "small", "nobody judges")
end)

test.case("a very long question is judged by its length alone", function()
  local began = os.clock()
  test.equal(model_for(("x"):rep(1000000)), "large")
  test.equal(model_for(("f(x) "):rep(20000)), "large")
  test.ok(os.clock() - began < 0.05, "it takes no time")
  test.contains(test.lines()[2], '"because":"its length"')
end)

test.case("content that is no text is no reason to fail", function()
  for _, content in ipairs { { 1, 2 }, { "text" }, 7, {} } do
    test.equal(model_for(content), "small")
  end
end)

test.case("rules are settings", function()
  test.equal(model_for("Beweise es.", { hard_words = { "beweis" } }), "large")
  test.equal(model_for("hello there", { long = 5 }), "large")
end)

test.case("images go to a model that sees", function()
  local content = { { type = "text", text = "what is it?" }, { type = "image_url", image_url = { url = "data:," } } }
  test.equal(model_for(content, { images = "eyes" }), "eyes")
  test.equal(model_for(content), "large")
end)

test.case("a judge decides what rules leave open, once for each question", function()
  local asked = test.fake("llm", function()
    return "<think>Is it easy?</think> Hard."
  end)
  test.equal(model_for(OPEN, { judge = "lm/tiny" }), "large")
  test.equal(model_for(OPEN, { judge = "lm/tiny" }), "large")
  test.equal(#asked, 1)
  test.equal(asked[1].model, "lm/tiny")
  test.contains(asked[1].messages[1].content, OPEN)
  test.equal(model_for("hello", { judge = "lm/tiny" }), "small", "short ones are not worth asking")
  test.equal(#asked, 1)
end)

test.case("a judge that fails costs nothing but a line in the log", function()
  local answer
  test.fake("llm", function()
    return answer, "it is away"
  end)
  test.equal(model_for(OPEN, { judge = "tiny" }), "small")
  test.contains(test.lines()[1], "it is away")
  answer = "It depends."
  test.equal(model_for(OPEN, { judge = "tiny" }), "small")
  test.contains(test.lines()[3], "it said It depends.")
end)

test.case("the choice holds for the whole run", function()
  local run = test.run { config = MODELS }
  model_router.pre_prompt(test.prompt "Prove it.", run)
  local later = test.prompt { messages = { { role = "user", content = "Prove it." }, { role = "tool", content = "done" } } }
  model_router.pre_prompt(later, test.run { config = MODELS, hop = 2, state = run.state })
  test.equal(later.model, "large")
  test.equal(#test.lines(), 1)
  test.contains(test.lines()[1], '{"because":"the word prove","kind":"hard","model":"large"}')
end)
