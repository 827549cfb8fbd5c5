-- name: mark_single
-- Mark a book as made for one coupon, of this kind.
-- $1 workspace int  $2 book int  $3 kind text
UPDATE books SET single = $3 WHERE workspace = $1 AND book = $2;

-- name: page_active_time_specific
-- A workspace's active time-specific books within their window, newest first, each with its coupon's code if that is
-- active and not expired. The coupon is the book's first code.
-- $1 workspace int  $2 before int  $3 limit int
WITH clock AS (SELECT now() + clock_offset_ms * interval '1 ms' AS at FROM workspaces WHERE workspace = $1)
SELECT {book}, code
FROM books JOIN workspaces USING (workspace) CROSS JOIN LATERAL (
  SELECT code, active, expires_at FROM codes
  WHERE codes.workspace = $1 AND codes.book = books.book ORDER BY position LIMIT 1
) AS coupon
WHERE workspace = $1 AND single = 'time-specific' AND status = 'active' AND ($2::int IS NULL OR book < $2)
  AND coalesce(valid_until, 'infinity') > (SELECT at FROM clock)
  AND (valid_from IS NULL OR valid_from <= (SELECT at FROM clock))
  AND coupon.active AND (coupon.expires_at IS NULL OR coupon.expires_at > (SELECT at FROM clock))
ORDER BY book DESC LIMIT $3;
