local test = require "std.test"
local tool_approval = require "tool_approval"

--- What the model reads in place of a result; nil when the call is carried out.
local function refused(name, arguments, options)
  local verdict = tool_approval.on_tool_call(test.call(name, arguments), test.run(options))
  if verdict then
    test.equal(verdict.kind, "reject")
    return verdict.value
  end
  return nil
end

test.case("everything is allowed by default, and logged", function()
  test.equal(refused("search", { q = "x" }, { key = "webui" }), nil)
  test.equal(test.lines(), { 'info a tool call was allowed {"approved":false,"key":"webui","tool":"search"}' })
end)

test.case("lists of tools have globs, and `deny` is stronger", function()
  local config = { allow = { "read_*", "get_tim?" }, deny = { "read_secret*" } }
  test.equal(refused("read_file", {}, { config = config }), nil)
  test.equal(refused("get_time", {}, { config = config }), nil)
  test.equal(refused("read_secrets", {}, { config = config }), "the tool `read_secrets` is not allowed here")
  test.equal(refused("write_file", {}, { config = config }), "the tool `write_file` is not allowed here")
  test.equal(refused("xread_file", {}, { config = config }), "the tool `xread_file` is not allowed here", "a glob is the whole name")
  test.equal(refused("get.time", {}, { config = { deny = { "get-time" } } }), nil, "punctuation stands for itself")
end)

test.case("a limit is the largest number that is accepted", function()
  local options = { config = { limits = { refund = { amount = 100 } } }, headers = { ["x-approved-tools"] = "refund" } }
  test.equal(refused("refund", { amount = 250 }, options), "`refund`: amount 250 is over the limit of 100, and nobody may approve more")
  test.contains(refused("refund", { amount = "250" }, options), "over the limit")
  for _, strange in ipairs { "much", "nan", { 250 }, true, "1,000,000", "" } do
    test.contains(refused("refund", { amount = strange }, options), "amount is not a number", "what cannot be compared is refused")
  end
  local globs = { limits = { ["refund*"] = { amount = 100 } } }
  test.contains(refused("refund_all", { amount = 250 }, { config = globs }), "over the limit")
  for _, harmless in ipairs { { amount = 100 }, { amount = "99" }, {} } do
    test.equal(refused("refund", harmless, options), nil)
  end
  test.equal(refused("search", { amount = 250 }, options), nil)
end)

test.case("a person has to approve", function()
  local config = { approve = { "send_*" } }
  test.equal(
    refused("send_mail", {}, { config = config }),
    "`send_mail` needs the approval of a person; ask for it, and say what you want to do"
  )
  test.ok(refused("send_mail", {}, { config = config, headers = { ["x-approved-tools"] = "refund" } }))
  for _, approved in ipairs { "send_mail", "refund , send_mail", "*" } do
    test.equal(refused("send_mail", {}, { config = config, headers = { ["x-approved-tools"] = approved } }), nil, approved)
  end
end)

test.case("small sums need nobody, large ones do", function()
  local config = { approve_above = { refund = { amount = 100 } }, approval_header = "X-Yes" }
  test.equal(refused("refund", { amount = 99 }, { config = config }), nil)
  test.contains(refused("refund", { amount = 101 }, { config = config }), "person (amount 101 is over the limit of 100)")
  test.equal(refused("refund", { amount = 101 }, { config = config, headers = { ["x-yes"] = "refund" } }), nil)
end)

test.case("a run has so many calls and no more", function()
  local run = test.run { config = { max_calls = 2 } }
  test.equal(tool_approval.on_tool_call(test.call("a"), run), nil)
  test.equal(tool_approval.on_tool_call(test.call("b"), run), nil)
  test.contains(tool_approval.on_tool_call(test.call("c"), run).value, "used its 2 tool calls")
  test.contains(test.lines()[3], "warn a tool call was refused")
end)

test.case("a whole run: the model reads why, and answers", function()
  local outcome = test.agent("assistant"):chat("Roll eighty dice", {
    model = { { calls = { { name = "roll_dice", arguments = { count = 80 } } } }, "That is too many; ten?" },
    tools = {
      roll_dice = function()
        error("it must not be called")
      end,
    },
  })
  test.equal(outcome.calls, {}, "the tool was not called")
  local messages = outcome.prompts[2].messages
  test.contains(messages[#messages].content, "`roll_dice`: count 80 is over the limit of 50")
  test.equal(outcome.content, "That is too many; ten?")
end)

test.case("a whole run: within the limit the dice roll", function()
  local outcome = test.agent("assistant"):chat("Roll two dice", {
    model = { { calls = { { name = "roll_dice", arguments = { count = 2 } } } }, "Five." },
    tools = {
      roll_dice = function(arguments)
        return arguments.count .. " dice: 2, 3"
      end,
    },
  })
  test.equal(outcome.calls, { { name = "roll_dice", arguments = { count = 2 } } })
  test.equal(outcome.content, "Five.")
end)
