-- The bytes of stored answers: hash `y`, hour of expiry → bytes off the hot path, `h<hour>` → bytes of the hot path;
-- `key` is its name. The microseconds of the time choose one in 64 requests of the hot path, which counts for 64: no
-- client can choose, and the others pay nothing. Needs gate.

local HOUR_MS = 3600000

-- The hour of a time in ms.
local function hour_of(ms) return math.floor(ms / HOUR_MS) end

-- Count an entry off the hot path that ends in so many ms.
local function count_kept(key, entry, now, left_ms)
  redis.call('HINCRBY', key, whole(hour_of(now + left_ms)), whole(#entry))
end

local ENTRY_OVERHEAD = 64 -- bytes that Redis needs beside key and entry

-- Count an entry of the hot path: `times` (64 where it was sampled) entries like it.
local function count_hot(key, name, entry, now, left_ms, times)
  redis.call('HINCRBY', key, 'h' .. whole(hour_of(now + left_ms)), whole(times * (#name + #entry + ENTRY_OVERHEAD)))
end

local function count_sampled(key, name, entry, now, left_ms) count_hot(key, name, entry, now, left_ms, 64) end

-- The bytes of all answers that have not expired. Removes past hours, 100 at a time.
local function sum_kept(key, now)
  local total, past, flat = 0, {}, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local hour = tonumber(string.match(flat[i], '^h?(%d+)$'))
    if hour and hour >= hour_of(now) then
      total = total + flat[i + 1]
    elseif hour and #past < 100 then
      past[#past + 1] = flat[i]
    end
  end
  if past[1] then redis.call('HDEL', key, unpack(past)) end
  return total
end

-- If the budget is used up, in how many ms a part of it expires; else nil.
local function over_budget(key, most, now)
  local total, first, flat = 0, nil, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local hour = tonumber(flat[i])
    if hour and hour >= hour_of(now) then
      total = total + flat[i + 1]
      first = math.min(first or hour, hour)
    end
  end
  return total >= most and first and (first + 1) * HOUR_MS - now or nil
end
