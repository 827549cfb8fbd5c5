-- Versions that run side by side.

-- name: drop_old_scripts
-- Delete the scripts of versions, except the latest to migrate and those of processes that run.
-- $1 kept int  $2 living interval
DELETE FROM script_versions
WHERE version NOT IN (SELECT version FROM script_versions ORDER BY migrated_at DESC LIMIT $1)
  AND version NOT IN (SELECT version FROM processes WHERE seen_at > now() - $2::interval);

-- name: forget_process
-- Delete the row of a process that ends.
-- $1 id uuid
DELETE FROM processes WHERE id = $1;

-- name: forget_processes
-- Delete the rows of processes that have not been seen for a day.
DELETE FROM processes WHERE seen_at < now() - interval '1 day';

-- name: raise_number
-- Store the number of formats, unless a larger one is stored.
-- $1 number int
INSERT INTO formats (number) VALUES ($1) ON CONFLICT (one) DO UPDATE SET number = greatest(formats.number, $1);

-- name: read_number
-- The number of formats.
SELECT number FROM formats;

-- name: read_processes
-- The processes of a kind that run.
-- $1 kind text  $2 living interval
SELECT id FROM processes WHERE kind = $1 AND seen_at > now() - $2::interval;

-- name: read_scripts
-- A version's templates. Returns no row if none are stored.
-- $1 version text
SELECT templates FROM script_versions WHERE version = $1;

-- name: renew_process
-- Store that a process runs. Returns the number of formats, and the versions whose scripts a Redis of this layout needs:
-- the last to migrate, and those of processes that run.
-- $1 id uuid  $2 kind text  $3 version text  $4 number int  $5 layout text  $6 living interval
INSERT INTO processes (id, kind, version, number) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE SET seen_at = now()
RETURNING (SELECT formats.number FROM formats), ARRAY(
  SELECT s.version FROM script_versions s
  WHERE s.layout = $5 AND (
    s.version = (SELECT last.version FROM script_versions last ORDER BY last.migrated_at DESC LIMIT 1)
    OR s.version IN (SELECT p.version FROM processes p WHERE p.seen_at > now() - $6::interval)
  )
) AS needed;

-- name: running_numbers
-- The numbers of formats of the processes that run.
-- $1 living interval
SELECT DISTINCT number FROM processes WHERE seen_at > now() - $1::interval ORDER BY number;

-- name: store_scripts
-- Store the templates of the version that migrates, and that it is the last.
-- $1 version text  $2 layout text  $3 templates json
INSERT INTO script_versions (version, layout, templates) VALUES ($1, $2, $3)
ON CONFLICT (version) DO UPDATE SET migrated_at = clock_timestamp();

-- name: stored_versions
-- The versions of this layout whose scripts are stored; first the last that migrated.
-- $1 layout text
SELECT version FROM script_versions WHERE layout = $1 ORDER BY migrated_at DESC;
