-- name: archive_again
-- Remove archived books again whose removal from Redis ended after a version of the configuration.
-- $1 partition int  $2 seen bigint
UPDATE books SET archiving = true FROM workspaces w
WHERE w.workspace = books.workspace AND w.partition = $1 AND archived_at IS NOT NULL AND books.version > $2;

-- name: archive_book
-- Archive a book with its last counts. No row if it has not ended so many days ago, or a job still projects its codes.
-- $1 workspace int  $2 book int  $3 days int  $4 last_counts text  $5 version bigint
UPDATE books SET status = 'archived', archived_at = now(), archiving = true, last_counts = $4::jsonb, version = $5
WHERE workspace = $1 AND book = $2 AND archived_at IS NULL AND ended_at < now() - $3 * interval '1 day'
  AND NOT EXISTS (SELECT FROM jobs WHERE jobs.workspace = $1 AND jobs.book = $2 AND jobs.status = 'running')
RETURNING book;

-- name: drop_old_months
-- Drop the oldest months of facts that are older than so many days and of archived books alone; their names.
-- $1 days int
SELECT drop_old_months($1);

-- name: find_archiving_books
-- Books of a partition of which Redis may have something, without those that are set aside, and of workspaces in which
-- a user is being deleted.
-- $1 partition int  $2 limit int
SELECT workspace, book, book_id, books.version FROM books JOIN workspaces w USING (workspace)
WHERE w.partition = $1 AND archiving AND NOT is_set_aside($1, 'retaining', 'book ' || book_id)
  AND NOT EXISTS (SELECT FROM erasures WHERE erasures.workspace = books.workspace AND user_id IS NOT NULL)
ORDER BY 1, 2 LIMIT $2;

-- name: find_ended_books
-- The live books of a partition that ended first, so many days ago, have no running job and are not set aside.
-- $1 partition int  $2 days int  $3 limit int
SELECT workspace, book, book_id, books.version FROM books JOIN workspaces w USING (workspace)
WHERE w.partition = $1 AND mode = 'live' AND archived_at IS NULL AND ended_at < now() - $2 * interval '1 day'
  AND NOT EXISTS (
    SELECT FROM jobs WHERE jobs.workspace = books.workspace AND jobs.book = books.book AND jobs.status = 'running'
  ) AND NOT is_set_aside($1, 'retaining', 'book ' || book_id)
ORDER BY ended_at LIMIT $3;

-- name: finish_archiving
-- Store that Redis has nothing of a book.
-- $1 workspace int  $2 book int  $3 version bigint
UPDATE books SET archiving = false, version = $3 WHERE workspace = $1 AND book = $2;

-- name: free_archived_gifts
-- Let orders whose gifts are these codes have others; the orders whose gifts they are, or were.
-- $1 workspace int  $2 codes text[]
WITH freed AS (
  UPDATE open_assignments SET order_id = NULL WHERE workspace = $1 AND code = ANY ($2) AND order_id IS NOT NULL
)
SELECT DISTINCT order_id FROM assignments WHERE workspace = $1 AND code = ANY ($2) AND order_id IS NOT NULL;

-- name: free_archived_orders
-- Remove redemptions' places in orders.
-- $1 workspace int  $2 orders text[]  $3 redemptions uuid[]
DELETE FROM order_uses USING unnest($2::text[], $3::uuid[]) AS gone (order_id, redemption_id)
WHERE order_uses.workspace = $1
  AND order_uses.order_id = gone.order_id
  AND order_uses.redemption_id = gone.redemption_id;

-- name: history_start
-- All facts in Redis are after this event, all codes after this version: those of the partition's oldest book in Redis;
-- if none is, of its newest book. Under the lock of the configuration's version, a later book never has an earlier
-- event.
-- $1 partition int
SELECT after_epoch, after_seq, after_version FROM books JOIN workspaces USING (workspace) WHERE partition = $1
ORDER BY archived_at IS NOT NULL, CASE WHEN archived_at IS NULL THEN after_version ELSE -after_version END LIMIT 1;

-- name: lock_archived
-- Whether a book is archived. It stays so until the transaction ends.
-- $1 workspace int  $2 book int
SELECT archived_at IS NOT NULL FROM books WHERE workspace = $1 AND book = $2 FOR SHARE;

-- name: note_removal
-- Count that a book begins to leave a partition's Redis.
-- $1 partition int
INSERT INTO reconciling AS old (partition, removals) VALUES ($1, 1)
ON CONFLICT (partition) DO UPDATE SET removals = old.removals + 1;

-- name: page_archived_codes
-- A book's codes, in order, after one.
-- $1 workspace int  $2 book int  $3 after bigint  $4 limit int
SELECT position, code FROM codes WHERE workspace = $1 AND book = $2 AND position > $3 ORDER BY position LIMIT $4;

-- name: page_archived_uses
-- A book's redemptions, in order, after one.
-- $1 workspace int  $2 book int  $3 after uuid  $4 limit int
SELECT redemption_id, epoch, seq, user_id, order_id FROM redemptions
WHERE workspace = $1 AND book = $2 AND redemption_id > $3 ORDER BY redemption_id LIMIT $4;

-- name: read_facts_from
-- The time before which facts were dropped; null if none were.
SELECT facts_from FROM settings;

-- name: read_last_counts
-- An archived book's last counts. No row if the book is not archived.
-- $1 book_id uuid
SELECT last_counts FROM books WHERE book_id = $1 AND archived_at IS NOT NULL;
