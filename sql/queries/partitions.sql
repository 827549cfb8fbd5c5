-- name: begin_epoch
-- Draw a new epoch and close the partition; no row where the fence is no longer ours.
-- $1 partition int  $2 fence bigint  $3 nonce text
UPDATE partitions SET epoch = nextval('epochs'), nonce = $3, state = 'closed' WHERE id = $1 AND fence = $2
RETURNING epoch;

-- name: bump_config_version
-- Number a configuration change; the row stays locked until the transaction ends, so that numbers have no gaps. No row where
-- this Postgres has started since a worker compared it with Redis.
-- $1 partition int
UPDATE config_versions SET version = version + 1
WHERE partition = $1 AND EXISTS (SELECT FROM partitions WHERE id = $1 AND incarnation = incarnation())
RETURNING version;

-- name: confirm_incarnation
-- Say that Redis holds no configuration that this Postgres doesn't know; no row where the fence is no longer ours, or
-- Postgres has started again.
-- $1 partition int  $2 fence bigint  $3 incarnation text
UPDATE partitions SET incarnation = $3 WHERE id = $1 AND fence = $2 AND incarnation() = $3 RETURNING id;

-- name: confirm_open
-- Say that the epoch's Redis is verified; no row where fence or epoch are no longer ours, the cursor is not yet in it, or
-- this is not the Postgres from which it was made whole.
-- $1 partition int  $2 fence bigint  $3 epoch bigint  $4 incarnation text
UPDATE partitions SET state = 'open', incarnation = $4
WHERE id = $1 AND fence = $2 AND epoch = $3 AND cursor_epoch = $3 AND incarnation() = $4 RETURNING id;

-- name: enter_epoch
-- Move the cursor from where it is to one of the first entries of a newer epoch, and say where the record of the old one
-- ended.
-- $1 partition int  $2 fence bigint  $3 from_epoch bigint  $4 from_seq bigint  $5 epoch bigint  $6 digest bytea
-- $7 seq bigint
WITH moved AS (
  UPDATE partitions SET cursor_epoch = $5, cursor_seq = $7, cursor_digest = $6, recorded_at = clock_timestamp()
  WHERE id = $1 AND fence = $2 AND cursor_epoch = $3 AND cursor_seq = $4 AND cursor_epoch < $5 AND epoch >= $5
  RETURNING id
)
INSERT INTO closed_epochs (partition, epoch, last_seq) SELECT id, $3, $4 FROM moved RETURNING partition;

-- name: epochs_end
-- Where the record of a closed epoch ended; no row where nothing of it was recorded.
-- $1 partition int  $2 epoch bigint
SELECT last_seq FROM closed_epochs WHERE partition = $1 AND epoch = $2;

-- name: insert_partitions
-- Make the rows of partitions that have none.
-- $1 partitions int
WITH wanted AS (SELECT generate_series(0, $1::int - 1) AS id),
made AS (INSERT INTO partitions (id, incarnation) SELECT id, incarnation() FROM wanted ON CONFLICT DO NOTHING)
INSERT INTO config_versions (partition) SELECT id FROM wanted ON CONFLICT DO NOTHING;

-- name: insert_settings
-- Fix the number of partitions, unless it was fixed before.
-- $1 partitions int
INSERT INTO settings (partitions) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: lock_epochs
-- Let nobody else raise the epochs' sequence until the transaction ends.
SELECT pg_advisory_xact_lock(hashtext('epochs'));

-- name: move_cursor
-- Say that a partition's events are recorded up to here; no row where epoch, cursor or fence are no longer ours.
-- $1 partition int  $2 epoch bigint  $3 from_seq bigint  $4 to_seq bigint  $5 fence bigint  $6 digest bytea
UPDATE partitions SET
  cursor_seq = $4, cursor_digest = $6, recorded_at = clock_timestamp(), recorded_events = recorded_events + $4 - $3
WHERE id = $1 AND cursor_epoch = $2 AND cursor_seq = $3 AND fence = $5 AND $4 > $3
RETURNING id;

-- name: raise_epochs
-- Let the next epoch be above one that is known to have been.
-- $1 epoch bigint
SELECT setval('epochs', $1) WHERE (SELECT last_value FROM epochs) < $1;

-- name: read_cursors
-- Where the records of some partitions stand.
-- $1 partitions int[]
SELECT id, cursor_epoch, cursor_seq FROM partitions WHERE id = ANY($1);

-- name: read_partitions
-- Everything about all partitions, in order.
SELECT
  id, epoch, nonce, state, cursor_epoch, cursor_seq, cursor_digest, recorded_at, recorded_events, fence, lease_holder,
  lease_until > clock_timestamp() AS lease_live, version AS config_version, incarnation() AS incarnation,
  incarnation = incarnation() AS confirmed
FROM partitions JOIN config_versions ON partition = id ORDER BY id;

-- name: read_settings
-- The number of partitions that was fixed when they were made.
SELECT partitions FROM settings;

-- name: release_lease
-- Give the lease back, where it is still ours.
-- $1 partition int  $2 fence bigint
UPDATE partitions SET lease_holder = NULL, lease_until = NULL WHERE id = $1 AND fence = $2;

-- name: renew_lease
-- Keep the lease; no row where another has taken it.
-- $1 partition int  $2 fence bigint  $3 ttl_ms int
UPDATE partitions SET lease_until = clock_timestamp() + $3 * interval '1 ms' WHERE id = $1 AND fence = $2
RETURNING id;

-- name: take_lease
-- Take the lease with a new fence, where nobody else holds it. A random one: a Postgres that is restored to an earlier time
-- would count the same ones again.
-- $1 partition int  $2 holder text  $3 ttl_ms int
UPDATE partitions SET
  fence = (random() * 9007199254740991)::bigint, lease_holder = $2, lease_until = clock_timestamp() + $3 * interval '1 ms'
WHERE id = $1 AND (lease_holder IS NULL OR lease_holder = $2 OR lease_until <= clock_timestamp())
RETURNING fence;
