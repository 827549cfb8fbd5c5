-- Read a workspace's settings into variables. service/engine/formats/stored_settings.py makes the text, which begins with a
-- version here. Reads settings. Leaves per_order, usual_currency, usual_digits, max_coupons, keep_ms, gift_book_id
-- (as text, '-' for none), offset_ms (a number), limits ('<misses>/<locks of a user>/<locked percent>' for its books;
-- nil for none). For includes/book.lua, includes/usual.lua and steps/enter.lua.

local per_order, usual_currency, usual_digits, max_coupons, keep_ms, gift_book_id, rest =
  string.match(settings, '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
local offset_ms, limits = 0, nil -- nearly always: the rest is '0'
if rest ~= '0' then
  offset_ms, limits = string.match(rest, '^(%S+) ?(.*)$')
  offset_ms, limits = tonumber(offset_ms), limits ~= '' and limits or nil
end
