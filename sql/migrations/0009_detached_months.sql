-- Months of facts whose partitions an operator detached (docs/decisions/0053-detached-months.md).

-- The past months of which a table lacks its partition.
CREATE VIEW detached_months AS
SELECT month FROM fact_months
WHERE month < date_trunc('month', now() AT TIME ZONE 'UTC') AND month NOT IN (
  SELECT to_date(right(relname, 7), 'YYYY_MM') FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
  WHERE inhparent IN (SELECT name::regclass FROM fact_tables()) AND relname ~ '_\d{4}_\d{2}$'
  GROUP BY 1 HAVING count(*) = (SELECT count(*) FROM fact_tables())
);

-- The retired books that may have facts in detached months: those that were created before the end of one. Facts of the
-- others are complete, as only months of retired books may be detached.
CREATE VIEW detached_books AS
SELECT workspace, book, created_at FROM books
WHERE retirement = 'retired' AND created_at < (
  SELECT (max(month) + interval '1 month') AT TIME ZONE 'UTC' FROM detached_months
);

-- Order the return of a book, if it is not in Redis, and has no detached months. Returns its number then. Until the commit no
-- month can be detached: detach_month refuses while a book is returning.
CREATE FUNCTION order_return(w int, b int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  ordered int;
BEGIN
  LOCK TABLE ONLY assignments, ONLY unassignments, ONLY redemptions, ONLY rollbacks, ONLY stock_notices IN ACCESS SHARE MODE;
  UPDATE books SET retirement = 'returning'
  WHERE workspace = w AND book = b AND retirement IS NOT NULL
    AND NOT EXISTS (SELECT FROM detached_books d WHERE d.workspace = w AND d.book = b)
  RETURNING book INTO ordered;
  RETURN ordered;
END
$$;

-- Whether all facts of an attached month are of retired books, and no kept answer may still need one. Then the month may
-- be detached.
CREATE FUNCTION is_retired_month(asked date) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
  kept_since CONSTANT timestamptz := now() - (SELECT max(idempotency_hours) FROM workspaces) * interval '1 hour' - interval '1 day';
  fact record;
  keeps boolean;
BEGIN
  IF (asked + interval '1 month') AT TIME ZONE 'UTC' > kept_since THEN
    RETURN false;
  END IF;
  EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE rolled_back_at > $1)', fact_partition('rollbacks', asked))
  INTO keeps USING kept_since;
  FOR fact IN SELECT fact_partition(name, asked) AS partition FROM fact_tables() LOOP
    EXIT WHEN keeps;
    EXECUTE format(
      'SELECT EXISTS (
        SELECT FROM %I LEFT JOIN books USING (workspace, book) WHERE retirement IS DISTINCT FROM ''retired''
      )', fact.partition
    ) INTO keeps;
  END LOOP;
  RETURN NOT keeps;
END
$$;

-- Detach a month's partitions, if all of its facts are of retired books. They stay as tables.
CREATE FUNCTION detach_month(asked date) RETURNS void LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
  fact record;
BEGIN
  IF NOT is_retired_month(asked) THEN
    RAISE EXCEPTION 'The month % has facts of books in Redis, or of kept answers.', asked
      USING HINT = 'Run `scrip doctor`: it lists the months that may be detached.';
  END IF;
  FOR fact IN SELECT name, fact_partition(name, asked) AS partition FROM fact_tables() LOOP
    EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', fact.name, fact.partition);
  END LOOP;
  IF EXISTS (SELECT FROM books WHERE retirement = 'returning' OR returned_at >= now()) THEN
    RAISE EXCEPTION 'Books are returning to Redis.' USING HINT = 'Try again in a minute.';
  END IF;
END
$$;

-- Attach the tables of a detached month. Its facts are of the partitions in which their workspaces are now. The constraints
-- make ATTACH read no row. Without the locks on the tables of facts, a statement that was planned before the commit could
-- miss the month's facts, though its snapshot has the month attached.
CREATE FUNCTION attach_month(asked date) RETURNS void LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
  fact record;
BEGIN
  LOCK TABLE moves IN SHARE MODE;
  IF EXISTS (SELECT FROM moves WHERE state IN ('ordered', 'running')) THEN
    RAISE EXCEPTION 'Workspaces are being moved to other partitions.' USING HINT = 'Try again when `scrip move` is done.';
  END IF;
  FOR fact IN SELECT name, key, fact_partition(name, asked) AS partition FROM fact_tables() LOOP
    EXECUTE format(
      'UPDATE %I AS f SET partition = w.partition FROM workspaces w WHERE w.workspace = f.workspace AND w.partition <> f.partition',
      fact.partition
    );
    EXECUTE format(
      'ALTER TABLE %I ADD CONSTRAINT is_of_month CHECK (%I >= %L AND %I < %L)', fact.partition,
      fact.key, fact_bound(fact.key, asked), fact.key, fact_bound(fact.key, (asked + interval '1 month')::date)
    );
  END LOOP;
  LOCK TABLE ONLY assignments, ONLY unassignments, ONLY redemptions, ONLY rollbacks, ONLY stock_notices;
  FOR fact IN SELECT name, key, fact_partition(name, asked) AS partition FROM fact_tables() LOOP
    PERFORM attach_fact_partition(fact.name, fact.key, asked);
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT is_of_month', fact.partition);
  END LOOP;
END
$$;
