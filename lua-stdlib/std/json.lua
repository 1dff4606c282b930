--- JSON text and Lua values.
--- A list that may be empty is made with `json.array {}`: a plain `{}` is an object. `json.null` is JSON's null.

local native = ...

local json = {}

--- JSON's null. It is a value: `if x then` holds for it, so compare with `x ~= json.null`.
json.null = native.null

--- Marks `list` as a list, so that it stays `[]` when it is empty. Returns it.
function json.array(list)
  return setmetatable(list or {}, native.array_metatable)
end

--- The value as JSON text. Raises an error for what JSON cannot say: functions, NaN, text that is not UTF-8, loops.
function json.encode(value)
  return native.encode(value)
end

--- The value of JSON text. Raises an error if it is not JSON.
function json.decode(text)
  return native.decode(text)
end

return json
