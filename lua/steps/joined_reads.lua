-- What a usual lock and redemption of a call read (for includes/usual.lua, whose arguments it reads): the coupon's
-- record and entry, and into variables what the call has read of the workspace, `workspace_read`, and of the `book`.
-- Returns nil where that isn't usual.

local workspace_read = workspaces[settings_key]
if workspace_read == nil then workspace_read = read_workspace_once(settings_key) end
if not workspace_read then return nil end
local W, keep_ms, now, now_text = workspace_read.prefix, workspace_read.keep_ms, workspace_read.now, workspace_read.now_text
local bucket_key, coupon_key = W .. 'd:' .. bucket, W .. 'c:' .. code
local coupon_text, entry, book = read_usual(workspace_read, fingerprint, code, idempotency_key, bucket_key, coupon_key)
if not book then return nil end
local number, book_id, status, from, till = book.number, book.id, book.status, book.from, book.till
local per_code, per_user, total, assigned = book.per_code, book.per_user, book.total, book.assigned
