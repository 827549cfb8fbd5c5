-- The event of a redemption, `decided` (includes/events.lua), with its discount and slot, which it leaves as text.
-- Reads c, book, max, now, now_text, amount, its_currency, its_digits, order_entry; as the arguments come: user, order,
-- value, items, order_bucket, user_bucket. The redemption's id is made of the event's.

local discount, slot = '0', '0'
if discount_type then
  -- @step discount
  discount = whole(discount_e4)
end
if order_entry then
  -- @include orders
  slot = whole(free_slot(places(order_entry)))
elseif order ~= '-' then
  slot = '1'
end
local decided
do
  local workspace, number, code, bucket, max_text = workspace_number(), book.number, c.code, c.bucket, whole(max or 0)
  -- @step redeemed_text
end
