-- The standing redemption of this code by the same user for the same order. Reads c, user, order_entry (not nil).
-- Leaves before (nil if none, or if facts are lacking). For lua/redeem.lua and includes/redeeming.lua.

local before
for _, p in ipairs(places(order_entry)) do
  local e = not before and not p.kept and stands(c, p.event) and facts_of(p.event)
  if e and e.user == user then before = e end
end
