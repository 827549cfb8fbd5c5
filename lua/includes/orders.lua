-- An order's text in its bucket: its places, then marks of its locks. For each redemption that takes a place a word
-- '<event>', then ':<slot>' where that isn't 1, and '!' where it was rolled back without restore; for each lock of a
-- code with a single use '=<code's bucket>/<code>'. Locks of other codes are in `lo:<order>`, '<code's
-- bucket>/<code>/<token>' with a space between, which ends with the last of them. An order of which nothing is known
-- has neither. A mark names a lock, and may stay longer than it: only the reader of an order's locks looks at marks
-- (lua/order_locks.lua). Decisions see the places alone, an order's `entry`; they edit the text, so that a change's
-- cost doesn't grow with the places that it leaves alone. fast/usual_lock.lua and fast/usual_redeem.lua, and in Python
-- service/engine/formats/order_entries.py write such texts, too: change all. redemption_before needs coupon, facts.

-- The places; nil for none.
local function entry_of_order(key, order)
  local text = redis.call('HGET', key, order)
  return text and string.match(text, '^[^=]+')
end

local function mark_of(c) return '=' .. c.bucket .. '/' .. c.code end

local function without_mark(text, mark)
  local from, to = string.find(text .. '=', mark .. '=', 1, true)
  return from and string.sub(text, 1, from - 1) .. string.sub(text, to) or text
end

local function save_text(key, order, text)
  if text ~= '' then
    redis.call('HSET', key, order, text)
  else
    redis.call('HDEL', key, order)
  end
end

-- The marks stay, but for the one that is `gone` (nil for none). entry: nil for none.
local function save_order(key, order, entry, gone)
  local marks = string.match(redis.call('HGET', key, order) or '', '=.*$') or ''
  if gone then marks = without_mark(marks, gone) end
  save_text(key, order, (entry or '') .. marks)
end

-- Remember that the order has this lock. It has at most a hundred of either kind: no more can be redeemed for it.
local function mark_lock(c, max, l, now)
  if l.order == '-' then return end
  if max == 1 then
    local key = W .. 'o:' .. l.order_bucket
    local text, mark = redis.call('HGET', key, l.order) or '', mark_of(c)
    local _, count = string.gsub(text, '=', '')
    if count < 100 and not string.find(text .. '=', mark .. '=', 1, true) then
      redis.call('HSET', key, l.order, text .. mark)
    end
    return
  end
  local key, mark, lock_ms = W .. 'lo:' .. l.order, c.bucket .. '/' .. c.code .. '/' .. l.token, whole(l.deadline - now)
  local text = redis.pcall('GET', key)
  if type(text) ~= 'string' then return redis.call('SET', key, mark, 'PX', lock_ms) end
  if not string.find(text .. ' ', mark .. ' ', 1, true) then
    local _, count = string.gsub(text, ' ', '')
    if count >= 99 then text = string.gsub(text, '^%S+ ', '') end -- the first may have ended long ago
    redis.call('SET', key, text .. ' ' .. mark, 'KEEPTTL')
  end
  redis.call('PEXPIRE', key, lock_ms, 'GT')
end

-- The lock of a code with a single use has ended.
local function unmark_lock(c, l)
  local key = W .. 'o:' .. l.order_bucket
  local text = redis.pcall('HGET', key, l.order)
  if type(text) ~= 'string' then return end -- none, or a key of the wrong type, which stops no lock's end
  local left = without_mark(text, mark_of(c))
  if left ~= text then save_text(key, l.order, left) end
end

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
  for _, p in ipairs(list) do
    taken[p.nth] = true
  end
  local nth = 1
  while taken[nth] do
    nth = nth + 1
  end
  return nth
end

-- The entry after a redemption of it was rolled back; nil where no place is taken any more. restore: the place is free
-- again. The event's id may also be the beginning of another's.
local function without_place(entry, event, restore)
  local text, from, to = ' ' .. entry .. ' ', nil, 0
  repeat
    from, to = string.find(text, ' ' .. event, to + 1, true)
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

-- The standing redemption of this code by the same user for the same order; nil if none, or if facts are lacking.
local function redemption_before(c, user, entry)
  for _, p in ipairs(places(entry)) do
    local e = not p.kept and stands(c, p.event) and facts_of(p.event)
    if e and e.user == user then return e end
  end
end
