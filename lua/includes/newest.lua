-- The newest version of configuration that anything in this Redis is of: the key's text is `newest`. A Postgres that
-- hasn't come so far was restored to an earlier time, and will give the same versions to other changes. For
-- lua/put_book.lua, put_codes.lua, put_user.lua and put_workspace.lua.
local function note_version(key, newest, text)
  if tonumber(text) > tonumber(newest or '0') then redis.call('SET', key, text) end
end
