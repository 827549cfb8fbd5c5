-- Add to what the user has spent of the book (format: read_user_counts of includes/state.lua).
-- Reads user, user_bucket, number (the book's), taken, standing (what to add), spent (the stored text; nil if it
-- wasn't read). Leaves stand, taken (the new numbers). For includes/state.lua and steps/redeem.lua.

local counts_key, counts_field = W .. 'o:' .. user_bucket, number .. '/' .. user
if spent == nil then spent = redis.call('HGET', counts_key, counts_field) end
local was_taken, was_standing = string.match(type(spent) == 'string' and spent or '0', '^(%d+) ?(%d*)$')
if was_standing == '' then was_standing = was_taken end
taken = was_taken + taken
local stand = was_standing + standing
if taken == 0 then redis.call('HDEL', counts_key, counts_field)
else redis.call('HSET', counts_key, counts_field, taken == stand and whole(taken) or whole(taken) .. ' ' .. whole(stand)) end
