--- The agent's own tools, whoever provides them.

local native = ...

---@class std.tools
local tools = {}

---@class std.tools.Tool
---@field name string
---@field description? string
---@field parameters table The JSON Schema of its arguments.

--- Calls a tool as the model could, its arguments checked. Returns its text; nil and a sentence if it failed.
--- Hooks do not fire for it, and it does not count as a hop; it counts in `max_tool_calls`.
---@param name string
---@param arguments? table<string, any>
---@return string? text
---@return string? why
function tools.call(name, arguments)
  if type(name) ~= "string" then
    error(("tools.call: the name must be a string, not %s"):format(type(name)), 2)
  end
  return native.call { name = name, arguments = arguments or {} }
end

--- The tools that this run offers to its model.
---@return std.tools.Tool[]
function tools.list()
  return assert(native.call {})
end

return tools
