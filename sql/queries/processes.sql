-- name: describe_process
-- Store how far a process's clock is ahead of this server's, and how many connections it may have.
-- $1 id text  $2 ahead_s float8  $3 connections int  $4 clients int
UPDATE processes SET clock_ahead_s = $2, connections = $3, clients = $4 WHERE id = $1;

-- name: end_process
-- Delete the row of a process that ends.
-- $1 id text
DELETE FROM processes WHERE id = $1;

-- name: prune_processes
-- Delete the rows of processes that ended long ago.
DELETE FROM processes WHERE alive_until < now() - interval '1 hour';

-- name: read_clock
-- This server's clock.
SELECT clock_timestamp();

-- name: read_descriptions
-- What the living processes have stored of themselves.
SELECT id, kind, clock_ahead_s, connections, clients
FROM processes
WHERE alive_until > clock_timestamp()
ORDER BY kind, id;

-- name: read_processes
-- The living processes of a kind.
-- $1 kind text
SELECT id FROM processes WHERE kind = $1 AND alive_until > clock_timestamp();

-- name: read_server
-- Sessions of clients; the most that roles without a reserve may have; whether WAL is archived, when it last was, when
-- that last failed, and whether a finished file waits though none was archived for so long: the command hangs. A role
-- without pg_read_all_stats does not see which sessions are of clients, but these alone have a database and a user.
-- $1 wait interval
SELECT
  (SELECT count(*) FROM pg_stat_activity WHERE datid IS NOT NULL AND usesysid IS NOT NULL) AS sessions,
  current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
    - coalesce(current_setting('reserved_connections', true)::int, 0) AS most_sessions,
  current_setting('archive_mode') <> 'off' AS archives,
  last_archived_time AS archived_at,
  last_failed_time AS failed_at,
  -- Names of files are in the order of the log, but for those of back-ups and timelines, which are longer.
  CASE WHEN last_archived_wal ~ '^[0-9A-F]{24}$' AND last_archived_time < now() - $1::interval
    AND NOT pg_is_in_recovery()
  THEN last_archived_wal COLLATE "C"
    < pg_walfile_name(pg_current_wal_lsn() - pg_size_bytes(current_setting('wal_segment_size')))
  ELSE false END AS archive_waits
FROM pg_stat_archiver;

-- name: renew_process
-- Store that a process runs.
-- $1 id text  $2 kind text  $3 version text  $4 number int  $5 ttl_ms int
INSERT INTO processes (id, kind, version, number, alive_until)
VALUES ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 ms')
ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until;
