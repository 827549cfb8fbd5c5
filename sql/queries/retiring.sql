-- name: finish_retirement_step
-- Store the number of a step that Redis has completed. Returns no row if another worker has the lease.
-- $1 partition int  $2 fence bigint  $3 step bigint
UPDATE partitions SET retirements = $3 WHERE id = $1 AND fence = $2 RETURNING id;

-- name: gifts_of_codes
-- The remembered orders for which these codes are gifts.
-- $1 workspace int  $2 codes text[]
SELECT order_id FROM open_assignments WHERE workspace = $1 AND code = ANY ($2) AND order_id IS NOT NULL;

-- name: history_start
-- All facts in Redis are after this event, all codes after this version: those of the partition's oldest books that are
-- not retired. Without one, of the newest book: facts of books that a restored Postgres lacks are later. No row without
-- any book. Under the lock of the configuration's version, a later book never has an earlier event; but a book of a
-- workspace that moved here has a version of another partition.
-- $1 partition int
WITH own AS (
  SELECT after_epoch, after_seq, after_version, retirement IS NOT DISTINCT FROM 'retired' AS is_retired
  FROM books JOIN workspaces USING (workspace) WHERE partition = $1
)
SELECT after_epoch, after_seq, (
  SELECT after_version FROM own ORDER BY is_retired, CASE WHEN is_retired THEN -after_version ELSE after_version END LIMIT 1
) FROM own
ORDER BY is_retired, CASE WHEN is_retired THEN -after_epoch ELSE after_epoch END,
  CASE WHEN is_retired THEN -after_seq ELSE after_seq END
LIMIT 1;

-- name: lock_fence
-- Keep the lease's owner until the transaction ends. Returns no row if another worker has the lease.
-- $1 partition int  $2 fence bigint
SELECT id FROM partitions WHERE id = $1 AND fence = $2 FOR SHARE;

-- name: lock_retirement
-- Where a book is in its retirement; null if it is in Redis. It stays so until the transaction ends.
-- $1 workspace int  $2 book int
SELECT retirement FROM books WHERE workspace = $1 AND book = $2 FOR SHARE;

-- name: mark_retired
-- Retire a book all of whose codes have left Redis. Returns no row if it is to return.
-- $1 workspace int  $2 book int  $3 counts jsonb
UPDATE books SET retirement = 'retired', retired_counts = $3
WHERE workspace = $1 AND book = $2 AND retirement = 'leaving' RETURNING book;

-- name: mark_returned
-- Mark a book as returned: Redis has all of its codes.
-- $1 workspace int  $2 book int
UPDATE books SET retirement = NULL, retired_counts = NULL, returned_at = now()
WHERE workspace = $1 AND book = $2 AND retirement = 'returning';

-- name: next_moving_book
-- A book of the partition that is leaving Redis or, first, returning.
-- $1 partition int
SELECT workspace, book, retirement FROM books JOIN workspaces USING (workspace)
WHERE partition = $1 AND retirement IN ('leaving', 'returning') ORDER BY retirement DESC, workspace, book LIMIT 1;

-- name: order_return
-- Order the return of a book, if it is not in Redis, and has no detached months. Returns its number then.
-- $1 workspace int  $2 book int
SELECT order_return($1, $2);

-- name: order_return_unended
-- Order the return of a book whose end was moved to the future.
-- $1 workspace int  $2 book int
UPDATE books SET retirement = 'returning'
WHERE workspace = $1 AND book = $2 AND retirement IS NOT NULL AND (valid_until IS NULL OR valid_until > now());

-- name: page_retired_books
-- A partition's retired books with their counters, in order, after one; with those that are returning, except these.
-- $1 partition int  $2 after_workspace int  $3 after_book int  $4 limit int  $5 workspaces int[]  $6 books int[]
(
  SELECT workspace, book, retired_counts FROM books JOIN workspaces USING (workspace)
  WHERE partition = $1 AND retirement = 'retired' AND (workspace, book) > ($2, $3) ORDER BY workspace, book LIMIT $4
) UNION ALL (
  SELECT workspace, book, retired_counts FROM books JOIN workspaces USING (workspace)
  WHERE partition = $1 AND retirement IN ('leaving', 'returning') AND retired_counts IS NOT NULL AND (workspace, book) > ($2, $3)
    AND (workspace, book) NOT IN (SELECT * FROM unnest($5::int[], $6::int[]))
  ORDER BY workspace, book LIMIT $4
) ORDER BY workspace, book LIMIT $4;

