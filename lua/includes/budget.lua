-- The bytes of stored answers off the hot path: hash `y`, hour of expiry → bytes; `key` is its name. Answers of the hot
-- path are not counted. Needs gate. For lua/answered.lua, claim.lua and restore_keys.lua.

local HOUR_MS = 3600000

-- The hour of a time in ms.
local function hour_of(ms) return math.floor(ms / HOUR_MS) end

-- Count an entry that ends in so many ms. Says whether it is the first of its hour.
local function count_kept(key, entry, now, left_ms)
  local is_first = redis.call('HINCRBY', key, whole(hour_of(now + left_ms)), whole(#entry)) == #entry
  if redis.call('PTTL', key) < left_ms + HOUR_MS then redis.call('PEXPIRE', key, whole(left_ms + HOUR_MS)) end
  return is_first
end

-- Remove past hours, 100 at a time.
local function forget_hours(key, now)
  local names, flat = {}, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    if tonumber(flat[i]) < hour_of(now) and #names < 100 then names[#names + 1] = flat[i] end
  end
  if names[1] then redis.call('HDEL', key, unpack(names)) end
end

-- If the budget is used up, in how many ms a part of it expires; else nil.
local function over_budget(key, most, now)
  local total, first, flat = 0, nil, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do
    local hour = tonumber(flat[i])
    if hour >= hour_of(now) then
      total = total + flat[i + 1]
      first = math.min(first or hour, hour)
    end
  end
  return total >= most and first and (first + 1) * HOUR_MS - now or nil
end
