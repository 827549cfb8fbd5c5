-- Write the event of a redemption (includes/events.lua, service/engine/formats/events.py). Reads as text: workspace, number
-- (the book's), code, user, order, value, its_currency, its_digits, discount, now_text, slot, bucket, order_bucket,
-- max_text, user_bucket. Leaves decided (declared before). For steps/redeemed_event.lua and steps/usual_redeem.lua.

decided = 'R ' .. workspace .. ' ' .. number .. ' ' .. code .. ' ' .. user .. ' ' .. order .. ' ' .. value .. ' ' .. its_currency
  .. ' ' .. its_digits .. ' ' .. discount .. ' ' .. now_text .. ' ' .. slot .. ' ' .. bucket .. ' ' .. order_bucket .. ' '
  .. max_text .. ' ' .. user_bucket
