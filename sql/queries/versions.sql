-- name: drop_old_scripts
-- Delete the scripts of versions, except the latest to migrate and those of processes that run.
-- $1 kept int  $2 living interval
DELETE FROM script_versions
WHERE version NOT IN (SELECT version FROM script_versions ORDER BY migrated_at DESC LIMIT $1)
  AND version NOT IN (SELECT version FROM processes WHERE alive_until > now() - $2::interval);

-- name: needed_versions
-- The number of formats, and the versions whose scripts a Redis of this layout needs: the last to migrate, and those of
-- processes that run.
-- $1 layout text  $2 living interval
SELECT (SELECT number FROM formats) AS number, ARRAY(
  SELECT version FROM script_versions
  WHERE layout = $1 AND (
    version = (SELECT version FROM script_versions ORDER BY migrated_at DESC LIMIT 1)
    OR version IN (SELECT version FROM processes WHERE alive_until > now() - $2::interval)
  )
) AS needed;

-- name: raise_number
-- Store the number of formats, unless a larger one is stored.
-- $1 number int
INSERT INTO formats (number) VALUES ($1) ON CONFLICT (one) DO UPDATE SET number = greatest(formats.number, $1);

-- name: read_number
-- The number of formats.
SELECT number FROM formats;

-- name: read_scripts
-- A version's templates. Returns no row if none are stored.
-- $1 version text
SELECT templates FROM script_versions WHERE version = $1;

-- name: running_numbers
-- The numbers of formats of the processes that run.
-- $1 living interval
SELECT DISTINCT number FROM processes WHERE alive_until > now() - $1::interval ORDER BY number;

-- name: store_scripts
-- Store the templates of the version that migrates, and that it is the last.
-- $1 version text  $2 layout text  $3 templates json
INSERT INTO script_versions (version, layout, templates) VALUES ($1, $2, $3)
ON CONFLICT (version) DO UPDATE SET migrated_at = clock_timestamp();

-- name: stored_versions
-- The versions of this layout whose scripts are stored; first the last that migrated.
-- $1 layout text
SELECT version FROM script_versions WHERE layout = $1 ORDER BY migrated_at DESC;
