-- name: advance_recovery
-- Store a recovery's progress.
-- $1 partition int  $2 epoch bigint  $3 done bigint
UPDATE recoveries SET done = $3 WHERE partition = $1 AND epoch = $2;

-- name: begin_recovery
-- Store a recovery's start, and roughly its size: facts and codes. Those of a whole one are not counted, which would
-- take seconds for ten millions: recorded events, without codes of archived books.
-- $1 partition int  $2 epoch bigint  $3 kind text  $4 reason text  $5 after_epoch bigint  $6 after_seq bigint
-- $7 after_version bigint  $8 nonce text
INSERT INTO recoveries (partition, epoch, kind, reason, nonce, total)
SELECT $1, $2, $3, $4, $8, CASE $3::text WHEN 'whole' THEN
  greatest(0, (SELECT recorded_events FROM partitions WHERE id = $1) + (
    SELECT coalesce(sum(
      CASE WHEN archived_at IS NULL THEN code_count ELSE 0 END
    ), 0) FROM books JOIN workspaces USING (workspace) WHERE partition = $1
  ))::bigint
ELSE
  (SELECT count(*) FROM facts WHERE partition = $1 AND (facts.epoch, seq) > ($5, $6))
  + (SELECT count(*) FROM codes WHERE partition = $1 AND version > $7)
END;

-- name: cancel_rebuild
-- Delete a rebuild order.
-- $1 partition int
DELETE FROM rebuild_orders WHERE partition = $1;

-- name: draw_epoch
-- A new number of an epoch, for events that no Redis has numbered.
SELECT nextval('epochs');

-- name: finish_recovery
-- Mark a recovery as done, and delete the orders from before its start. Earlier recoveries end too: one may have
-- restored everything and then failed to open.
-- $1 partition int  $2 epoch bigint
WITH done AS (
  UPDATE recoveries SET finished_at = clock_timestamp(), done = total
  WHERE partition = $1 AND epoch <= $2 AND finished_at IS NULL
  RETURNING started_at
)
DELETE FROM rebuild_orders WHERE partition = $1 AND ordered_at <= (SELECT max(started_at) FROM done);

-- name: known_events
-- Those of these events of codes that are recorded, or in quarantine, of any partition that has had their workspace.
-- Where Redis lost its end and decided anew, two events have the same id: they differ in code, time or content, if
-- given.
-- $1 partition int  $2 epochs bigint[]  $3 seqs bigint[]  $4 workspaces int[]  $5 codes text[]  $6 times_ms bigint[]
-- $7 d bytea[]
SELECT event.epoch, event.seq, is_recorded
FROM unnest($2::bigint[], $3::bigint[], $4::int[], $5::text[], $6::bigint[], $7::bytea[])
  AS event (epoch, seq, workspace, code, at_ms, d),
LATERAL (SELECT EXISTS (
  SELECT FROM facts
  WHERE facts.partition = ANY (ARRAY[$1, (SELECT w.partition FROM workspaces w WHERE w.workspace = event.workspace)])
    AND facts.epoch = event.epoch AND facts.seq = event.seq AND facts.workspace = event.workspace
    AND facts.code = event.code AND (event.at_ms IS NULL OR facts.at_ms = event.at_ms)
) AS is_recorded) AS record
WHERE is_recorded OR EXISTS (
  SELECT FROM quarantine q WHERE q.epoch = event.epoch AND q.seq = event.seq
    AND CASE
      WHEN event.d IS NULL THEN position(convert_to(' ' || event.code || ' ', 'UTF8') IN q.d || ' '::bytea) > 0 ELSE
        q.d = event.d
    END
);

-- name: order_rebuild
-- Order a rebuild of a partition's Redis.
-- $1 partition int  $2 reason text  $3 surplus text  $4 old_is_off boolean
INSERT INTO rebuild_orders AS old (partition, reason, surplus, old_is_off) VALUES ($1, $2, $3, $4)
ON CONFLICT (partition) DO UPDATE SET
  reason = excluded.reason, surplus = excluded.surplus, old_is_off = old.old_is_off OR excluded.old_is_off,
  ordered_at = now();

-- name: partitions_books
-- The books of a partition's workspaces whose codes belong to Redis, with their number of codes.
-- $1 partition int
SELECT workspace, book, book_id::text, code_count FROM books JOIN workspaces USING (workspace)
WHERE partition = $1 AND archived_at IS NULL;

-- name: read_rebuild_order
-- A partition's rebuild order, if any.
-- $1 partition int
SELECT reason, surplus, old_is_off FROM rebuild_orders WHERE partition = $1;

-- name: read_recovery
-- A partition's newest recovery.
-- $1 partition int
SELECT epoch, kind, reason, total, done, finished_at FROM recoveries WHERE partition = $1 ORDER BY epoch DESC LIMIT 1;

-- name: switch_off_book
-- Take a book out of sale.
-- $1 workspace int  $2 book int
UPDATE books SET status = 'inactive', updated_at = now()
WHERE workspace = $1 AND book = $2 AND status = 'active'
RETURNING book_id;

-- name: taken_by_users
-- How often these users have redeemed of each book, without what was given back.
-- $1 workspace int  $2 users text[]
SELECT user_id, book, count(*) AS uses FROM redemptions r
WHERE workspace = $1 AND user_id = ANY ($2)
  AND NOT EXISTS (SELECT FROM rollbacks b WHERE b.redemption_id = r.redemption_id AND b.restore)
GROUP BY user_id, book;

-- name: was_rebuilt_for
-- Whether a rebuild for this reason is done.
-- $1 partition int  $2 reason text
SELECT EXISTS (
  SELECT FROM recoveries WHERE partition = $1 AND kind = 'whole' AND reason = $2 AND finished_at IS NOT NULL
);

-- name: was_recovered
-- Whether the opening of an epoch restored Redis under this nonce.
-- $1 partition int  $2 epoch bigint  $3 nonce text
SELECT EXISTS (SELECT FROM recoveries WHERE partition = $1 AND epoch = $2 AND nonce = $3);
