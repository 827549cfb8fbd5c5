-- name: advance_move
-- Store how many of a workspace's keys are copied, and what the worker does.
-- $1 workspace int  $2 done bigint  $3 total bigint  $4 stage text
UPDATE moves SET done = $2, total = $3, reason = $4 WHERE workspace = $1 AND state = 'running';

-- name: begin_move
-- Begin an attempt. Returns no row if the move is no longer ordered.
-- $1 workspace int
UPDATE moves SET state = 'running', attempts = attempts + 1, done = 0
WHERE workspace = $1 AND state = 'ordered' RETURNING workspace;

-- name: cancel_move
-- Delete a move that no worker has begun.
-- $1 workspace int
DELETE FROM moves WHERE workspace = $1 AND state = 'ordered' RETURNING workspace;

-- name: end_move
-- Set a move's state: ordered again, failed, or done.
-- $1 workspace int  $2 state text  $3 reason text
UPDATE moves SET state = $2, reason = $3, finished_at = CASE WHEN $2 IN ('done', 'failed') THEN clock_timestamp() END
WHERE workspace = $1;

-- name: estimate_keys
-- Roughly the number of a workspace's keys: one for each code in Redis.
-- $1 workspace int
SELECT coalesce(sum(code_count), 0)::bigint FROM books WHERE workspace = $1 AND retirement IS DISTINCT FROM 'retired';

-- name: is_in_change
-- Whether a user of the workspace is being deleted, or a book is moving between Redis and Postgres.
-- $1 workspace int
SELECT EXISTS (SELECT FROM erasures WHERE workspace = $1 AND user_id IS NOT NULL)
  OR EXISTS (SELECT FROM books WHERE workspace = $1 AND retirement IN ('leaving', 'returning'));

-- name: is_switching
-- Whether a move of the workspace is at this stage.
-- $1 workspace int  $2 stage text
SELECT EXISTS (SELECT FROM moves WHERE workspace = $1 AND state = 'running' AND reason = $2);

-- name: lock_config_versions
-- The configuration versions of two partitions, which stay as they are until the transaction ends.
-- $1 partitions int[]
SELECT partition, version FROM config_versions WHERE partition = ANY ($1) ORDER BY partition FOR UPDATE;

-- name: lock_epochs_of_move
-- Whether source and target are open in these epochs, and the source's lease is the caller's. It stays so until the
-- transaction ends.
-- $1 source int  $2 fence bigint  $3 epoch bigint  $4 target int  $5 target_epoch bigint
SELECT id FROM partitions
WHERE state = 'open' AND ((id = $1 AND fence = $2 AND epoch = $3) OR (id = $4 AND epoch = $5)) ORDER BY id FOR SHARE;

-- name: move_codes
-- Move a workspace's next codes after a version to another partition: so many, and others of the last one's version.
-- Returns that version; null if there is no code.
-- $1 workspace int  $2 source int  $3 target int  $4 version bigint  $5 limit int
WITH last AS (
  SELECT max(version) AS version FROM (
    SELECT version FROM codes WHERE partition = $2 AND workspace = $1 AND version > $4 ORDER BY version LIMIT $5
  ) AS next
), moved AS (
  UPDATE codes SET partition = $3 FROM last
  WHERE partition = $2 AND workspace = $1 AND codes.version > $4 AND codes.version <= last.version
)
SELECT version FROM last;

-- name: move_facts
-- Move a workspace's facts after an event to another partition, in one round trip.
-- $1 workspace int  $2 source int  $3 target int  $4 epoch bigint  $5 seq bigint
WITH assigned AS (
  UPDATE assignments SET partition = $3 WHERE partition = $2 AND workspace = $1 AND (epoch, seq) > ($4, $5)
), noticed AS (
  UPDATE stock_notices SET partition = $3 WHERE partition = $2 AND workspace = $1 AND (epoch, seq) > ($4, $5)
), redeemed AS (
  UPDATE redemptions SET partition = $3 WHERE partition = $2 AND workspace = $1 AND (epoch, seq) > ($4, $5)
), rolled_back AS (
  UPDATE rollbacks SET partition = $3 WHERE partition = $2 AND workspace = $1 AND (epoch, seq) > ($4, $5)
)
UPDATE unassignments SET partition = $3 WHERE partition = $2 AND workspace = $1 AND (epoch, seq) > ($4, $5);

-- name: move_quarantined
-- Move a workspace's quarantined events to another partition. The second word of an event is its workspace.
-- $1 workspace int  $2 source int  $3 target int
UPDATE quarantine SET partition = $3 WHERE partition = $2 AND split_part(encode(d, 'escape'), ' ', 2) = $1::int::text;

-- name: move_users
-- Move a workspace's users after a version to another partition.
-- $1 workspace int  $2 source int  $3 target int  $4 version bigint
UPDATE users SET partition = $3 WHERE partition = $2 AND workspace = $1 AND version > $4;

