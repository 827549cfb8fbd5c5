-- Read a workspace's settings into variables (read_workspace of includes/book.lua), and the time on its clock. Reads
-- settings. Leaves full, sampled_at (as there), usual (a letter for each usual text that knows all of the settings, '-'
-- for others: lock, redeem, used up, sold out), per_order, usual_currency, usual_digits, max_coupons, keep_ms,
-- gift_book_id (as text, '-' for none), offset_ms (a number), limits (nil for none), now (ms). For fast/usual.lua and
-- fast/enter.lua.

local usual, per_order, usual_currency, usual_digits, max_coupons, keep_ms, gift_book_id, rest =
  string.match(settings, '^%S+ ({workspace word}) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
local offset_ms, full, limits = 0, false, nil -- nearly always: the rest is '0'
if rest ~= '0' then
  offset_ms, full, rest = string.match(rest or '', '^(%-?%d+)!?(%d?)(.*)$')
  offset_ms, full, limits = tonumber(offset_ms), full ~= '' and full, string.match(rest or '', '^ limits=(%S+)$')
  if rest ~= '' and not limits then error({ err = 'UNREADABLE settings of a workspace' }, 0) end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local sampled_at = time[2] % 64 == 0 and now
now = now + offset_ms
