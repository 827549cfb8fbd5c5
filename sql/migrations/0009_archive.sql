-- Months of facts in files (docs/decisions/0053-archive.md). A month is in its partitions, or it is listed here and its
-- files have the facts.

CREATE TABLE archived_months (
  month date PRIMARY KEY CHECK (extract(day FROM month) = 1),
  manifest bytea NOT NULL CHECK (octet_length(manifest) = 32), -- the SHA-256 of manifest.json
  archived_at timestamptz NOT NULL DEFAULT now()
);

-- What requests need to know of an archived book's redeemed codes: the uses, the limit under which they were taken, and
-- the last standing redemption, null if none stands.
CREATE TABLE archived_codes (
  epoch bigint,
  seq bigint,
  redeemed_at timestamptz,
  workspace int,
  uses int NOT NULL,
  max_redemptions int NOT NULL,
  redemption_id uuid,
  code text COLLATE "C",
  user_id text COLLATE "C",
  order_id text COLLATE "C",
  PRIMARY KEY (workspace, code)
);
CREATE INDEX archived_codes_user ON archived_codes (workspace, user_id) WHERE user_id IS NOT NULL;

-- The functions below run as the tables' owner, who alone may change partitions: they belong to `scrip archive`.

-- The books of a month's facts, with their number, the time of the newest one, and of the newest gift of an order.
CREATE FUNCTION books_of_month(month date) RETURNS TABLE (
  workspace int, book int, facts bigint, newest timestamptz, newest_gift timestamptz
) LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN QUERY EXECUTE format(
    'SELECT workspace, book, count(*), max(at), max(gift_at) FROM (
      SELECT workspace, book, assigned_at AS at, CASE WHEN order_id IS NOT NULL THEN assigned_at END AS gift_at FROM %I
      UNION ALL SELECT workspace, book, unassigned_at, NULL FROM %I
      UNION ALL SELECT workspace, book, redeemed_at, NULL FROM %I
      UNION ALL SELECT workspace, book, rolled_back_at, NULL FROM %I
      UNION ALL SELECT workspace, book, greatest(noticed_at, recorded_at), NULL FROM %I
    ) AS facts GROUP BY workspace, book',
    VARIADIC ARRAY(SELECT fact_partition(name, month) FROM fact_tables())
  );
END
$$;

-- The number of a table's rows, and a sum over their contents.
CREATE FUNCTION sum_of_table(told regclass, OUT rows bigint, OUT contents numeric) LANGUAGE plpgsql STABLE AS $$
BEGIN
  EXECUTE format('SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) FROM %s AS t', told) INTO rows, contents;
END
$$;

