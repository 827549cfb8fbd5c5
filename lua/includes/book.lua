-- A workspace's and a book's settings as tables. service/engine/formats/stored_settings.py makes the texts. Each begins with a
-- version and a word: which texts of lua/fast/ know all of the settings ('-' for each that doesn't, whose requests the
-- general text decides). lua/fast/ reads the same texts; includes/holding.lua and limits.lua some settings. Needs gate.

-- max_coupons, offset_ms (by which a test workspace's clock is moved) and now (ms, on its clock) are numbers, all else is
-- text; nil for none. full: '1' or '2' where the workspace has reached its bound of storage (includes/storage.lua).
-- sampled_at: of one in 64 requests the real time, for includes/idempotency.lua; else false. What follows, the limits for
-- its books, is for lua/lock.lua and includes/limits.lua.
local function read_workspace(settings)
  local per_order, currency, digits, max_coupons, keep_ms, gift_book, offset_ms, full =
    string.match(settings, '^%S+ %S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%-?%d+)!?(%d?)')
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  return {
    per_order = per_order, currency = currency, digits = digits, max_coupons = tonumber(max_coupons), keep_ms = keep_ms,
    gift_book = gift_book ~= '-' and gift_book or nil, offset_ms = tonumber(offset_ms),
    now = now + offset_ms, full = full ~= '' and full, sampled_at = time[2] % 64 == 0 and now,
  }
end

-- The mark of a full workspace in its settings ('!1', '!2', or ''), and settings without one with this mark.
local function mark_of(settings) return string.match(settings, '^%S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %-?%d+(!?%d?)') or '' end
local function marked(settings, mark)
  return (string.gsub(settings, '^(%S+ %S+ %S+ %S+ %S+ %S+ %S+ %S+ %-?%d+)', '%1' .. mark))
end

-- The settings that are stored by name. A book with another one is unreadable: a later version knows what it forbids.
local KNOWN = ' status per_code total bounds require_assignment limits gift_book public_reasons '

-- made: the settings' text, where the caller has it already; else it is read. Numbers: from and till (ms), the limits
-- per_user and codes_per_user, low (below how many free codes it runs low), cap and least (amounts, e4).
-- lock_ms and max_lock_ms are text, which is only added to numbers. discount: its kind; ended: text (includes/locks.lua),
-- '' for none. nil for none, and id nil where the text can't be read. `more` has the settings that are not as usual,
-- ' <name>#<number>' or ' <name>=<text>' each: per_code ('-' for no limit), total, bounds (includes/budgets.lua), status
-- (nil for active), require_assignment, gift_book (of orders with its coupons), public_reasons, and limits ('<misses>/<locks
-- of a user>/<locked percent>', '-' for none).
local function read_book(number, made)
  local id, from, till, per_user, codes_per_user, locked, lock_ms, max_lock_ms, ended, low, discount, discount_terms, cap, least,
    currency, digits, more = string.match(made or redis.call('GET', W .. 'b:' .. number),
      '^%S+ %S+ (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) %-?(%d*) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)(.*)$')
  local settings = {
    number = number, id = id, status = not id and 'unreadable' or nil, from = tonumber(from), till = tonumber(till), per_code = 1, per_user = tonumber(per_user),
    codes_per_user = tonumber(codes_per_user), require_lock = locked == '1', lock_ms = lock_ms, max_lock_ms = max_lock_ms,
    ended = ended, low = tonumber(low), discount = discount ~= '-' and discount or nil, discount_terms = discount_terms,
    cap = tonumber(cap), least = tonumber(least), currency = currency ~= '-' and currency or nil, digits = digits, more = more,
  }
  if more ~= '' then
    local is_known = true
    for name, kind, value in string.gmatch(more or '', ' ([%l_]+)([=#])(%S+)') do
      settings[name] = kind == '=' and value or tonumber(value)
      is_known = is_known and string.find(KNOWN, ' ' .. name .. ' ', 1, true)
    end
    if not is_known then settings.status = 'unreadable' end
  end
  return settings
end

-- Whether every script can read it.
local function is_whole_workspace(text) return string.match(text .. ' ', '^%S+ %S+ %d+ %S+ %d %S+ %d+ %S+ %-?%d+ ') end

local function is_whole_book(book)
  return book.id and string.match(book.lock_ms .. ' ' .. book.max_lock_ms, '^%d+ %d+$')
    and string.gsub(book.more, ' [%l_]+[=#]%S+', '') == ''
    and (not book.bounds or string.match(book.bounds, '^%d+!?/[^/]+/%a:%a:%a:%d+'))
end
