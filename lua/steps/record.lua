-- Read a coupon from its entry and its record (formats: includes/coupon.lua). What is only copied stays text: the
-- version, `started` of a lock. A record that can't be read ends the script: it has no `uses` to add to. Reads code,
-- bucket, entry, text (the record; nil or false for none). Leaves c. For includes/coupon.lua and steps/coupon.lua.

local c
local record = text or string.find(entry, ' ', 1, true) and '0 - - 0 1 - - - ' .. string.match(entry, '!(.*)$')
if not record then
  local last = string.match(entry, '!(.+)$')
  c = { code = code, bucket = bucket, entry = entry, version = '0', user = nil, assigned_at = '-', uses = last and 1 or 0,
    max = last and 1, off = nil, expires_at = nil, last = last, lock = nil }
else
  local version, user, assigned_at, uses, limit, off, expires_at, last, token, holder, order, ends, started, counted =
    string.match(record, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  local deadline = tonumber(ends)
  c = {
    code = code, bucket = bucket, entry = entry, text = text, version = version, user = user ~= '-' and user or nil,
    assigned_at = assigned_at, uses = uses + 0, max = tonumber(limit), off = off ~= '-' and off or nil,
    expires_at = tonumber(expires_at), last = last ~= '-' and last or nil, lock = deadline and { token = token, user = holder,
      order = order, deadline = deadline, ends = ends, started = started, counted = counted },
  }
end
