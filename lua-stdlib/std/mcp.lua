--- Tools of the configuration's MCP servers, also those that the agent does not offer to its model.

local native = ...

---@class std.mcp
local mcp = {}

--- Calls a tool by the server's own name for it. Returns its text; nil and a sentence if it failed. Hooks do not fire for it.
---@param server string The server's name in the configuration.
---@param tool string
---@param arguments? table<string, any>
---@return string? text
---@return string? why
function mcp.call(server, tool, arguments)
  return native.call { server = server, tool = tool, arguments = arguments or {} }
end

return mcp
