-- name: end_process
-- Delete the row of a process that ends.
-- $1 id text
DELETE FROM processes WHERE id = $1;

-- name: prune_processes
-- Delete the rows of processes that ended long ago.
DELETE FROM processes WHERE alive_until < now() - interval '1 hour';

-- name: read_processes
-- The living processes of a kind.
-- $1 kind text
SELECT id FROM processes WHERE kind = $1 AND alive_until > clock_timestamp();

-- name: renew_process
-- Store that a process runs.
-- $1 id text  $2 kind text  $3 version text  $4 number int  $5 ttl_ms int
INSERT INTO processes (id, kind, version, number, alive_until)
VALUES ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 ms')
ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until;
