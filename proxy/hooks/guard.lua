-- What scripts find in the place of some of Luau's builtins: an error that is caught is text and never the gateway's own object,
-- no builtin works on without an interrupt, and the gateway's threads are the gateway's alone.
-- Compiled without lines: like a builtin, nothing in here is ever the place of an error.

local native, threads = ...

local getmetatable, type, rawget = getmetatable, type, rawget
local sub = string.sub

-- A caught error as scripts read it.
local function plain(problem)
  if type(problem) == "userdata" then
    return native.text(problem)
  elseif type(problem) == "string" then
    if problem == "not enough memory" then
      native.spoil()
    elseif sub(problem, 1, 12) == "std.guard:0:" then
      return sub(problem, 14)
    end
  end
  return problem
end

local function caught(ok, ...)
  if ok then
    return true, ...
  end
  return false, plain((...))
end

local pcall, xpcall = pcall, xpcall

local guarded = {}

function guarded.pcall(f, ...)
  return caught(pcall(f, ...))
end

function guarded.xpcall(f, handler, ...)
  if type(handler) ~= "function" then
    return xpcall(f, handler, ...)
  end
  return xpcall(f, function(problem)
    return handler(plain(problem))
  end, ...)
end

local resume, close = coroutine.resume, coroutine.close

function guarded.resume(thread, ...)
  if type(thread) == "thread" and threads[thread] then
    return false, "cannot resume a thread of the gateway's"
  end
  return caught(resume(thread, ...))
end

function guarded.close(thread)
  if type(thread) == "thread" and threads[thread] then
    return false, "cannot close a thread of the gateway's"
  end
  return caught(close(thread))
end

-- Two long texts that begin alike take their time: in Lua there is an interrupt between two comparisons.
local function before(a, b)
  return a < b
end

local sort = table.sort

function guarded.sort(list, less)
  if less == nil and type(list) == "table" and type(rawget(list, 1)) == "string" then
    less = before
  end
  sort(list, less)
end

local pairs = pairs

-- A hook's argument shows all its fields, also those that nobody has read yet.
function guarded.pairs(t)
  if type(t) == "table" and getmetatable(t) == false then
    native.fill(t)
  end
  return pairs(t)
end

return guarded
