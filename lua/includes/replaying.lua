-- Complete a stored reply that names redemptions ('@<event>,<event>': includes/idempotency.lua) with their records and
-- books. Needs book, lacking, facts. For lua/checkout.lua, redeem.lua, rollback.lua and rollback_order.lua.
local function replayed(reply)
  local names, more = string.match(reply[2] or '', '^@(%S*) ?(.*)$')
  if not names then return reply end
  local records, books = {}, {}
  for name in string.gmatch(names, '[^,]+') do
    local e = facts_of(name)
    if e then
      records[#records + 1] = e.record
      books[#books + 1] = read_book(e.book).id
    end
  end
  if lacking[1] then return recall() end
  return { reply[1], table.concat(records, '\n'), table.concat(books, ' '), 1, more }
end
