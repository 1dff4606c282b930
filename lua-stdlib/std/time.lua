--- The wall clock. Times are seconds since 1970 in UTC.

local native = ...

---@class std.time
local time = {}

--- Now, in seconds with their fraction.
---@return number
function time.now()
  return native.now()
end

--- Now, in whole milliseconds.
---@return integer
function time.ms()
  return math.floor(native.now() * 1000)
end

--- Waits. It does not count as the hook's CPU time, and as the run's time it does.
---@param seconds number At most 60.
function time.sleep(seconds)
  if type(seconds) ~= "number" then
    error(("time.sleep: the span must be a number, not %s"):format(type(seconds)), 2)
  end
  native.sleep(seconds)
end

--- A time as text: `2026-11-24T11:29:08Z`.
---@param t? number Default now.
---@return string
function time.iso(t)
  t = t or native.now()
  -- From 1970 to the end of the year 9999.
  if type(t) ~= "number" or not (t >= 0 and t < 253402300800) then
    error("time.iso: the time must be a number of seconds from 0 to 253402300799", 2)
  end
  return os.date("!%Y-%m-%dT%H:%M:%SZ", math.floor(t))
end

--- The time that such text means, with a fraction of seconds and a zone (`Z`, `+02:00`) where it has them; without a zone it is UTC.
--- For other text `nil` and what is wrong.
---@param text string
---@return number? seconds
---@return string? problem
function time.parse(text)
  local year, month, day, hour, min, sec, rest
  if type(text) == "string" then
    year, month, day, hour, min, sec, rest = text:match("^(%d%d%d%d)%-(%d%d)%-(%d%d)[Tt ](%d%d):(%d%d):(%d%d)(.*)$")
  end
  if not year then
    return nil, "a time looks like 2026-11-24T11:29:08Z"
  end
  local fraction, zone = rest:match("^(%.%d+)(.*)$")
  zone = zone or rest
  local sign, zone_hour, zone_min = zone:match("^([+-])(%d%d):?(%d%d)$")
  if not sign and zone ~= "" and zone:upper() ~= "Z" then
    return nil, "the zone of a time is Z or like +02:00"
  end
  local seconds = os.time {
    year = tonumber(year),
    month = tonumber(month),
    day = tonumber(day),
    hour = tonumber(hour),
    min = tonumber(min),
    sec = tonumber(sec),
  }
  -- `os.time` carries what is too large over into the next minute, day, month.
  if not seconds or os.date("!%Y%m%d%H%M%S", seconds) ~= year .. month .. day .. hour .. min .. sec then
    return nil, "there is no such time"
  end
  if sign then
    local offset = tonumber(zone_hour) * 3600 + tonumber(zone_min) * 60
    seconds = sign == "+" and seconds - offset or seconds + offset
  end
  return seconds + (tonumber(fraction) or 0)
end

local UNITS = table.freeze { d = 86400, h = 3600, m = 60, s = 1, ms = 0.001 }

--- The seconds in a span such as `1h30m`, `2d`, `500ms`. For other text `nil` and what is wrong.
---@param span string
---@return number? seconds
---@return string? problem
function time.seconds(span)
  local seconds, rest = 0, type(span) == "string" and span or ""
  repeat
    local count, unit, after = rest:match("^(%d+%.?%d*)(%a+)(.*)$")
    if not unit or not UNITS[unit] then
      return nil, "a span looks like 1h30m, with d, h, m, s and ms"
    end
    seconds = seconds + tonumber(count) * UNITS[unit]
    rest = after
  until rest == ""
  return seconds
end

return time
