-- A bucket's free codes, counted off the directory, by the number of their book; and how many codes were looked at.
local function free_codes(key)
  local free, entries = {}, redis.call('HVALS', key)
  for _, of in ipairs(entries) do
    if not string.find(of, '!', 1, true) then free[of] = (free[of] or 0) + 1 end
  end
  return free, #entries
end
