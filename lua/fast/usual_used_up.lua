-- Whether the usual refusal of a lock or redemption applies to a coupon: all uses of a code with several are spent,
-- and no reason comes before that one in includes/judging.lua, whoever asks. Reads coupon_text (the record), book
-- (fast/usual.lua), now. Leaves used_up (true or false). For fast/refusing.lua.

local used_up = false
for _ = 1, 1 do -- what isn't usual leaves it
  if not book.is_used_up_usual or book.from ~= '-' and now < book.from + 0 then break end
  -- Nobody's, neither switched off nor blocked.
  local uses, most, ends = string.match(coupon_text, '^%S+ %- %S+ (%d+) (%d+) %- (%S+) %S+ %- %- %- %- %- %- %-$')
  if not uses or most - 1 <= 0 or uses - most < 0 then break end
  if ends ~= '-' and now >= ends + 0 or book.till ~= '-' and now >= book.till + 0 then break end
  used_up = true
end
