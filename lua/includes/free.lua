-- A bucket's free codes, counted off the directory, by the number of their book; none of a key of the wrong type.
local function free_codes(key)
  local free = {}
  local found = redis.pcall('HVALS', key)
  for _, of in ipairs(found.err and {} or found) do
    if not string.find(of, '!', 1, true) then free[of] = (free[of] or 0) + 1 end
  end
  return free
end
