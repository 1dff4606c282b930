--- Answers worth keeping for a while, on `std.store`.

local store = require "std.store"

---@class std.cache
local cache = {}

local PREFIX = "cache:"

--- The value under `key` if it is not older than it may be, else nil.
---@param key string
---@return any value
function cache.get(key)
  return (store.get(PREFIX .. key))
end

--- Keeps `value` for `seconds`.
---@param key string
---@param value any
---@param seconds number
function cache.set(key, value, seconds)
  store.set(PREFIX .. key, value, { ttl = seconds })
end

--- The value under `key`, or else what `make()` returns, which is kept for `seconds`. Nil is not kept.
---@param key string
---@param seconds number
---@param make fun(): any, string?
---@return any value
---@return string? why What `make` returned beside nil.
function cache.fetch(key, seconds, make)
  local known = cache.get(key)
  if known ~= nil then
    return known
  end
  local value, why = make()
  if value ~= nil then
    cache.set(key, value, seconds)
  end
  return value, why
end

return cache