-- name: move_workspace
-- Move a workspace's row, and what else names its partition; all processes read the keys again (read_keys_version).
-- Returns no row if the workspace is elsewhere.
-- $1 workspace int  $2 source int  $3 target int  $4 version bigint  $5 epoch bigint  $6 seq bigint  $7 closed_ms int
WITH moved AS (
  UPDATE workspaces SET partition = $3, version = $4, moved_epoch = $5, moved_seq = $6
  WHERE workspace = $1 AND partition = $2 RETURNING workspace
), numbered AS (
  UPDATE config_versions SET version = $4 WHERE partition = $3
), listening AS (
  UPDATE webhooks SET partition = $3 WHERE workspace = $1
), erased AS (
  UPDATE erasures SET partition = $3 WHERE workspace = $1
), compared AS (
  UPDATE reconciled SET partition = $3 WHERE workspace = $1
), going_on AS (
  UPDATE moves SET state = 'clearing', closed_ms = $7 WHERE workspace = $1
)
SELECT workspace FROM moved;

-- name: moved_after
-- Whether a workspace arrived in this partition after an event.
-- $1 partition int  $2 epoch bigint  $3 seq bigint
SELECT EXISTS (SELECT FROM workspaces WHERE partition = $1 AND (moved_epoch, moved_seq) > ($2, $3));

-- name: next_move
-- The next move from a partition that is not finished: one that is running, then the oldest ordered one, then one that
-- is clearing. After these come workspaces that were tried before, in this order.
-- $1 source int  $2 tried int[]
SELECT workspace, source, target, state, reason, attempts, total, done, closed_ms
FROM moves WHERE source = $1 AND state IN ('ordered', 'running', 'clearing')
ORDER BY state = 'running' DESC, array_position($2::int[], workspace) NULLS FIRST, state DESC, ordered_at LIMIT 1;

-- name: note_reason_of_move
-- Store why an unfinished move does not go on.
-- $1 workspace int  $2 reason text
UPDATE moves SET reason = $2 WHERE workspace = $1 AND state IN ('ordered', 'running') AND reason <> $2;

-- name: order_move
-- Order a move. Returns no row if the workspace is not in the source, or a move of it is not finished.
-- $1 workspace int  $2 source int  $3 target int
INSERT INTO moves AS old (workspace, source, target)
SELECT workspace, partition, $3 FROM workspaces WHERE workspace = $1 AND partition = $2
ON CONFLICT (workspace) DO UPDATE SET
  source = excluded.source, target = excluded.target, state = 'ordered', reason = '', attempts = 0, total = 0, done = 0,
  closed_ms = NULL, ordered_at = now(), finished_at = NULL
WHERE old.state IN ('done', 'failed')
RETURNING workspace;

-- name: other_versions
-- The versions of other builds of the program that run on this database.
-- $1 version text  $2 living interval
SELECT DISTINCT version FROM processes WHERE version <> $1 AND alive_until > now() - $2::interval ORDER BY version;

-- name: read_move
-- A workspace's last move.
-- $1 workspace int
SELECT workspace, source, target, state, reason, attempts, total, done, closed_ms
FROM moves WHERE workspace = $1;

-- name: renumber_workspace
-- Give a workspace's settings a new version, so that they are projected again.
-- $1 workspace int  $2 version bigint
UPDATE workspaces SET version = $2 WHERE workspace = $1;

-- name: turn_epoch
-- Enter a newer epoch in an open partition. Returns no row if fence, epoch or cursor have changed.
-- $1 partition int  $2 fence bigint  $3 from_epoch bigint  $4 from_seq bigint  $5 epoch bigint  $6 digest bytea
WITH turned AS (
  UPDATE partitions SET
    epoch = $5, cursor_epoch = $5, cursor_seq = 0, cursor_digest = $6, recorded_at = clock_timestamp()
  WHERE id = $1 AND fence = $2 AND state = 'open' AND epoch = $3 AND cursor_epoch = $3 AND cursor_seq = $4 AND epoch < $5
  RETURNING id
)
INSERT INTO closed_epochs (partition, epoch, last_seq) SELECT id, $3, $4 FROM turned RETURNING partition;

-- name: turn_target
-- Draw the next epoch of a partition, if a workspace is to move here from a partition with a newer one. Returns null if
-- none is.
-- $1 partition int
SELECT CASE WHEN EXISTS (
  SELECT FROM moves JOIN partitions AS source ON source.id = moves.source JOIN partitions AS here ON here.id = moves.target
  WHERE moves.target = $1 AND moves.state = 'ordered' AND source.epoch > here.epoch
) THEN nextval('epochs') END;

-- name: workspaces_elsewhere
-- The workspaces that have moved, and are not in this partition.
-- $1 partition int
SELECT workspace FROM workspaces WHERE moved_epoch IS NOT NULL AND partition <> $1 ORDER BY workspace;
