--- So many in so much time, on `std.store`: all runs of the gateway count together.

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

--- Takes one of `rate`: `rate` of them are there at once and come back evenly. Returns whether there was one left;
--- if not, the seconds until there is.
---@param key string Who or what is counted.
---@param options std.limit.Rate
---@return boolean allowed
---@return number retry_after Seconds; 0 when allowed.
function limit.take(key, options)
  local per, cost = options.per or 60, options.cost or 1
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
