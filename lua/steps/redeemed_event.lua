-- The event of a redemption (includes/events.lua). The redemption's id is made of the event's.
-- Reads c, book, max, now_text (ms), order_entry (nil or false for none), saved_e4 (the discount), its_currency,
-- its_digits; as the arguments come: user, order, value, order_bucket, user_bucket. Leaves decided, discount (e4), slot
-- (all as text).
-- For lua/redeem.lua and includes/redeeming.lua.

local discount, slot = whole(saved_e4), '0'
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
