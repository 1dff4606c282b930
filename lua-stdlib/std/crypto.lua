--- Hashes, encodings, and what nobody can guess. Hashes and tokens are text in hexadecimal digits, in lower case.

local native = ...

---@class std.crypto
local crypto = {}

--- The SHA-256 of the text.
---@param text string
---@return string digits 64 of them.
function crypto.sha256(text)
  return native.sha256(text)
end

--- The HMAC-SHA-256 of the text under a key, as webhooks are signed.
---@param key string
---@param text string
---@return string digits 64 of them.
function crypto.hmac_sha256(key, text)
  return native.hmac_sha256(key, text)
end

--- The bytes of the text as hexadecimal digits.
---@param text string
---@return string
function crypto.hex(text)
  return native.hex(text)
end

---@class Base64Options
---@field url? boolean The alphabet of URLs and JWTs: `-` and `_`, no `=` at the end.

--- The text in base64.
---@param text string
---@param options? Base64Options
---@return string
function crypto.base64_encode(text, options)
  return native.base64_encode(text, options)
end

--- What base64 stands for, with or without `=` at its end. Raises an error if it is not base64.
---@param text string
---@param options? Base64Options
---@return string
function crypto.base64_decode(text, options)
  return native.base64_decode(text, options)
end

--- A new random UUID (version 4).
---@return string
function crypto.uuid()
  return native.uuid()
end

--- Whether two texts are the same, in a time that does not tell how much of them is. For signatures and tokens.
---@param a string
---@param b string
---@return boolean
function crypto.equal(a, b)
  return native.equal(a, b)
end

--- A random token of `length` bytes, which are twice as many digits.
---@param length integer From 1 to 1024.
---@return string digits
function crypto.random(length)
  return native.random(length)
end

return crypto
