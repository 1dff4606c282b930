--- Python functions of the project, in a worker process of their own.

local native = ...

---@class std.python
local python = {}

--- Calls `module:function` with named arguments. Returns its result; nil and a sentence if it failed.
---@param name string `agents.tools.calc:evaluate` is the function `evaluate` of the file agents/tools/calc.py.
---@param arguments? table<string, any>
---@return any result
---@return string? why
function python.call(name, arguments)
  if type(name) ~= "string" or not name:match "^[%w_.]+:[%w_.]+$" then
    error('python.call: the name is "module:function"', 2)
  end
  return native.call { ["function"] = name, arguments = arguments or {} }
end

return python
