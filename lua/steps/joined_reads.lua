-- What a usual lock or redemption of a call reads. Returns nil where that isn't usual. Reads workspaces; of the
-- functions' arguments: settings_key, idempotency_key, fingerprint, code, bucket. Leaves workspace_read, book (what
-- the call has read), W, keep_ms, now, now_text (as text), bucket_key, coupon_key, coupon_text (the record), entry,
-- number, book_id, status, from, till, per_code, per_user, total, assigned. For includes/usual.lua.

local workspace_read = workspaces[settings_key]
if workspace_read == nil then workspace_read = read_workspace_once(settings_key) end
if not workspace_read then return nil end
local W, keep_ms, now, now_text = workspace_read.prefix, workspace_read.keep_ms, workspace_read.now, workspace_read.now_text
local bucket_key, coupon_key = W .. 'd:' .. bucket, W .. 'c:' .. code
local coupon_text, entry, book = read_usual(workspace_read, fingerprint, code, idempotency_key, bucket_key, coupon_key)
if not book then return nil end
local number, book_id, status, from, till = book.number, book.id, book.status, book.from, book.till
local per_code, per_user, total, assigned = book.per_code, book.per_user, book.total, book.assigned
