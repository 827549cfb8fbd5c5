-- A bucket's free codes, counted off the directory, by the number of their book.
local function free_codes(key)
  local free = {}
  for _, of in ipairs(redis.call('HVALS', key)) do
    if not string.find(of, '!', 1, true) then free[of] = (free[of] or 0) + 1 end
  end
  return free
end
