-- Tells which of the tables that a hook was given it has changed, by comparing them with copies.
-- Only raw access: the metatables that a script puts on these tables have no say here.

local array = ...

-- A copy of each table. Only lists have a metatable at this time.
local function copies(tables)
  local made = table.create(#tables)
  for i, t in tables do
    if getmetatable(t) == nil then
      made[i] = table.clone(t)
    else
      made[i] = setmetatable(table.move(t, 1, #t, 1, table.create(#t)), array)
    end
  end
  return made
end

-- Whether both have the same fields. A copy has no metatable that could answer for a field that it lacks.
local function same(t, copy)
  local n_more = 0
  for key, value in next, t do
    if not rawequal(value, copy[key]) then
      return false
    end
    n_more += 1
  end
  for _ in next, copy do
    n_more -= 1
  end
  return n_more == 0
end

-- The numbers of the tables that are not as their copies, or nil if there are none.
local function changed(tables, made)
  local numbers = nil
  for i, t in tables do
    local copy = made[i]
    if not (rawequal(getmetatable(t), getmetatable(copy)) and same(t, copy)) then
      numbers = numbers or {}
      table.insert(numbers, i)
    end
  end
  return numbers
end

return copies, same, changed
