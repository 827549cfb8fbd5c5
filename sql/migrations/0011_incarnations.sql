-- Which Postgres it is that runs just now: another value after each start, and after its tables were made anew, so also after
-- any restore to an earlier time.
CREATE FUNCTION incarnation() RETURNS text STABLE LANGUAGE sql AS $$
  SELECT extract(epoch FROM pg_postmaster_start_time()) || ' ' || oid || ' ' || pg_relation_filenode('config_versions')
  FROM pg_database WHERE datname = current_database()
$$;

-- The one in which a worker has seen that Redis holds no configuration which this Postgres doesn't know. In any other nothing
-- is configured: its versions may be given again.
ALTER TABLE partitions ADD COLUMN incarnation text NOT NULL DEFAULT '';

-- Why a rebuild was ordered.
ALTER TABLE rebuild_orders ADD COLUMN reason text NOT NULL DEFAULT '';
