-- name: mark_single
-- Say that a book was made for one coupon, and of which kind.
-- $1 workspace int  $2 book int  $3 kind text
UPDATE books SET single = $3 WHERE workspace = $1 AND book = $2;

-- name: page_active_time_specific
-- A workspace's time-specific books that are active and within their window, each with its coupon's code where that is
-- active and not past its own end; newest first. The coupon is the book's first code, whatever was uploaded after it.
-- $1 workspace int  $2 before int  $3 limit int
WITH clock AS (SELECT now() + clock_offset_ms * interval '1 ms' AS at FROM workspaces WHERE workspace = $1)
SELECT books.*, partition, currency AS workspace_currency, code
FROM books JOIN workspaces USING (workspace) CROSS JOIN LATERAL (
  SELECT code, active, expires_at FROM codes
  WHERE codes.workspace = $1 AND codes.book = books.book ORDER BY position LIMIT 1
) AS coupon
WHERE workspace = $1 AND single = 'time-specific' AND status = 'active' AND ($2::int IS NULL OR book < $2)
  AND coalesce(valid_until, 'infinity') > (SELECT at FROM clock)
  AND (valid_from IS NULL OR valid_from <= (SELECT at FROM clock))
  AND coupon.active AND (coupon.expires_at IS NULL OR coupon.expires_at > (SELECT at FROM clock))
ORDER BY book DESC LIMIT $3;
