-- The usual refusal of an assignment: the book has no free coupon, or the user has as many of its codes as it gives
-- one. It only refuses, in the order of lua/assign_any.lua: the user's limit is named before `out_of_stock`. A limit
-- of coupons over all books is not usual, unless the user never had a coupon. Reads command (redis.pcall),
-- workspace_read, book (fast/usual.lua; sets book.sold_out, what the call knows of the stock), number (the
-- book's), user, now. Leaves refusal (a reply; nil where lua/assign_any.lua decides). For fast/refusing.lua.

local refusal
for _ = 1, 1 do -- what isn't usual leaves it
  if not book.is_sold_out_usual or book.till ~= '-' and now >= book.till + 0 then break end
  local key = W .. 'u:' .. user
  local had = command('HMGET', key, 'a' .. number, 'cap')
  if had.err then break end -- a key of the wrong type
  if book.codes_per_user ~= '-' and had[1] and had[1] - book.codes_per_user >= 0 then
    refusal = { OUT.user_code_limit, book.codes_per_user }
    break
  end
  if had[2] or workspace_read.max_coupons ~= '-' and command('HRANDFIELD', key) then break end

  -- No free code, none that was free before a lock that has expired, and none free with an end of its own.
  if book.sold_out == nil then
    local now_text, set = workspace_read.now_text, W .. 'l:' .. number .. ':'
    book.sold_out = not command('HRANDFIELD', W .. 'f:' .. number)
      and command('ZCOUNT', set .. 'u', '-inf', now_text) == 0
      and command('ZCOUNT', set .. 'p', '-inf', now_text) == 0
      and command('ZCOUNT', set .. 'x', '(' .. now_text, '+inf') == 0
  end
  if book.sold_out then refusal = OUT.out_of_stock end
end
