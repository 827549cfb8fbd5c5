-- A workspace's and a book's settings as tables. service/engine/formats/stored_settings.py makes the texts, which begin with a
-- version in Redis. lua/fast/ reads the same texts; includes/holding.lua and limits.lua, and lua/lock.lua, some fields by
-- position, and lua/validate.lua has a book's text of all: change all. Needs gate.

-- max_coupons, offset_ms (by which a test workspace's clock is moved) and now (ms, on its clock) are numbers, all else is
-- text; nil for none. full: '1' or '2' where the workspace has reached its bound of storage (includes/storage.lua).
-- sampled_at: of one in 64 requests the real time, for includes/idempotency.lua; else false. What follows, the limits for
-- its books, is for lua/lock.lua and includes/limits.lua.
local function read_workspace(settings)
  local per_order, currency, digits, max_coupons, keep_ms, gift_book, offset_ms, full =
    string.match(settings, '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%-?%d+)!?(%d?)')
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  return {
    per_order = per_order, currency = currency, digits = digits, max_coupons = tonumber(max_coupons), keep_ms = keep_ms,
    gift_book = gift_book ~= '-' and gift_book or nil, offset_ms = tonumber(offset_ms),
    now = now + offset_ms, full = full ~= '' and full, sampled_at = time[2] % 64 == 0 and now,
  }
end

-- The mark of a full workspace in its settings ('!1', '!2', or ''), and settings without one with this mark.
local function mark_of(settings) return string.match(settings, '^%S+ %S+ %S+ %S+ %S+ %S+ %S+ %-?%d+(!?%d?)') or '' end
local function marked(settings, mark)
  return (string.gsub(settings, '^(%S+ %S+ %S+ %S+ %S+ %S+ %S+ %-?%d+)', '%1' .. mark))
end

-- made: the settings' text, where the caller has it already; else it is read. Numbers: from and till (ms), the limits
-- per_code, per_user, total and codes_per_user, bounds (text, includes/budgets.lua), low (below how many free codes it runs low), cap and least (amounts, e4).
-- lock_ms and max_lock_ms are text, which is only added to numbers. gift_book: of orders with its coupons; discount: its
-- kind; ended: text (includes/locks.lua), '' for none. nil for none, and id nil where the text can't be read. The book's limits ('<misses>/<locks of a user>/<locked
-- percent>', '-' for none) are for lua/lock.lua and includes/limits.lua.
local function read_book(number, made)
  local id, status, from, till, per_code, per_user, total, codes_per_user, assigned, locked, lock_ms, max_lock_ms, ended,
    low, gift_book, discount, discount_terms, cap, least, currency, digits, public_reasons = string.match(
      made or redis.call('GET', W .. 'b:' .. number), '^%S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) '
        .. '(%S+) (%S+) %-?(%d*) %S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  return {
    number = number, id = id, active = status == 'a', from = tonumber(from), till = tonumber(till),
    per_code = tonumber(per_code), per_user = tonumber(per_user), total = tonumber(string.match(total or '', '^%d+')),
    bounds = string.match(total or '', '/(.+)$'),
    codes_per_user = tonumber(codes_per_user), require_assignment = assigned == '1', require_lock = locked == '1',
    lock_ms = lock_ms, max_lock_ms = max_lock_ms, ended = ended, low = tonumber(low),
    gift_book = gift_book ~= '-' and gift_book or nil, discount = discount ~= '-' and discount or nil,
    discount_terms = discount_terms, cap = tonumber(cap), least = tonumber(least),
    currency = currency ~= '-' and currency or nil, digits = digits, public_reasons = public_reasons == '1',
  }
end

-- Whether every script can read it.
local function is_whole_workspace(text) return string.match(text .. ' ', '^%S+ %d+ %S+ %d %S+ %d+ %S+ %-?%d+ ') end

local function is_whole_book(book)
  return book.id and string.match(book.lock_ms .. ' ' .. book.max_lock_ms, '^%d+ %d+$')
    and (not book.bounds or string.match(book.bounds, '^%d+!?/[^/]+/%a:%a:%a:%d+'))
end
