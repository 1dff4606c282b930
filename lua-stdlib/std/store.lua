--- Values that outlive the run, shared by all scripts of the gateway. Everything that JSON can say can be kept.
--- In memory it is bounded, and what was not used for longest goes first.

local native = ...

---@class std.store
local store = {}

---@class std.store.Options
---@field ttl? number Seconds until it goes by itself; default never.

local function call(name, request, options)
  native.known("store." .. name, options, { "ttl" })
  request.ttl = options and options.ttl
  if type(request.key) ~= "string" then
    error(("store.%s: the key must be a string, not %s"):format(name, type(request.key)), 3)
  end
  request.op = name
  return native.call(request)
end

--- The value under `key`, or nil.
---@param key string
---@return any value
---@return string? why
function store.get(key)
  return call("get", { key = key })
end

--- Keeps `value` under `key`; nil removes it. Returns true; nil and a sentence if it could not.
---@param key string
---@param value any
---@param options? std.store.Options
---@return true? done
---@return string? why
function store.set(key, value, options)
  return call("set", { key = key, value = value }, options)
end

--- Adds `by` (default 1) to the number under `key`, in one step, and returns the sum. `ttl` holds for a number that begins here.
---@param key string
---@param by? number
---@param options? std.store.Options
---@return number? sum
---@return string? why
function store.incr(key, by, options)
  return call("incr", { key = key, by = by or 1 }, options)
end

--- Seconds until `key` goes: nil when there is none, `math.huge` when it stays.
---@param key string
---@return number? seconds
---@return string? why
function store.ttl(key)
  local seconds, why = call("ttl", { key = key })
  if seconds == false then
    return math.huge
  end
  return seconds, why
end

--- Puts `new` under `key` if what is there equals `old` (nil: nothing is there), in one step. Returns whether it did.
---@param key string
---@param old any
---@param new any
---@param options? std.store.Options
---@return boolean? done
---@return string? why
function store.cas(key, old, new, options)
  return call("cas", { key = key, old = old, value = new }, options)
end

return store
