-- A bucket's free codes, counted off the directory, by the number of their book, none of a key of the wrong type; and
-- how many codes were looked at. Needs coupon. For lua/fill_pool.lua and pools.lua.
local function free_codes(key)
  local free, entries = {}, redis.pcall('HVALS', key)
  if entries.err then entries = {} end
  for _, of in ipairs(entries) do
    if is_free_entry(of) then free[of] = (free[of] or 0) + 1 end
  end
  return free, #entries
end
