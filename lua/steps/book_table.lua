-- Make `book`, which the caller has declared, of number and the variables of steps/book_fields.lua.

book = {
  number = number, id = book_id, active = status == 'a', from = tonumber(from), till = tonumber(till),
  per_code = tonumber(per_code), per_user = tonumber(per_user), total = tonumber(total),
  codes_per_user = tonumber(codes_per_user), require_assignment = assigned == '1', require_lock = locked == '1',
  lock_ms = lock_ms, max_lock_ms = max_lock_ms, terms = terms,
}
