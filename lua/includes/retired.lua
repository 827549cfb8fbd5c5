-- Codes of retired books (docs/decisions/0048): Redis has none of them. Where a workspace has such books, `r` is there,
-- and the service hands in a missing code's state by 'code:<code>': '' for an unknown code, else '<entry> <record>', as
-- they would be here (includes/coupon.lua). 'book:<number>' is handed in, as '', after the service has ordered the book
-- back and found it here; else the request is refused there. In Python: service/record/config/retirements.py;
-- service/record/facts/redemption_records.py has the prefixes. Needs lacking, facts. For lua/rollback.lua,
-- rollback_order.lua, unassign.lua, validate.lua and steps/find.lua.

-- The entry and the record of a code that the directory lacks; else nil, nil and the reply. changes: whether the script
-- may change the coupon. It is refused until the book is back, unless the book has ended, which refuses it later. till:
-- the fifth field of a book's settings (steps/book_fields.lua).
local function retired(code, changes, now)
  if not redis.call('GET', W .. 'r') then return nil, nil, { OUT.coupon_not_found } end
  local state = record_of('code:' .. code)
  if not state then
    lacking = { 'code:' .. code }
    return nil, nil, recall()
  end
  if state == '' then return nil, nil, { OUT.coupon_not_found } end
  local entry, record = string.match(state, '^(%S+) ?(.*)$')
  local settings = redis.call('GET', W .. 'b:' .. string.match(entry, '^%d+'))
  local till = settings and tonumber(string.match(settings, '^%S+ %S+ %S+ %S+ (%S+)'))
  if changes and not (till and till <= now) then return nil, nil, { OUT.unavailable, 1000 } end
  return entry, record ~= '' and record
end

-- The reply that makes the service bring the book back before the request is repeated; nil if the book is not retired.
local function returns_first(number)
  if not redis.call('GET', W .. 'r') or record_of('book:' .. number) then return nil end
  lacking = { 'book:' .. number }
  return recall()
end
