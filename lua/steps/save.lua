-- Write the coupon to directory and record, as far as that changes them. Formats: includes/coupon.lua.
-- Reads c, book, is_free (whether the code is free now). For steps/settle.lua.

local entry, new_text = is_free and book.number or book.number .. '!', nil
local is_plain = c.max == 1 and c.version == '0' and not (c.user or c.off or c.expires_at)
if is_plain and c.last and not c.lock then
  entry = entry .. c.last
else
  -- @step record_text
  local is_short = is_plain and l and c.uses == 0 and #entry + #lock <= ENTRY_BYTES
  if is_short then entry = entry .. lock else new_text = text end
  if is_free and text then entry = entry .. '+' end
end
if entry ~= c.entry then redis.call('HSET', W .. 'd:' .. c.bucket, c.code, entry) end
if new_text then redis.call('SET', W .. 'c:' .. c.code, new_text)
elseif c.text then redis.call('DEL', W .. 'c:' .. c.code) end
c.entry, c.text = entry, new_text
