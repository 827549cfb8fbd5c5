-- A rebuild's writes skip the append-only file: the worker rewrites that file before it removes the recovery mark (KEYS
-- 2 of lua/apply_events.lua). Saves a quarter of Redis's time. Where the file can't be rewritten,
-- service/engine/hot/scripts.py replaces `redis.REPL_REPLICA` here (UNLOGGED; keep it): then they are logged. For
-- lua/block_codes.lua, fill_pool.lua, put_codes.lua and apply_events.lua.
local function leave_unlogged()
  if redis.set_repl then redis.set_repl(redis.REPL_REPLICA) end -- fakeredis has none, and no file
end
