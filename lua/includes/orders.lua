-- An order's entry in its bucket: for each redemption that takes one of its places '<event>', then ':<slot>' where that
-- isn't 1, and '!' where it was rolled back without restore. Empty: every one was given back.

local function places(entry)
  local list = {}
  if not entry then return list end
  for event, slot, kept in string.gmatch(entry, '(%d+%-%d+):?(%d*)(!?)') do
    list[#list + 1] = { event = event, slot = tonumber(slot) or 1, kept = kept == '!' }
  end
  return list
end

local function entry_of(list)
  local parts = {}
  for i, p in ipairs(list) do
    parts[i] = p.event .. (p.slot == 1 and '' or ':' .. whole(p.slot)) .. (p.kept and '!' or '')
  end
  return table.concat(parts, ' ')
end

local function free_slot(list)
  local taken = {}
  for _, p in ipairs(list) do taken[p.slot] = true end
  local slot = 1
  while taken[slot] do slot = slot + 1 end
  return slot
end
