-- Write the coupon c, which is free or not (`is_free`), to directory and record, as far as that changes them. Reads
-- book. Formats: includes/coupon.lua. For steps/settle.lua.

local entry, new_text = is_free and book.number or book.number .. '!', nil
if c.max == 1 and c.last and c.version == '0' and not (c.user or c.off or c.expires_at or c.lock) then
  entry = entry .. c.last
else
  -- @step record_text
  new_text = text
end
if entry ~= c.entry then redis.call('HSET', W .. 'd:' .. c.bucket, c.code, entry) end
if new_text then redis.call('SET', W .. 'c:' .. c.code, new_text)
elseif c.text then redis.call('DEL', W .. 'c:' .. c.code) end
c.entry, c.text = entry, new_text
