--- The gateway's agents, run from a script with the rights of the caller. What they use counts in this run's usage.

local native = ...

---@class std.agent
local agent = {}

--- Runs an agent to its end. Returns its reply; nil and a sentence if it failed. Agents may run agents four deep.
---@param name string
---@param input string|Message[] What the user says, or a whole conversation.
---@return std.llm.Reply? reply
---@return string? why
function agent.run(name, input)
  if type(name) ~= "string" then
    error(("agent.run: the name must be a string, not %s"):format(type(name)), 2)
  end
  if type(input) == "string" then
    input = { { role = "user", content = input } }
  end
  return native.call { name = name, messages = input }
end

return agent
