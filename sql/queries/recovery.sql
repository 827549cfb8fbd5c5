-- name: advance_recovery
-- Store a recovery's progress.
-- $1 partition int  $2 epoch bigint  $3 done bigint
UPDATE recoveries SET done = $3 WHERE partition = $1 AND epoch = $2;

-- name: begin_recovery
-- Store a recovery's start, and roughly its size: facts and codes. Those of a whole one are not counted, which would take
-- seconds for ten millions: recorded events, without the redemptions of retired books.
-- $1 partition int  $2 epoch bigint  $3 kind text  $4 reason text  $5 after_epoch bigint  $6 after_seq bigint
-- $7 after_version bigint  $8 nonce text
INSERT INTO recoveries (partition, epoch, kind, reason, nonce, total) SELECT $1, $2, $3, $4, $8, CASE $3::text WHEN 'whole' THEN
  greatest(0, (SELECT recorded_events FROM partitions WHERE id = $1) + (
    SELECT coalesce(sum(
      CASE retirement WHEN 'retired' THEN -coalesce((retired_counts ->> 'redemptions')::bigint, 0) ELSE code_count END
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

-- name: order_rebuild
-- Order a rebuild of a partition's Redis.
-- $1 partition int  $2 reason text  $3 accept_loss boolean  $4 old_is_off boolean
INSERT INTO rebuild_orders AS old (partition, reason, accept_loss, old_is_off) VALUES ($1, $2, $3, $4)
ON CONFLICT (partition) DO UPDATE SET
  reason = excluded.reason, accept_loss = excluded.accept_loss, old_is_off = old.old_is_off OR excluded.old_is_off,
  ordered_at = now();

-- name: read_rebuild_order
-- A partition's rebuild order, if any.
-- $1 partition int
SELECT reason, accept_loss, old_is_off FROM rebuild_orders WHERE partition = $1;

-- name: read_recoveries
-- A partition's last recoveries, newest first.
-- $1 partition int  $2 limit int
SELECT epoch, kind, reason, total, done, started_at, finished_at FROM recoveries WHERE partition = $1
ORDER BY epoch DESC LIMIT $2;

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
