-- How many bytes of answers are kept for requests outside the hot path: hash `y`, the hour in which some end → their bytes.
-- Those of the hot path are small, and not counted.

local HOUR_MS = 3600000

local function hour_of(ms) return math.floor(ms / HOUR_MS) end

-- Count an entry that ends in so many ms; and forget hours that are over, whenever another one begins.
local function count_kept(key, entry, now, left_ms)
  local field = whole(hour_of(now + left_ms))
  if redis.call('HINCRBY', key, field, whole(#entry)) == #entry then
    local flat = redis.call('HGETALL', key)
    for i = 1, #flat, 2 do
      local name = flat[i]
      if tonumber(name) < hour_of(now) then redis.call('HDEL', key, name) end
    end
  end
  if redis.call('PTTL', key) < left_ms + HOUR_MS then redis.call('PEXPIRE', key, whole(left_ms + HOUR_MS)) end
end

-- After how many ms some of it ends, where all of it is used up; else nil.
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
