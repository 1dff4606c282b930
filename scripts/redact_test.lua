local test = require "std.test"
local redact = require "redact"

local ADA = "ada.lovelace+x@mail.example.co.uk"

local function user(content)
  return { role = "user", content = content }
end

--- What the model reads of one message of the user's.
local function read_by_the_model(content, config)
  local prompt = test.prompt(content)
  redact.pre_prompt(prompt, test.run { config = config })
  return prompt.messages[1].content
end

test.case("people get pseudonyms, the same person the same one", function()
  local prompt = test.prompt {
    messages = { user("I am " .. ADA .. ", not @ada, and <bob@example.org>."), user("Again: " .. ADA) },
  }
  redact.pre_prompt(prompt, test.run())
  test.equal(prompt.messages, { user("I am [EMAIL_1], not @ada, and <[EMAIL_2]>."), user("Again: [EMAIL_1]") })
end)

test.case("tool results and parts are searched, instructions and images are not", function()
  local image = { type = "image_url", image_url = { url = "https://x@example.com/" } }
  local prompt = test.prompt {
    messages = {
      { role = "system", content = "Write to help@example.com." },
      user { { type = "text", text = "a@example.com" }, image },
      { role = "tool", tool_call_id = "1", content = "from: b@example.com" },
    },
  }
  redact.pre_prompt(prompt, test.run())
  test.equal(prompt.messages[1].content, "Write to help@example.com.")
  test.equal(prompt.messages[2].content, { { type = "text", text = "[EMAIL_1]" }, image })
  test.equal(prompt.messages[3].content, "from: [EMAIL_2]")
end)

test.case("kinds, patterns and exceptions are settings", function()
  test.equal(read_by_the_model("a@example.com, +49 30 901820", { kinds = { "phone" } }), "a@example.com, [PHONE_1]")
  test.equal(read_by_the_model("C-123456", { patterns = { customer = "C-[0-9]{6}" } }), "[CUSTOMER_1]")
  test.equal(read_by_the_model("us@example.com", { allow = { "us@example.com" } }), "us@example.com")
end)

test.case("without `restore` a placeholder stands for good", function()
  test.equal(read_by_the_model("a@example.com", { restore = false }), "[EMAIL]")
  test.equal(read_by_the_model("a@example.com", { restore = false, placeholder = "(gone)" }), "(gone)")

  local run = test.run { config = { restore = false } }
  redact.pre_prompt(test.prompt("a@example.com"), run)
  local call, chunk = test.call("send", { to = "[EMAIL_1]" }), test.chunk("To [EMAIL_1]")
  redact.on_tool_call(call, run)
  redact.on_chunk(chunk, run)
  test.equal(call.arguments, { to = "[EMAIL_1]" })
  test.equal(chunk.text, "To [EMAIL_1]")
end)

test.case("tools get the originals", function()
  local run = test.run()
  redact.pre_prompt(test.prompt("Write to " .. ADA), run)
  local call = test.call("send", { to = { "[EMAIL_1]" }, text = "Dear [EMAIL_1], [EMAIL_9]" })
  redact.on_tool_call(call, run)
  test.equal(call.arguments, { to = { ADA }, text = "Dear " .. ADA .. ", [EMAIL_9]" })
end)

test.case("the reply gets the originals, however it is cut", function()
  local run = test.run()
  redact.pre_prompt(test.prompt("I am " .. ADA), run)
  local said = {}
  for _, piece in ipairs { "Hi [EM", "AIL", "_1]! [see", " below] [EMA" } do
    local chunk = test.chunk(piece)
    redact.on_chunk(chunk, run)
    table.insert(said, chunk.text)
  end
  local last = test.chunk("", { last = true })
  redact.on_chunk(last, run)
  test.equal(table.concat(said) .. last.text, "Hi " .. ADA .. "! [see below] [EMA")
end)

test.case("a run without personal data streams as it is", function()
  local run = test.run()
  redact.pre_prompt(test.prompt("hello"), run)
  local chunk = test.chunk("a list [A")
  redact.on_chunk(chunk, run)
  test.equal(chunk.text, "a list [A", "nothing is kept back")
end)

test.case("a whole run: the model never sees an address, the tool and the user do", function()
  local outcome = test.agent("assistant"):chat("Ask the writer for a note to " .. ADA, {
    model = {
      { calls = { { name = "ask_writer", arguments = { input = "A note to [EMAIL_1]" } } } },
      "Here it is: [EMAIL_1], hello from [EMAIL_2]!",
    },
    tools = {
      ask_writer = function(arguments)
        return arguments.input .. ": hello from bob@example.org"
      end,
    },
    stream = true,
  })
  test.equal(outcome.calls, { { name = "ask_writer", arguments = { input = "A note to " .. ADA } } })
  test.equal(outcome.content, "Here it is: " .. ADA .. ", hello from bob@example.org!")
  for _, prompt in ipairs(outcome.prompts) do
    for _, message in ipairs(prompt.messages) do
      test.ok(not tostring(message.content):find("@", 1, true), message.content)
    end
  end
end)
