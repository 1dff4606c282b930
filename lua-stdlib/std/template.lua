--- Texts with places to fill in: `Hello {{user.name | guest}}`.

local json = require "std.json"

---@class std.template
local template = {}

--- What stands at a dotted path; `nil` if there is nothing on the way.
local function at(values, path)
  local value = values
  for part in path:gmatch("[^.]+") do
    if type(value) ~= "table" then
      return nil
    end
    local inner = value[part]
    if inner == nil then
      inner = value[tonumber(part) or part]
    end
    value = inner
  end
  if value == json.null then
    return nil
  end
  return value
end

local function shown(value)
  return type(value) == "table" and json.encode(value) or tostring(value)
end

--- The text with its places filled in from `values`. `{{name}}` is a value, `{{a.b.1}}` one further inside, `{{name | default text}}`
--- has a default; `\{{` stands for the braces themselves. Tables are filled in as JSON. What was filled in is not looked at again, so
--- a value may contain braces. Raises an error for a value that is missing and has no default.
---@param text string
---@param values? table<string, any>
---@return string
function template.render(text, values)
  if type(text) ~= "string" then
    error("template.render: the text must be a string, not " .. type(text), 2)
  elseif values ~= nil and type(values) ~= "table" then
    error("template.render: the values must be a table, not a " .. type(values), 2)
  end
  local pieces, from = {}, 1
  local open = text:find("{{", 1, true)
  while open do
    if open > from and text:sub(open - 1, open - 1) == "\\" then
      table.insert(pieces, text:sub(from, open - 2) .. "{{")
      from = open + 2
    else
      local close = text:find("}}", open + 2, true)
      if not close then
        error("template.render: a `{{` has no `}}`; `\\{{` stands for the braces themselves", 2)
      end
      local path, default = text:sub(open + 2, close - 1):match("^%s*([%w_%-.]+)%s*(.*)$")
      if not path or (default ~= "" and default:sub(1, 1) ~= "|") then
        local place = text:sub(open, math.min(close + 1, open + 80))
        error(("template.render: `%s` does not name a value; `\\{{` stands for the braces themselves"):format(place), 2)
      end
      local value = at(values or {}, path)
      if value == nil and default == "" then
        error(("template.render: there is no value for {{%s}}"):format(path), 2)
      end
      table.insert(pieces, text:sub(from, open - 1))
      table.insert(pieces, value == nil and default:match("^|%s*(.-)%s*$") or shown(value))
      from = close + 2
    end
    open = text:find("{{", from, true)
  end
  table.insert(pieces, text:sub(from))
  return table.concat(pieces)
end

return template
