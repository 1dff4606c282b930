--- Regular expressions that take time in proportion to the text, whatever the pattern.
---
--- The syntax is that of Rust's `regex` (much like Perl's, without look-around and back-references): `\d+`, `(?i)word`,
--- `(?<year>\d{4})`. Write patterns as `[[\d+]]`, so that Lua leaves the backslashes alone. Places are in bytes and begin at 1,
--- as everywhere in Lua. Texts are UTF-8 and at most 8 MiB long; a call finds at most 10,000 matches.

local native = ...

---@class std.regex
local regex = {}

--- A match, with its place.
---@class RegexMatch
---@field first integer The place of its first byte.
---@field last integer The place of its last byte; `first - 1` where the match is empty.
---@field text string What matched.
---@field captures table<integer|string, string> The groups, by number and by name; `[0]` is the whole match.

--- Whether the pattern matches anywhere in the text.
---@param text string
---@param pattern string
---@return boolean
function regex.test(text, pattern)
  return native.test(text, pattern)
end

--- The first match from the place `init` on (default 1): its first and its last place, then its groups. `nil` if there is none.
--- Unlike in `string.find`, `^` is the beginning of the text and not `init`.
---@param text string
---@param pattern string
---@param init? integer A negative one counts from the end.
---@return integer? first
---@return integer? last
---@return string? ... The groups; `nil` for one that took no part.
function regex.find(text, pattern, init)
  return native.find(text, pattern, init)
end

--- The groups of the first match, by number and by name; `[0]` is the whole match. `nil` if there is none.
---@param text string
---@param pattern string
---@return table<integer|string, string>?
function regex.match(text, pattern)
  return native.match(text, pattern)
end

--- All matches that do not overlap, from left to right.
---@param text string
---@param pattern string
---@return RegexMatch[]
function regex.find_all(text, pattern)
  return native.find_all("regex.find_all", text, pattern)
end

--- The text with every match replaced, and how many there were. In a replacement that is text, `$1` and `${name}` stand for groups
--- and `$$` for a dollar; a function gets the match and returns the text for it, or `nil` to leave it.
---@param text string
---@param pattern string
---@param replacement string|fun(match: RegexMatch): string?
---@return string text
---@return integer count
function regex.replace(text, pattern, replacement)
  if type(replacement) ~= "function" then
    return native.replace(text, pattern, replacement)
  end
  local matches = native.find_all("regex.replace", text, pattern)
  local pieces, from = {}, 1
  for _, match in ipairs(matches) do
    local first, last, original = match.first, match.last, match.text
    local new = replacement(match)
    if new ~= nil and type(new) ~= "string" and type(new) ~= "number" then
      error("regex.replace: the replacement function must return a string or nil, not a " .. type(new), 2)
    end
    table.insert(pieces, text:sub(from, first - 1))
    table.insert(pieces, new or original)
    from = last + 1
  end
  table.insert(pieces, text:sub(from))
  return table.concat(pieces), #matches
end

--- The pieces of the text between the matches of the pattern.
---@param text string
---@param pattern string
---@return string[]
function regex.split(text, pattern)
  return native.split(text, pattern)
end

--- The pattern that matches just this text.
---@param text string
---@return string
function regex.escape(text)
  return native.escape(text)
end

return regex
