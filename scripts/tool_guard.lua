--- Refuses tool calls that are over a limit. The model is told why and carries on, so it can ask a person.
---
---   hooks:
---     - script: scripts/tool_guard.lua
---       config: { limits: { refund: { amount: 100 } }, max_calls: 5 }

---@type Script
local tool_guard = {
  config = {
    limits = {}, -- by tool, then by argument: the largest number allowed
    max_calls = 20, -- of all tools together, in one run
  },
}

function tool_guard.on_tool_call(call, run)
  local n_calls = (run.state.n_calls or 0) + 1
  run.state.n_calls = n_calls
  if n_calls > run.config.max_calls then
    return run:reject(("this conversation turn has used its %d tool calls; answer with what you have"):format(run.config.max_calls))
  end

  for argument, limit in pairs(run.config.limits[call.name] or {}) do
    local value = call.arguments[argument]
    if type(value) == "number" and value > limit then
      run.log.warn("a tool call was refused", { tool = call.name, argument = argument, value = value, limit = limit })
      return run:reject(("`%s` with %s %s is over the limit of %s; a person has to approve it"):format(call.name, argument, value, limit))
    end
  end
end

return tool_guard
