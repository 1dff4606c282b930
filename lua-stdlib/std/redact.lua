--- Finds personal data and secrets in text, and takes them out or puts pseudonyms in their place.
---
--- Kinds: `email`, `phone`, `credit_card`, `iban`, `ipv4`, `ipv6`, `us_ssn`, `api_key` (keys and tokens of many makers, JWTs, private
--- keys), `url_password`. Numbers count only if their check digits or their form say what they are; names and postal addresses are not
--- found. What begins first counts, then what is longer.

local native = ...
local json = require "std.json"

---@class std.redact
local redact = {}

---@alias RedactKind "email"|"phone"|"credit_card"|"iban"|"ipv4"|"ipv6"|"us_ssn"|"api_key"|"url_password"|string

---@class RedactOptions
---@field kinds? RedactKind[] What to find; default all kinds. `patterns` count beside it.
---@field patterns? table<string, string> Kinds of your own: a name, and a pattern of `std.regex`. Each line is searched by itself.
---@field placeholder? string|fun(finding: RedactFinding): string What stands for a finding. `%s` in it is the kind; default `[%s]`.
---@field allow? string[] Texts that are left alone.

---@class RedactFinding
---@field kind RedactKind
---@field first integer The place of its first byte.
---@field last integer The place of its last byte.
---@field text? string What was found.

--- Which value each placeholder stands for. A plain table, so that it can live in `run.state`.
---@class RedactVault
---@field originals table<string, string> By placeholder.
---@field placeholders table<string, string> By value.
---@field counts table<string, integer> By kind.

--- Takes a stream of text: `push` what comes, and pass on what it returns.
---@class RedactStream
---@field push fun(self: RedactStream, text: string): string What may leave now.
---@field finish fun(self: RedactStream): string The rest.

--- The longest placeholder is shorter than this.
local MAX_PLACEHOLDER = 64

--- A function from a finding to what stands for it.
local function placeholder_of(name, options)
  local placeholder = options and options.placeholder or "[%s]"
  if type(placeholder) == "string" then
    return function(finding)
      return (placeholder:gsub("%%s", finding.kind:upper()))
    end
  elseif type(placeholder) ~= "function" then
    error(name .. ": `placeholder` must be a string or a function, not a " .. type(placeholder), 3)
  end
  return function(finding)
    local text = placeholder(finding)
    if type(text) ~= "string" then
      error(name .. ": the `placeholder` function must return a string, not " .. type(text), 0)
    end
    return text
  end
end

--- The part of `text` from `first` to `last` with its findings replaced.
local function replaced(text, first, last, findings, stand_in)
  local pieces = {}
  for _, finding in ipairs(findings) do
    local found_first, found_last = finding.first, finding.last
    table.insert(pieces, text:sub(first, found_first - 1))
    table.insert(pieces, stand_in(finding))
    first = found_last + 1
  end
  table.insert(pieces, text:sub(first, last))
  return table.concat(pieces)
end

