-- Read a workspace's settings into variables (read_workspace of includes/book.lua), and the time on its clock. Reads
-- settings. Leaves per_order, usual_currency, usual_digits, max_coupons, keep_ms, gift_book_id (as text, '-' for none),
-- offset_ms (a number), limits (nil for none), now (ms). For fast/usual.lua and fast/enter.lua.

local per_order, usual_currency, usual_digits, max_coupons, keep_ms, gift_book_id, rest =
  string.match(settings, '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
local offset_ms, limits = 0, nil -- nearly always: the rest is '0'
if rest ~= '0' then
  offset_ms, limits = string.match(rest, '^(%S+) ?(.*)$')
  offset_ms, limits = tonumber(offset_ms), limits ~= '' and limits or nil
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000) + offset_ms
