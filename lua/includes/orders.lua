-- An order's entry in its bucket: for each redemption that takes one of its places a word '<event>', then ':<slot>'
-- where that isn't 1, and '!' where it was rolled back without restore. An order that has no place taken has no entry.
-- Changes edit the text: what one costs doesn't grow with the places that it leaves alone. includes/redemption.lua
-- adds a word, and service/engine/formats/order_entries.py writes entries, too: change all. redemption_before needs coupon, facts.

-- The entry's words as {event, nth (the slot), kept}. One that is `kept` ('!') is still taken. entry: nil for none.
local function places(entry)
  local list = {}
  if not entry then return list end
  for event, slot, kept in string.gmatch(entry, '(%d+%-%d+):?(%d*)(!?)') do
    list[#list + 1] = { event = event, nth = tonumber(slot) or 1, kept = kept == '!' }
  end
  WORK = (WORK or 0) + #list / 25
  return list
end

-- How many places the entry's redemptions take: each has one '<ms>-<n>'.
local function count_places(entry)
  local _, count = string.gsub(entry, '%d%-%d', '')
  WORK = (WORK or 0) + count / 50
  return count
end

-- The lowest slot that none of these places has.
local function free_slot(list)
  local taken = {}
  for _, p in ipairs(list) do taken[p.nth] = true end
  local nth = 1
  while taken[nth] do nth = nth + 1 end
  return nth
end

-- The entry after a redemption of it was rolled back; nil where no place is taken any more. restore: the place is free
-- again. The event's id may also be the beginning of another's.
local function without_place(entry, event, restore)
  local text, from, to = ' ' .. entry .. ' ', nil, 0
  repeat from, to = string.find(text, ' ' .. event, to + 1, true)
  until not from or string.find(text, '^%D', to + 1)
  if not from then return entry end
  local past = string.find(text, ' ', to + 1, true)
  local kept = restore and '' or string.sub(text, from, past - 1) .. '!'
  text = string.sub(text, 2, from - 1) .. kept .. string.sub(text, past, -2)
  text = string.gsub(text, '^ ', '')
  return text ~= '' and text or nil
end

-- The entry after all its redemptions that stood were rolled back; nil where no place is taken any more.
local function without_places(entry, restore)
  local parts = {}
  for place, mark in string.gmatch(entry, '([^ !]+)(!?)') do
    if mark == '!' or not restore then parts[#parts + 1] = place .. '!' end
  end
  return parts[1] and table.concat(parts, ' ')
end

-- entry: nil for none.
local function save_order(key, order, entry)
  if entry then redis.call('HSET', key, order, entry) else redis.call('HDEL', key, order) end
end

-- The standing redemption of this code by the same user for the same order; nil if none, or if facts are lacking.
local function redemption_before(c, user, entry)
  for _, p in ipairs(places(entry)) do
    local e = not p.kept and stands(c, p.event) and facts_of(p.event)
    if e and e.user == user then return e end
  end
end
