--- Small things about text. Lengths and places are in bytes, as everywhere in Lua.

local text = {}

--- Without white space at both ends.
function text.trim(s)
  return s:match("^%s*(.*%S)") or ""
end

--- The pieces between the occurrences of `separator`, which is plain text (default `,`).
function text.split(s, separator)
  return s:split(separator)
end

--- The pieces of `list` with `separator` between them (default none).
function text.join(list, separator)
  return table.concat(list, separator)
end

--- Whether `s` begins with `prefix`.
function text.starts_with(s, prefix)
  return s:sub(1, #prefix) == prefix
end

--- Whether `s` ends with `suffix`.
function text.ends_with(s, suffix)
  return suffix == "" or s:sub(-#suffix) == suffix
end

--- Whether `part`, plain text, stands in `s`.
function text.contains(s, part)
  return s:find(part, 1, true) ~= nil
end

--- `s` with every `old`, plain text, replaced by `new`, and how many there were.
function text.replace(s, old, new)
  if old == "" then
    return s, 0
  end
  local pieces = s:split(old)
  return table.concat(pieces, new), #pieces - 1
end

--- At most `length` bytes of `s`, never half a character; `ending` (default `...`) stands for what was cut off and is counted.
function text.shorten(s, length, ending)
  if #s <= length then
    return s
  end
  ending = ending or "..."
  local last = math.max(length - #ending, 0)
  while last > 0 and bit32.band(s:byte(last + 1), 0xC0) == 0x80 do
    last = last - 1
  end
  return s:sub(1, last) .. ending
end

return text
