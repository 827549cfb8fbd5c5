-- Read a workspace's `settings`, one string (made by service/formats/stored_settings.py, after a version), into
-- variables; `limits` are '<misses>/<locks of a user>/<locked percent>' for its books, nil for none.

local per_order, usual_currency, usual_digits, max_coupons, keep_ms, gift_book_id, rest =
  string.match(settings, '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
local offset_ms, limits = 0, nil -- nearly always: the rest is '0'
if rest ~= '0' then
  offset_ms, limits = string.match(rest, '^(%S+) ?(.*)$')
  offset_ms, limits = tonumber(offset_ms), limits ~= '' and limits or nil
end
