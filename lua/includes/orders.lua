-- An order's entry in its bucket: for each redemption that takes one of its places '<id> <code> <user> <slot> <state>',
-- state s(tands) or k(ept: rolled back without restore). Empty: every one was given back.

local function places(entry)
  local list = {}
  if not entry then return list end
  for id, code, user, slot, state in string.gmatch(entry, '(%S+) (%S+) (%S+) (%S+) (%S+)') do
    list[#list + 1] = { id = id, code = code, user = user, slot = tonumber(slot), state = state }
  end
  return list
end

local function entry_of(list)
  local parts = {}
  for i, p in ipairs(list) do
    parts[i] = p.id .. ' ' .. p.code .. ' ' .. p.user .. ' ' .. whole(p.slot) .. ' ' .. p.state
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
