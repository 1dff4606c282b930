--- Lines in the gateway's log, with the script's and the run's name. `fields`, a table, is logged beside the message.

local native = ...

---@class std.log
local log = {}

--- For the script's author.
---@param message any
---@param fields? table<string, any>
function log.debug(message, fields)
  native.write("debug", message, fields)
end

--- Worth knowing.
---@param message any
---@param fields? table<string, any>
function log.info(message, fields)
  native.write("info", message, fields)
end

--- Somebody should look at it, some day.
---@param message any
---@param fields? table<string, any>
function log.warn(message, fields)
  native.write("warn", message, fields)
end

--- Somebody should look at it now.
---@param message any
---@param fields? table<string, any>
function log.error(message, fields)
  native.write("error", message, fields)
end

return log
