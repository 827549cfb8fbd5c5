-- An order's gift, in the order's bucket `g:<bucket>`: '<code> <bucket> <user> <assigned_at>'. It stands while the
-- coupon is that user's since then; an entry whose coupon was taken back, or left with its book, is as good as none.
-- apply_assign of includes/assignment.lua and service/engine/formats/order_entries.py write it, too. Needs coupon,
-- book.

local function gift_text(code, bucket, user, at) return code .. ' ' .. bucket .. ' ' .. user .. ' ' .. at end

-- The coupon that the order has as its gift, and its book; nil for none.
local function gift_of(key, order)
  local text = redis.call('HGET', key, order)
  if not text then return nil end
  local code, bucket, user, at = string.match(text, '^(%S+) (%S+) (%S+) (%S+)$')
  local c = load_coupon(code, bucket)
  if not c or c.user ~= user or c.assigned_at ~= at then return nil end
  return c, read_book(book_number_of(c.entry))
end
