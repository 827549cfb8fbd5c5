-- Read a book's settings into variables, as text: '-' for none (read_book of includes/book.lua). Reads text. Leaves
-- for_lock, for_redeem, for_used_up, for_sold_out (a letter each where that usual text knows all of the settings, else
-- '-'), book_id, from, till (ms), per_user, codes_per_user (limits), locked (whether a redemption needs a lock: '0' or
-- '1'), lock_ms, max_lock_ms, ended (what its locks begin with, includes/locks.lua), low, terms (the rest, for
-- fast/terms.lua). For fast/usual.lua.

-- stylua: ignore
local for_lock, for_redeem, for_used_up, for_sold_out, book_id, from, till, per_user, codes_per_user, locked, lock_ms,
  max_lock_ms, ended, low, terms =
  string.match(
    text,
    '{book usual: id from till per_user codes_per_user require_lock lock_ms max_lock_ms ended low *discount}'
  )
