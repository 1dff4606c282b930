local test = require "std.test"
local retrieval = require "retrieval"

local URL = "https://search.example.com/v1"

--- A run whose config has the address, and `config` besides.
local function run_with(config)
  local all = { url = URL, intro = "Passages:" }
  for name, value in pairs(config or {}) do
    all[name] = value
  end
  return test.run { config = all }
end

--- A service that finds these texts.
local function finds(...)
  local results = {}
  for i, passage in ipairs { ... } do
    results[i] = { text = passage }
  end
  return test.fake("http", function()
    return { json = { results = results } }
  end)
end

--- What the model reads as the user's question.
local function asked(question, run)
  local prompt = test.prompt(question)
  local verdict = retrieval.pre_prompt(prompt, run)
  return prompt.messages[#prompt.messages].content, verdict
end

test.case("the passages stand before the question", function()
  local searches = finds("Tides come twice a day.", "  The moon pulls.  ", "")
  test.equal(asked("Why are there tides?", run_with()), "Passages:\n\n[1] Tides come twice a day.\n\n[2] The moon pulls.\n\nWhy are there tides?")
  test.equal(searches, {
    { method = "GET", url = URL, headers = {}, timeout = 5, query = { q = "Why are there tides?" } },
  })
end)

test.case("a service may want JSON", function()
  local searches = test.fake("http", function()
    return { json = { hits = { { body = { text = "found" } } } } }
  end)
  local run = run_with { field = "query", body = { limit = 3 }, passages = "$.hits[*].body.text" }
  test.equal(asked("what?", run), "Passages:\n\n[1] found\n\nwhat?")
  test.equal(searches[1].method, "POST")
  test.equal(searches[1].json, { query = "what?", limit = 3 })
end)

test.case("only so many passages, only so long", function()
  finds("aaaa", "bbbb", "cccc")
  test.equal(asked("?", run_with { max_passages = 2 }), "Passages:\n\n[1] aaaa\n\n[2] bbbb\n\n?")
  test.equal(asked("?", run_with { max_chars = 7 }), "Passages:\n\n[1] aaaa\n\n[2] ...\n\n?")
end)

test.case("one search serves all model calls of a run", function()
  local searches = finds("found")
  local run = run_with()
  test.contains(asked("first", run), "[1] found")
  test.contains(asked("first", run), "[1] found")
  test.equal(#searches, 1)
end)

test.case("a message of parts keeps its parts", function()
  finds("found")
  local image = { type = "image_url", image_url = { url = "data:," } }
  local content = asked({ messages = { { role = "user", content = { { type = "text", text = "what is it?" }, image } } } }, run_with())
  test.equal(content, { { type = "text", text = "Passages:\n\n[1] found" }, { type = "text", text = "what is it?" }, image })
end)

test.case("without a service the run goes on, and the log says why", function()
  test.fake("http", function()
    return nil, "connection refused"
  end)
  test.equal(asked("why?", run_with()), "why?")
  test.equal(test.lines(), { 'warn the search failed {"url":"https://search.example.com/v1","why":"connection refused"}' })
end)

test.case("an answer that is none is a failure, too", function()
  for _, answer in ipairs { { status = 500 }, { body = "<html>" } } do
    test.fake("http", function()
      return answer
    end)
    test.equal(asked("why?", run_with()), "why?")
  end
  test.contains(test.lines()[1], "it answered with status 500")
  test.equal(#test.lines(), 2)
end)

test.case("where passages are required, the run ends", function()
  test.fake("http", function()
    return nil, "timed out"
  end)
  local _, verdict = asked("why?", run_with { required = true })
  test.equal({ verdict.kind, verdict.status }, { "abort", 503 })
end)

test.case("nothing is asked without a question, and a forgotten address is said", function()
  test.equal(asked("  ", run_with()), "  ")
  test.raises(function()
    asked("why?", test.run())
  end, "needs the `url`")
end)
