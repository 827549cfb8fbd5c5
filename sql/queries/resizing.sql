-- Changing the number of partitions (docs/decisions/0059).

-- name: claim_resize
-- Set the number of partitions that is wanted, for a command that moves workspaces accordingly. Returns no row while
-- another command does. Waits for workspaces that are being created, and moves that are being ordered.
-- $1 partitions int  $2 command uuid  $3 seconds float8
UPDATE settings SET
  partitions = $1, resized_by = $2, resized_until = clock_timestamp() + $3 * interval '1 second'
WHERE resized_by IS NULL OR resized_by = $2 OR resized_until < clock_timestamp()
RETURNING partitions;

-- name: close_for_removal
-- Close a partition that is to be removed. Returns no row if the fence has changed, or the partition is in use.
-- $1 partition int  $2 fence bigint
UPDATE partitions SET state = 'closed'
FROM (SELECT partitions AS wanted FROM settings FOR SHARE) AS fixed
WHERE id = $1 AND fence = $2 AND id >= wanted AND removed_at IS NULL
  AND NOT EXISTS (SELECT FROM partitions AS later WHERE later.id > $1 AND later.removed_at IS NULL)
  AND NOT EXISTS (SELECT FROM workspaces WHERE partition = $1)
  AND NOT EXISTS (SELECT FROM moves WHERE $1 IN (source, target) AND moves.state IN ('ordered', 'running', 'clearing'))
RETURNING id;

-- name: count_workspaces
-- How many workspaces are in each partition.
SELECT partition, count(*) AS workspaces FROM workspaces GROUP BY partition;

-- name: create_again
-- Create partitions below a number again that were removed.
-- $1 partitions int
UPDATE partitions SET removed_at = NULL, incarnation = incarnation() WHERE id < $1 AND removed_at IS NOT NULL;

-- name: end_resize
-- End a command's claim.
-- $1 command uuid
UPDATE settings SET resized_by = NULL, resized_until = NULL WHERE resized_by = $1;

-- name: mark_removed
-- Store that a partition has no keys any more. Returns no row if the fence has changed, the partition was opened, or it
-- is wanted again.
-- $1 partition int  $2 fence bigint
UPDATE partitions SET removed_at = clock_timestamp(), lease_holder = NULL, waits_until = NULL
FROM (SELECT partitions AS wanted FROM settings FOR SHARE) AS fixed
WHERE id = $1 AND fence = $2 AND id >= wanted AND removed_at IS NULL AND state = 'closed'
RETURNING id;

-- name: read_placements
-- Each workspace with its partition, and the codes that it has in Redis.
SELECT
  w.workspace, w.name, w.partition,
  coalesce(sum(code_count) FILTER (WHERE retirement IS DISTINCT FROM 'retired'), 0)::bigint AS codes
FROM workspaces w LEFT JOIN books b ON b.workspace = w.workspace GROUP BY w.workspace ORDER BY w.workspace;

-- name: renew_resize
-- Renew a command's claim. Returns no row if the claim has ended.
-- $1 command uuid  $2 seconds float8
UPDATE settings SET resized_until = clock_timestamp() + $2 * interval '1 second' WHERE resized_by = $1 RETURNING partitions;

-- name: unfinished_moves
-- The moves that are not finished, the oldest first.
SELECT workspace, source, target, state, reason, attempts, total, done, closed_ms
FROM moves WHERE state IN ('ordered', 'running', 'clearing') ORDER BY ordered_at;
