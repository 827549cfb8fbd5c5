-- The event of a redemption, into `decided` (format: includes/events.lua, service/formats/events.py). Reads its fields
-- as texts: workspace, number (the book's), code, user, order, value, its_currency, its_digits, discount, now_text,
-- slot, bucket, order_bucket, max_text, user_bucket.

decided = 'R ' .. workspace .. ' ' .. number .. ' ' .. code .. ' ' .. user .. ' ' .. order .. ' ' .. value .. ' ' .. its_currency
  .. ' ' .. its_digits .. ' ' .. discount .. ' ' .. now_text .. ' ' .. slot .. ' ' .. bucket .. ' ' .. order_bucket .. ' '
  .. max_text .. ' ' .. user_bucket
