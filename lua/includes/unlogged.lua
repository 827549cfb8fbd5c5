-- A rebuild's writes skip the append-only file: the worker rewrites that file before it removes the mark. Saves a quarter of
-- Redis's time. Where the file can't be rewritten, service/hot/scripts.py composes the text so that they are logged.
local function leave_unlogged()
  if redis.set_repl then redis.set_repl(redis.REPL_REPLICA) end -- fakeredis has none, and no file
end
