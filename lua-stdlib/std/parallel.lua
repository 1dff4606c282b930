--- Functions side by side: while one waits, the others go on.

local native = ...

---@class std.parallel
local parallel = {}

--- Calls all functions side by side and returns the first result of each, in their order. An error in one of them ends all and is raised.
---@param ... fun(): any At most 32.
---@return any ...
function parallel.all(...)
  return native.all(...)
end

return parallel