-- name: page_retiring_codes
-- A book's codes, in order, after one.
-- $1 workspace int  $2 book int  $3 after bigint  $4 limit int
SELECT position, code FROM codes WHERE workspace = $1 AND book = $2 AND position > $3 ORDER BY position LIMIT $4;

-- name: page_retiring_redemptions
-- A book's redemptions, in order, after one.
-- $1 workspace int  $2 book int  $3 after uuid  $4 limit int
SELECT redemption_id, epoch, seq, user_id, order_id FROM redemptions
WHERE workspace = $1 AND book = $2 AND redemption_id > $3 ORDER BY redemption_id LIMIT $4;

-- name: page_standing_redemptions
-- The events of a code's standing redemptions, in order, after one.
-- $1 partition int  $2 workspace int  $3 code text  $4 after_epoch bigint  $5 after_seq bigint  $6 limit int
SELECT r.epoch, r.seq FROM redemptions r LEFT JOIN rollbacks b USING (redemption_id)
WHERE r.partition = $1 AND r.workspace = $2 AND r.code = $3 AND b.redemption_id IS NULL AND (r.epoch, r.seq) > ($4, $5)
ORDER BY 1, 2 LIMIT $6;

-- name: remember_orders
-- Insert the places in orders that these redemptions have, unless the order is forgotten, or was used again meanwhile.
-- $1 redemptions uuid[]
INSERT INTO order_uses (workspace, order_id, slot, redemption_id)
SELECT r.workspace, r.order_id, r.slot, r.redemption_id FROM redemptions r
JOIN workspaces USING (workspace) LEFT JOIN rollbacks b USING (redemption_id)
WHERE r.redemption_id = ANY ($1) AND r.order_id IS NOT NULL AND b.restore IS NOT TRUE
  AND (orders_since IS NULL OR r.redeemed_at >= orders_since)
ON CONFLICT DO NOTHING;

-- name: retire_ended_book
-- Let the book of a partition that ended first leave Redis. Returns no row if none ended so many days ago.
-- $1 partition int  $2 days int
UPDATE books SET retirement = 'leaving' WHERE (workspace, book) = (
  SELECT workspace, book FROM books JOIN workspaces USING (workspace)
  WHERE partition = $1 AND mode = 'live' AND retirement IS NULL AND valid_until < now() - $2 * interval '1 day'
    AND (returned_at IS NULL OR returned_at < now() - $2 * interval '1 day')
    AND NOT EXISTS (
      SELECT FROM jobs WHERE jobs.workspace = books.workspace AND jobs.book = books.book AND status = 'running' AND kind = 'generate'
    )
  ORDER BY valid_until LIMIT 1
) RETURNING workspace, book, retirement;

-- name: retirement_of_code
-- The book of a code, if Redis may lack it.
-- $1 workspace int  $2 code text
SELECT book FROM codes JOIN books USING (workspace, book) WHERE workspace = $1 AND code = $2 AND retirement IS NOT NULL;

-- name: retirement_step
-- The number of a partition's last step, and whether a further one has begun.
-- $1 partition int
SELECT retirements, EXISTS (
  SELECT FROM books JOIN workspaces USING (workspace) WHERE partition = $1 AND retirement IN ('leaving', 'returning')
) AS is_moving FROM partitions WHERE id = $1;

-- name: returning_books
-- The books of a partition that are returning to Redis.
-- $1 partition int
SELECT workspace, book FROM books JOIN workspaces USING (workspace)
WHERE partition = $1 AND retirement = 'returning' ORDER BY workspace, book;
