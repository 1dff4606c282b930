--- Decides which tool calls are carried out: some never, some within limits, some only when a person has approved them. The model is told
--- why a call is refused and carries on, so it can ask; every decision is logged.
---
---   hooks:
---     - script: scripts/tool_approval.lua
---       config:
---         deny: ["delete_*"]
---         limits: { refund: { amount: 1000 } }
---         approve: [send_mail]
---         approve_above: { refund: { amount: 100 } }
---
--- The person says yes in your application, which then sends the request with the header `x-approved-tools: refund, send_mail`. Whoever can
--- send requests can send this header: let only your application have the key. Leave `on_error` as it is, or a bug lets every call through.

local text = require "std.text"

---@type Script
local tool_approval = {
  config = {
    allow = { "*" }, -- tools that may be called; `*` stands for any text, `?` for one character
    deny = {}, -- tools that may not, even if `allow` has them
    limits = {}, -- by tool, then by argument: the largest number that is ever accepted
    approve = {}, -- tools that a person has to approve
    approve_above = {}, -- by tool, then by argument: larger numbers need an approval
    approval_header = "x-approved-tools", -- the request's header that names what was approved
    max_calls = 20, -- of all tools together, in one run
  },
}

local function is_named(tool, globs)
  for _, glob in ipairs(globs) do
    local pattern = glob:gsub("%W", "%%%0"):gsub("%%%*", ".*"):gsub("%%%?", ".")
    if tool:find("^" .. pattern .. "$") then
      return true
    end
  end
  return false
end

--- Why an argument is over its limit, in words. Nil if it is not. What is no number has no place below a limit.
local function over(argument, value, limit)
  if value == nil then
    return nil
  end
  local number = type(value) ~= "table" and tonumber(value) or nil
  if not number or number ~= number then
    return ("%s is not a number, and its limit is %s"):format(argument, limit)
  end
  return number > limit and ("%s %s is over the limit of %s"):format(argument, number, limit) or nil
end

--- The first argument above its limit, in words. Nil if there is none. The names of tools may be globs here, too.
local function excess(call, limits)
  for glob, arguments in pairs(limits) do
    for argument, limit in pairs(is_named(call.name, { glob }) and arguments or {}) do
      local why = over(argument, call.arguments[argument], limit)
      if why then
        return why
      end
    end
  end
  return nil
end

local function is_approved(call, run)
  local approved = text.split(run.headers[run.config.approval_header:lower()] or "")
  for i, glob in ipairs(approved) do
    approved[i] = text.trim(glob)
  end
  return is_named(call.name, approved)
end

--- Why the call is not carried out, in words for the model. Nil if it is.
local function refusal(call, run)
  local config = run.config
  if run.state.n_tool_calls > config.max_calls then
    return ("this run has used its %d tool calls; answer with what you have"):format(config.max_calls)
  elseif not is_named(call.name, config.allow) or is_named(call.name, config.deny) then
    return ("the tool `%s` is not allowed here"):format(call.name)
  end

  local too_much = excess(call, config.limits)
  if too_much then
    return ("`%s`: %s, and nobody may approve more"):format(call.name, too_much)
  end

  local too_much_alone = excess(call, config.approve_above)
  if (too_much_alone or is_named(call.name, config.approve)) and not is_approved(call, run) then
    local why = too_much_alone and " (" .. too_much_alone .. ")" or ""
    return ("`%s` needs the approval of a person%s; ask for it, and say what you want to do"):format(call.name, why)
  end
  return nil
end

function tool_approval.on_tool_call(call, run)
  run.state.n_tool_calls = (run.state.n_tool_calls or 0) + 1
  local why = refusal(call, run)
  if why then
    run.log.warn("a tool call was refused", { tool = call.name, why = why, key = run.key, user = run.user })
    return run:reject(why)
  end
  run.log.info("a tool call was allowed", { tool = call.name, approved = is_approved(call, run), key = run.key, user = run.user })
end

return tool_approval
