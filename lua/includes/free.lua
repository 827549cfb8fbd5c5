-- How many free codes these entries of the directory are of, by the number of their book. `entries`: from `first` on
-- each, or each second. For lua/fill_pool.lua and compare_pools.lua.
local function count_free(entries, first, step)
  local free = {}
  for at = first, #entries, step do
    local of = string.match(entries[at], '^(%d+)%+?$')
    if of then free[of] = (free[of] or 0) + 1 end
  end
  return free
end

-- The same of a bucket, none of a key of the wrong type; and how many codes were looked at.
local function free_codes(key)
  local entries = redis.pcall('HVALS', key)
  if entries.err then entries = {} end
  return count_free(entries, 1, 1), #entries
end
