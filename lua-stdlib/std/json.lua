--- JSON text and Lua values.
--- A list that may be empty is made with `json.array {}`: a plain `{}` is an object. `json.null` is JSON's null.

local native = ...

---@class std.json
local json = {}

--- JSON's null. It is a value: `if x then` holds for it, so compare with `x ~= json.null`.
---@type any
json.null = native.null

--- Marks `list` as a list, so that it stays `[]` when it is empty. Returns it.
---@generic T
---@param list? T[] A new list if there is none.
---@return T[]
function json.array(list)
  return setmetatable(list or {}, native.array_metatable)
end

--- The value as JSON text. Raises an error for what JSON cannot say: functions, NaN, text that is not UTF-8, loops.
---@param value any
---@return string
function json.encode(value)
  return native.encode(value)
end

--- The value as JSON text for people: indented, with the names of fields in the order of the alphabet.
---@param value any
---@return string
function json.pretty(value)
  return native.pretty(value)
end

--- The value of JSON text. Raises an error if it is not JSON.
---@param text string
---@return any
function json.decode(text)
  return native.decode(text)
end

--- What a JSONPath finds in a value, or in JSON text: a list, empty if there is nothing. Raises an error for a wrong path.
---
--- ```lua
--- json.query(answer, "$.items[?@.price < 10].title")
--- ```
---@param value any A table, or JSON text.
---@param path string As RFC 9535 has it.
---@return any[]
function json.query(value, path)
  return native.query(value, path)
end

return json
