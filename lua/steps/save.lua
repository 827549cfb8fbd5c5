-- Write the coupon to directory and record, as far as that changes them. Formats: includes/coupon.lua.
-- Reads c, book, is_free (whether the code is free now). For steps/settle.lua.

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
