-- What a usual lock or redemption of a call reads. Returns nil where that isn't usual. Reads workspaces, got, command;
-- of the functions' arguments: settings_at, entry_at, settings_key, bucket_key, code. Leaves workspace_read, book (what
-- the call has read), W, keep_ms, sampled_at, now, now_text (as text), entry, number, book_id, from, till, per_user,
-- gathered (the book). For fast/usual.lua.

local workspace_read = workspaces[settings_at]
if workspace_read == nil then workspace_read = read_workspace_once(settings_at, settings_key) end
if not workspace_read or got[entry_at] then return nil end
local entry = command('HGET', bucket_key, code)
if type(entry) ~= 'string' then return nil end
local number = string.match(entry, '^%d+')
local book = workspace_read.books[number]
if book == nil then book = read_usual_book(workspace_read, number) end
if not book then return nil end
local W, keep_ms, sampled_at = workspace_read.prefix, workspace_read.keep_ms, workspace_read.sampled_at
local now, now_text = workspace_read.now, workspace_read.now_text
local book_id, from, till, per_user = book.id, book.from, book.till, book.per_user
local gathered = book