--- A function from a text to the text without its findings, and the findings.
local function replacer(name, options, stand_in)
  local finder = native.finder(name, options)
  return function(text)
    local findings = native.search(finder, name, text, 0, true)
    if #findings == 0 then
      return text, findings
    end
    return replaced(text, 1, #text, findings, stand_in(text)), findings
  end
end

--- `value` with `change` applied to each text in it; tables are changed in place. Returns the value and how many changes there were.
local function each_text(value, change, seen)
  if type(value) == "string" then
    return change(value)
  end
  local count = 0
  if type(value) == "table" and not seen[value] then
    seen[value] = true
    for key, inner in pairs(value) do
      local new, n = each_text(inner, change, seen)
      if n > 0 then
        value[key] = new
        count = count + n
      end
    end
  end
  return value, count
end

local function is_vault(value)
  return type(value) == "table" and type(value.originals) == "table" and type(value.placeholders) == "table" and type(value.counts) == "table"
end

local function check_vault(name, vault)
  if not is_vault(vault) then
    error(name .. ": the vault must be one that redact.vault made", 3)
  end
end

--- The vault's placeholder for a finding; a new one does not stand in the text already.
local function placeholder_in(vault, finding, text)
  local placeholder = vault.placeholders[finding.text]
  if not placeholder then
    local n = vault.counts[finding.kind] or 0
    repeat
      n = n + 1
      placeholder = ("[%s_%d]"):format(finding.kind:upper(), n)
    until not text:find(placeholder, 1, true)
    vault.counts[finding.kind] = n
    vault.placeholders[finding.text] = placeholder
    vault.originals[placeholder] = finding.text
  end
  return placeholder
end

--- A function from a text to the text with the vault's placeholders, and how many there are.
local function masker(name, vault, options)
  local mask = replacer(name, options, function(text)
    return function(finding)
      return placeholder_in(vault, finding, text)
    end
  end)
  return function(text)
    local masked, findings = mask(text)
    return masked, #findings
  end
end

local function unmasked(text, originals)
  local count = 0
  local result = text:gsub("%[[%u%d_]+%]", function(placeholder)
    local original = originals[placeholder]
    count = count + (original and 1 or 0)
    return original
  end)
  return result, count
end

--- What is found in the text, from left to right.
---@param text string
---@param options? RedactOptions
---@return RedactFinding[]
function redact.find(text, options)
  return (native.search(native.finder("redact.find", options), "redact.find", text, 0, true))
end

--- The text with a placeholder for each finding, and the findings without what was found.
---@param text string
---@param options? RedactOptions
---@return string text
---@return RedactFinding[] findings
function redact.text(text, options)
  local stand_in = placeholder_of("redact.text", options)
  local result, findings = replacer("redact.text", options, function()
    return stand_in
  end)(text)
  for _, finding in ipairs(findings) do
    finding.text = nil
  end
  return result, findings
end

--- A vault for pseudonyms. With a table such as `run.state` it is the vault that lives there, made when first asked for: all hooks of a
--- run have the same.
---@param state? table
---@return RedactVault
function redact.vault(state)
  if state == nil then
    return { originals = {}, placeholders = {}, counts = {} }
  elseif type(state) ~= "table" then
    error("redact.vault: the state must be a table, not a " .. type(state), 2)
  end
  if not is_vault(state.redact_vault) then
    state.redact_vault = redact.vault()
  end
  return state.redact_vault
end

--- Puts a pseudonym such as `[EMAIL_1]` in the place of each finding: the same for the same value, and the vault knows which is which.
--- In a table each text is changed, in place.
---@generic T: string|table
---@param value T
---@param vault RedactVault
---@param options? RedactOptions
---@return T value
---@return integer count
function redact.mask(value, vault, options)
  check_vault("redact.mask", vault)
  local mask = masker("redact.mask", vault, options)
  if type(value) == "table" then
    return each_text(value, mask, {})
  end
  return mask(value)
end

--- Puts what was found back in the place of its pseudonyms. In a table each text is changed, in place.
---@generic T: string|table
---@param value T
---@param vault RedactVault
---@return T value
---@return integer count
function redact.unmask(value, vault)
  check_vault("redact.unmask", vault)
  if type(value) ~= "string" and type(value) ~= "table" then
    error("redact.unmask: the value must be a string or a table, not " .. type(value), 2)
  end
  return each_text(value, function(text)
    return unmasked(text, vault.originals)
  end, {})
end

--- The arguments of a message's tool calls are JSON in a text; in it only texts may be replaced.
local function change_arguments(call, change)
  local arguments = call["function"] and call["function"].arguments
  if type(arguments) ~= "string" then
    return 0
  end
  local is_json, value = pcall(json.decode, arguments)
  local changed, count = each_text(is_json and type(value) == "table" and value or arguments, change, {})
  if count > 0 then
    call["function"].arguments = type(changed) == "table" and json.encode(changed) or changed
  end
  return count
end

--- Takes findings out of what the model reads: the content of all messages, and the arguments of earlier tool calls. Instructions
--- (`system`, `developer`) are the operator's own and stay. With a vault the findings become pseudonyms.
---@param messages Message[] Changed in place.
---@param given? RedactOptions|RedactVault
---@param options? RedactOptions Beside a vault.
---@return integer count How many findings there were.
function redact.messages(messages, given, options)
  if type(messages) ~= "table" then
    error("redact.messages: the messages must be a table, not " .. type(messages), 2)
  end
  local change
  if is_vault(given) then
    change = masker("redact.messages", given, options)
  else
    local stand_in = placeholder_of("redact.messages", given)
    local replace = replacer("redact.messages", given, function()
      return stand_in
    end)
    change = function(text)
      local result, findings = replace(text)
      return result, #findings
    end
  end
  local count = 0
  local function apply(owner, field)
    local changed, n = change(owner[field])
    if n > 0 then
      owner[field] = changed
      count = count + n
    end
  end
  for _, message in ipairs(messages) do
    if message.role ~= "system" and message.role ~= "developer" then
      if type(message.content) == "string" then
        apply(message, "content")
      elseif type(message.content) == "table" then
        -- A list of parts: text, images, files.
        for _, part in ipairs(message.content) do
          if type(part) == "table" and type(part.text) == "string" then
            apply(part, "text")
          end
        end
      end
      for _, call in ipairs(type(message.tool_calls) == "table" and message.tool_calls or {}) do
        count = count + change_arguments(call, change)
      end
    end
  end
  return count
end

---@type RedactStream
local Stream = {}

--- Scripts have streams in their hands: what they share is frozen, so that nobody changes it for the next run.
local STREAM = table.freeze { __index = Stream, __metatable = false }

local function advance(stream, text, last)
  local all = stream.held .. text
  local findings, settled, keep = native.search(stream.finder, stream.name, all, stream.skip, last)
  local result = replaced(all, stream.skip + 1, settled, findings, stream.stand_in)
  if last then
    settled, keep = 0, 0
    all = ""
  end
  -- A little of what has left stays: whether a number begins at a place depends on what stands before it.
  stream.held, stream.skip = all:sub(keep + 1), settled - keep
  return result
end

function Stream:push(text)
  if type(text) ~= "string" then
    error("redact.stream: push takes a string, not " .. type(text), 2)
  end
  return advance(self, text, false)
end

function Stream:finish()
  return advance(self, "", true)
end

table.freeze(Stream)

--- The same as `redact.text` for text that comes in pieces, however it is cut. At most some 260 bytes are held back, except within a
--- key or token that has begun (at most 16 KiB), and except with `patterns`: then text leaves line by line.
---@param options? RedactOptions
---@return RedactStream
function redact.stream(options)
  local stand_in = placeholder_of("redact.stream", options)
  local finder = native.finder("redact.stream", options)
  return setmetatable({ name = "redact.stream", finder = finder, stand_in = stand_in, held = "", skip = 0 }, STREAM)
end

---@type RedactStream
local Unmask = {}

local UNMASK = table.freeze { __index = Unmask, __metatable = false }

function Unmask:push(text)
  if type(text) ~= "string" then
    error("redact.unmask_stream: push takes a string, not " .. type(text), 2)
  end
  local all = self.held .. text
  -- A placeholder may have begun.
  local from = math.max(#all - MAX_PLACEHOLDER, 0)
  local open = all:sub(from + 1):match("()%[[%u%d_]*$")
  local cut = open and from + open - 1 or #all
  self.held = all:sub(cut + 1)
  return (unmasked(all:sub(1, cut), self.originals))
end

function Unmask:finish()
  local rest = self.held
  self.held = ""
  return (unmasked(rest, self.originals))
end

table.freeze(Unmask)

--- The same as `redact.unmask` for text that comes in pieces, however it is cut. Less than 64 bytes are held back.
---@param vault RedactVault
---@return RedactStream
function redact.unmask_stream(vault)
  check_vault("redact.unmask_stream", vault)
  return setmetatable({ originals = vault.originals, held = "" }, UNMASK)
end

return redact
