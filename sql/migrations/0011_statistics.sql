-- Refresh the statistics of tables that have grown, without the minute that autovacuum may take
-- (docs/decisions/0072-grown-tables.md).

-- Analyze the largest tables, at most so many, that have at least `min_bytes` and have doubled since their statistics are
-- from. Returns how many; 0 if another process is at it.
CREATE FUNCTION analyze_grown_tables(min_bytes bigint, most int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  page bigint := current_setting('block_size');
  analyzed int := 0;
  grown regclass;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('analyze_grown_tables')) THEN
    RETURN 0;
  END IF;
  FOR grown IN
    SELECT oid FROM pg_class, pg_relation_size(oid) AS bytes
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_has_role(relowner, 'USAGE')
      AND bytes >= greatest(min_bytes, 2 * relpages * page)
    ORDER BY bytes DESC LIMIT most
  LOOP
    EXECUTE format('ANALYZE (SKIP_LOCKED) %s', grown);
    analyzed := analyzed + 1;
  END LOOP;
  RETURN analyzed;
END
$$;
