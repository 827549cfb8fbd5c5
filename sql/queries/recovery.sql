-- name: advance_recovery
-- Say how far a recovery is.
-- $1 partition int  $2 epoch bigint  $3 done bigint
UPDATE recoveries SET done = $3 WHERE partition = $1 AND epoch = $2;

-- name: begin_recovery
-- Say that an opening has to mend, and about how much there is to do: facts and codes.
-- $1 partition int  $2 epoch bigint  $3 kind text  $4 reason text  $5 after_epoch bigint  $6 after_seq bigint
-- $7 after_version bigint  $8 nonce text
INSERT INTO recoveries (partition, epoch, kind, reason, nonce, total) SELECT $1, $2, $3, $4, $8,
  (SELECT count(*) FROM facts WHERE partition = $1 AND (facts.epoch, seq) > ($5, $6))
  + (SELECT count(*) FROM codes WHERE partition = $1 AND version > $7);

-- name: cancel_rebuild
-- Take an order back.
-- $1 partition int
DELETE FROM rebuild_orders WHERE partition = $1;

-- name: finish_recovery
-- Say that Redis is whole, and that what was ordered before is done. What an earlier opening began is over too: it may
-- have mended everything and then not have come to open.
-- $1 partition int  $2 epoch bigint
WITH done AS (
  UPDATE recoveries SET finished_at = clock_timestamp(), done = total
  WHERE partition = $1 AND epoch <= $2 AND finished_at IS NULL
  RETURNING started_at
)
DELETE FROM rebuild_orders WHERE partition = $1 AND ordered_at <= (SELECT max(started_at) FROM done);

-- name: mended_in
-- Whether the opening of an epoch mended under this nonce.
-- $1 partition int  $2 epoch bigint  $3 nonce text
SELECT EXISTS (SELECT FROM recoveries WHERE partition = $1 AND epoch = $2 AND nonce = $3);

-- name: order_rebuild
-- Order that a partition's Redis be rebuilt whole.
-- $1 partition int  $2 reason text  $3 accept_loss boolean
INSERT INTO rebuild_orders (partition, reason, accept_loss) VALUES ($1, $2, $3)
ON CONFLICT (partition) DO UPDATE SET reason = excluded.reason, accept_loss = excluded.accept_loss, ordered_at = now();

-- name: read_rebuild_order
-- What was ordered for a partition; no row for nothing.
-- $1 partition int
SELECT reason, accept_loss FROM rebuild_orders WHERE partition = $1;

-- name: read_recoveries
-- A partition's last recoveries, newest first.
-- $1 partition int  $2 limit int
SELECT epoch, kind, reason, total, done, started_at, finished_at FROM recoveries WHERE partition = $1
ORDER BY epoch DESC LIMIT $2;

-- name: rebuilt_for
-- Whether a partition was rebuilt whole for this reason.
-- $1 partition int  $2 reason text
SELECT EXISTS (
  SELECT FROM recoveries WHERE partition = $1 AND kind = 'whole' AND reason = $2 AND finished_at IS NOT NULL
);
