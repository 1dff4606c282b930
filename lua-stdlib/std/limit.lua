--- So many in so much time, on `std.store`: all runs of the gateway count together.

local native = ...
local store = require "std.store"
local time = require "std.time"

---@class std.limit
local limit = {}

---@class std.limit.Rate
---@field rate number How many ...
---@field per? number ... in how many seconds; default 60.
---@field cost? number How many this one counts for; default 1.

--- How often a change that somebody else was quicker with is tried again.
local ATTEMPTS = 8

local function positive(name, value)
  if type(value) ~= "number" or not (value > 0 and value < math.huge) then
    error(("limit.take: `%s` must be a number above 0, not %s"):format(name, tostring(value)), 3)
  end
  return value
end

--- Takes one of `rate`: `rate` of them are there at once and come back evenly. Returns whether there was one left;
--- if not, the seconds until there is.
---@param key string Who or what is counted.
---@param options std.limit.Rate
---@return boolean allowed
---@return number retry_after Seconds; 0 when allowed.
function limit.take(key, options)
  if type(key) ~= "string" then
    error(("limit.take: the key must be a string, not %s"):format(type(key)), 2)
  elseif type(options) ~= "table" then
    error(("limit.take: needs a table with a `rate`, not %s"):format(type(options)), 2)
  end
  native.known("limit.take", options, { "rate", "per", "cost" })
  local per, cost = positive("per", options.per or 60), positive("cost", options.cost or 1)
  positive("rate", options.rate)
  local interval = per / options.rate
  for _ = 1, ATTEMPTS do
    -- The time until which what was taken is paid for (the generic cell rate algorithm).
    local paid_until = store.get("limit:" .. key)
    local now = time.now()
    local next_until = math.max(paid_until or now, now) + cost * interval
    local wait = next_until - now - per
    if wait > 1e-6 then
      return false, wait
    end
    if store.cas("limit:" .. key, paid_until, next_until, { ttl = next_until - now }) then
      return true, 0
    end
  end
  return false, interval
end

return limit
