-- Make the table of a book. lock_ms and max_lock_ms stay text: only added to numbers. Reads number (the book's); of
-- steps/book_fields.lua: book_id, status, from, till, per_code, per_user, total, codes_per_user, assigned, locked,
-- lock_ms, max_lock_ms, terms. Leaves book (declared before). For lua/lock.lua, lua/redeem.lua and steps/book.lua.

book = {
  number = number, id = book_id, active = status == 'a', from = tonumber(from), till = tonumber(till),
  per_code = tonumber(per_code), per_user = tonumber(per_user), total = tonumber(total),
  codes_per_user = tonumber(codes_per_user), require_assignment = assigned == '1', require_lock = locked == '1',
  lock_ms = lock_ms, max_lock_ms = max_lock_ms, terms = terms,
}
