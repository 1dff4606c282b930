--- HTTP requests. Private, loopback and metadata addresses are refused unless the configuration's `egress.allow` names them.
--- A function that waits returns nil and a sentence when there is no answer; any status is an answer.

local json = require "std.json"

local native = ...

---@class std.http
local http = {}

---@class std.http.Options
---@field headers? table<string, string>
---@field query? table<string, string|number|boolean> Added to the address.
---@field json? any Sent as JSON.
---@field form? table<string, string|number|boolean> Sent as a form.
---@field body? string Sent as it is.
---@field timeout? number Seconds until the answer must be complete; default 10, at most 120.
---@field max_bytes? integer The largest answer, in bytes; default 1 MiB, at most 4 MiB.

---@class std.http.Request : std.http.Options
---@field method? string Default `GET`, or `POST` with a body.
---@field url string

--- What a server answered.
---@class std.http.Response
---@field status integer
---@field ok boolean Whether the status is 200 to 299.
---@field headers table<string, string> Names in lower case.
---@field body string
---@field url string Where it came from, redirects followed.
local Response = {}

--- The body as a Lua value; nil and a sentence if it is not JSON.
---@return any value
---@return string? why
function Response:json()
  local ok, value = pcall(json.decode, self.body)
  if ok then
    return value
  end
  return nil, "the body is not JSON: " .. (value:match "json%.decode: (.*)$" or value)
end

local OPTIONS = { "headers", "query", "json", "form", "body", "timeout", "max_bytes" }
local REQUEST = { "method", "url", table.unpack(OPTIONS) }

local response = table.freeze { __index = table.freeze(Response), __metatable = false }

--- Sends a request.
---@param request std.http.Request
---@return std.http.Response? response
---@return string? why
function http.request(request)
  if type(request) ~= "table" or type(request.url) ~= "string" then
    error("http.request: needs a table with a `url`", 2)
  end
  native.known("http.request", request, REQUEST)
  local answer, why = native.call(request)
  if not answer then
    return nil, why
  end
  answer.ok = answer.status >= 200 and answer.status < 300
  return setmetatable(answer, response)
end

local function send(method, url, options, fields)
  if type(url) ~= "string" then
    error(("http.%s: the url must be a string, not %s"):format(method:lower(), type(url)), 3)
  end
  native.known("http." .. method:lower(), options, OPTIONS)
  local request = table.clone(options or {})
  request.method, request.url = method, url
  for name, value in pairs(fields or {}) do
    request[name] = value
  end
  return http.request(request)
end

--- Fetches `url`.
---@param url string
---@param options? std.http.Options
---@return std.http.Response? response
---@return string? why
function http.get(url, options)
  return send("GET", url, options)
end

--- Posts `body` to `url`: text as it is, a table as JSON.
---@param url string
---@param body? string|table
---@param options? std.http.Options
---@return std.http.Response? response
---@return string? why
function http.post(url, body, options)
  return send("POST", url, options, { [if type(body) == "table" then "json" else "body"] = body })
end

return http