-- Make the empty temporary table `read_back` for facts of one kind.
CREATE FUNCTION begin_read_back(fact text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  DROP TABLE IF EXISTS pg_temp.read_back;
  EXECUTE format('CREATE TEMPORARY TABLE read_back (LIKE %I INCLUDING GENERATED) ON COMMIT DROP', fact);
END
$$;

-- Let nobody change a month's facts until the transaction ends, or its books, or delete a user.
CREATE FUNCTION lock_month(month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  fact record;
BEGIN
  LOCK TABLE erasures IN SHARE MODE;
  FOR fact IN SELECT fact_partition(name, month) AS partition FROM fact_tables() LOOP
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', fact.partition);
  END LOOP;
  PERFORM FROM books WHERE (workspace, book) IN (SELECT m.workspace, m.book FROM books_of_month(month) m)
  ORDER BY workspace, book FOR UPDATE;
END
$$;

-- Keep of a month whose files are written what requests need, and remove the rest but its partitions.
CREATE FUNCTION settle_month(told_month date, manifest bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  redemptions CONSTANT text := fact_partition('redemptions', told_month);
  unassignments CONSTANT text := fact_partition('unassignments', told_month);
BEGIN
  WITH leaving AS MATERIALIZED (
    SELECT workspace, book FROM books_of_month(told_month) JOIN books USING (workspace, book) WHERE archived_months IS NULL
  ), used AS (
    SELECT
      r.workspace, r.code, count(*) FILTER (WHERE b.restore IS NOT TRUE) AS uses, max(r.max_redemptions) AS max_redemptions,
      max(ARRAY[r.epoch, r.seq]) FILTER (WHERE b.redemption_id IS NULL) AS last
    FROM redemptions r JOIN leaving USING (workspace, book) LEFT JOIN rollbacks b USING (redemption_id)
    GROUP BY r.workspace, r.code
  )
  INSERT INTO archived_codes (
    workspace, code, uses, max_redemptions, epoch, seq, redeemed_at, redemption_id, user_id, order_id
  )
  SELECT
    used.workspace, used.code, uses, used.max_redemptions, r.epoch, r.seq, redeemed_at, redemption_id, user_id, order_id
  FROM used LEFT JOIN (SELECT r.* FROM redemptions r JOIN leaving USING (workspace, book)) AS r
    ON r.workspace = used.workspace AND r.code = used.code AND ARRAY[r.epoch, r.seq] = used.last;
  UPDATE books SET archived_months = coalesce(archived_months, '{}') || told_month
  WHERE (workspace, book) IN (SELECT m.workspace, m.book FROM books_of_month(told_month) m);
  -- Ownership since upload that was taken back: without the fact, the code would have its owner again.
  EXECUTE format(
    'UPDATE codes SET owner_id = NULL FROM %I gone
    WHERE assigned_seq IS NULL AND codes.workspace = gone.workspace AND codes.code = gone.code', unassignments
  );
  EXECUTE format(
    'DELETE FROM single_uses USING %I gone WHERE single_uses.workspace = gone.workspace
      AND single_uses.code = gone.code AND single_uses.redemption_id = gone.redemption_id', redemptions
  );
  INSERT INTO archived_months (month, manifest) VALUES (told_month, manifest);
END
$$;

-- Detach and drop a month's partitions. Requests wait for it, and it for requests: its caller sets lock_timeout.
CREATE FUNCTION drop_month(month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  fact record;
BEGIN
  FOR fact IN SELECT name, fact_partition(name, month) AS partition FROM fact_tables() LOOP
    EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', fact.name, fact.partition);
    EXECUTE format('DROP TABLE %I', fact.partition);
  END LOOP;
END
$$;

-- Create a month's tables, not attached yet. They have the parents' indexes, and a constraint like the partition's: with
-- these, attaching reads no row.
CREATE FUNCTION create_month(month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  fact record;
BEGIN
  FOR fact IN SELECT name, key, fact_partition(name, month) AS partition FROM fact_tables() LOOP
    EXECUTE format(
      'CREATE TABLE %I (
        LIKE %I INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS INCLUDING INDEXES,
        CONSTRAINT is_of_month CHECK (%I >= %L AND %I < %L)
      )',
      fact.partition, fact.name, fact.key, fact_bound(fact.key, month),
      fact.key, fact_bound(fact.key, (month + interval '1 month')::date)
    );
  END LOOP;
END
$$;

-- Replace users in a month's table of facts who were deleted while the month was in files.
CREATE FUNCTION erase_in_month(fact text, month date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format(
    'UPDATE %I AS f SET user_id = pseudonym, ip = NULL, user_agent = NULL FROM erasures e
    WHERE e.workspace = f.workspace AND user_digest = digest_user(f.workspace, f.user_id) AND (f.epoch, f.seq) <= (e.epoch, e.seq)
      AND NOT EXISTS (
        SELECT FROM erasures earlier
        WHERE earlier.workspace = e.workspace AND earlier.user_digest = e.user_digest
          AND (f.epoch, f.seq) <= (earlier.epoch, earlier.seq) AND (earlier.epoch, earlier.seq) < (e.epoch, e.seq)
      )',
    fact_partition(fact, month)
  );
END
$$;

-- Restored facts are of the partition in which their workspace is now.
CREATE FUNCTION place_in_partition(fact text, month date) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format(
    'UPDATE %I AS f SET partition = w.partition FROM workspaces w
    WHERE w.workspace = f.workspace AND w.partition <> f.partition', fact_partition(fact, month)
  );
END
$$;

CREATE FUNCTION digest_user(workspace int, user_id text) RETURNS bytea IMMUTABLE STRICT LANGUAGE sql AS $$
  SELECT sha256(convert_to(workspace || ' ' || user_id, 'UTF8'))
$$;

-- Attach a month's tables, and undo settle_month.
CREATE FUNCTION attach_month(told_month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  fact record;
BEGIN
  FOR fact IN SELECT name, key, fact_partition(name, told_month) AS partition FROM fact_tables() LOOP
    PERFORM attach_fact_partition(fact.name, fact.key, told_month);
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT is_of_month', fact.partition);
  END LOOP;
END
$$;

CREATE FUNCTION unsettle_month(told_month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  redemptions CONSTANT text := fact_partition('redemptions', told_month);
  rollbacks CONSTANT text := fact_partition('rollbacks', told_month);
  unassignments CONSTANT text := fact_partition('unassignments', told_month);
BEGIN
  WITH returned AS (
    UPDATE books SET archived_months = nullif(array_remove(archived_months, told_month), '{}')
    WHERE archived_months @> ARRAY[told_month] RETURNING workspace, book, archived_months
  )
  DELETE FROM archived_codes USING codes JOIN returned USING (workspace, book)
  WHERE returned.archived_months IS NULL AND archived_codes.workspace = codes.workspace AND archived_codes.code = codes.code;
  EXECUTE format(
    'UPDATE codes SET owner_id = gone.user_id FROM %I gone
    WHERE assigned_seq IS NULL AND codes.workspace = gone.workspace AND codes.code = gone.code AND codes.book = gone.book',
    unassignments
  );
  EXECUTE format(
    'INSERT INTO single_uses (workspace, code, redemption_id) SELECT r.workspace, r.code, redemption_id
    FROM %I r LEFT JOIN %I b USING (redemption_id) WHERE max_redemptions = 1 AND restore IS NOT TRUE',
    redemptions, rollbacks
  );
  UPDATE erasures SET user_digest = NULL WHERE user_digest IS NOT NULL AND NOT EXISTS (
    SELECT FROM books WHERE books.workspace = erasures.workspace AND archived_months IS NOT NULL
  );
  DELETE FROM archived_months WHERE month = told_month;
END
$$;
