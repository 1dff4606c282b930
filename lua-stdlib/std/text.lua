--- Small things about text. Lengths and places are in bytes, as everywhere in Lua.

---@class std.text
local text = {}

--- What a message says: its text, or the texts among its parts, one below the other. Empty when it has none.
---@param message Message
---@return string
function text.of(message)
  local content = message.content
  if type(content) == "string" then
    return content
  end
  local texts = {}
  for _, part in ipairs(type(content) == "table" and content or {}) do
    if type(part) == "table" and type(part.text) == "string" then
      table.insert(texts, part.text)
    end
  end
  return table.concat(texts, "\n")
end

--- The last message with this role, and its place; nil if there is none.
---@param messages Message[]
---@param role? string Default `user`.
---@return Message? message
---@return integer? place
function text.last(messages, role)
  for i = #messages, 1, -1 do
    if messages[i].role == (role or "user") then
      return messages[i], i
    end
  end
  return nil
end

--- Without white space at both ends.
---@param s string
---@return string
function text.trim(s)
  return s:match("^%s*(.*%S)") or ""
end

--- Whether there is nothing but white space in `s`; `nil` is blank too.
---@param s string?
---@return boolean
function text.is_blank(s)
  return s == nil or s:find("%S") == nil
end

--- The pieces between the occurrences of `separator`, which is plain text (default `,`).
---@param s string
---@param separator? string
---@return string[]
function text.split(s, separator)
  return s:split(separator)
end

--- The pieces of `list` with `separator` between them (default none).
---@param list (string|number)[]
---@param separator? string
---@return string
function text.join(list, separator)
  return table.concat(list, separator)
end

--- The lines of `s`, without their ends (`\n` or `\r\n`). An end after the last line begins no further one.
---@param s string
---@return string[]
function text.lines(s)
  local lines = s:split("\n")
  for i, line in ipairs(lines) do
    if line:sub(-1) == "\r" then
      lines[i] = line:sub(1, -2)
    end
  end
  if lines[#lines] == "" then
    table.remove(lines)
  end
  return lines
end

--- The words of `s`: what white space separates.
---@param s string
---@return string[]
function text.words(s)
  local words = {}
  for word in s:gmatch("%S+") do
    table.insert(words, word)
  end
  return words
end

--- `s` with `prefix` (default two spaces) before each line that is not empty.
---@param s string
---@param prefix? string
---@return string
function text.indent(s, prefix)
  prefix = prefix or "  "
  local lines = s:split("\n")
  for i, line in ipairs(lines) do
    if line ~= "" and line ~= "\r" then
      lines[i] = prefix .. line
    end
  end
  return table.concat(lines, "\n")
end

--- Whether `s` begins with `prefix`.
---@param s string
---@param prefix string
---@return boolean
function text.starts_with(s, prefix)
  return s:sub(1, #prefix) == prefix
end

--- Whether `s` ends with `suffix`.
---@param s string
---@param suffix string
---@return boolean
function text.ends_with(s, suffix)
  return suffix == "" or s:sub(-#suffix) == suffix
end

--- Whether `part`, plain text, stands in `s`.
---@param s string
---@param part string
---@return boolean
function text.contains(s, part)
  return s:find(part, 1, true) ~= nil
end

--- `s` with every `old`, plain text, replaced by `new`, and how many there were.
---@param s string
---@param old string
---@param new string
---@return string
---@return integer count
function text.replace(s, old, new)
  if old == "" then
    return s, 0
  end
  local pieces = s:split(old)
  return table.concat(pieces, new), #pieces - 1
end

--- At most `length` bytes of `s`, never half a character; `ending` (default `...`) stands for what was cut off and is counted. It is left
--- out where there is no room for it.
---@param s string
---@param length integer
---@param ending? string
---@return string
function text.shorten(s, length, ending)
  if #s <= length then
    return s
  end
  ending = ending or "..."
  if #ending > length then
    ending = ""
  end
  local last = math.max(length - #ending, 0)
  while last > 0 and bit32.band(s:byte(last + 1), 0xC0) == 0x80 do
    last = last - 1
  end
  return s:sub(1, last) .. ending
end

--- About how many tokens `s` is for a model: one for four bytes, rounded up. An estimate: code and languages other than English have more.
---@param s string
---@return integer
function text.estimate_tokens(s)
  return math.ceil(#s / 4)
end

return text
