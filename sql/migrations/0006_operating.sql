-- Operating: comparisons, upgrades, old months, the history of the console, statistics.

-- Comparing Redis with the record.

-- The bucket of a code, an order or a user in Redis: crc32 & 131071, as in service/engine/formats/key_names.py.
-- Postgres has crc32 since 18; the replacement below takes ten times as long.
DO $migration$
BEGIN
  IF to_regprocedure('crc32(bytea)') IS NOT NULL THEN
    CREATE FUNCTION bucket_of(told text) RETURNS int IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql AS $$
      SELECT (crc32(told::bytea) & 131071)::int
    $$;
  ELSE
    CREATE FUNCTION bucket_of(told text) RETURNS int IMMUTABLE STRICT PARALLEL SAFE LANGUAGE plpgsql AS $$
    DECLARE
      nibbles CONSTANT bigint[] := ARRAY[
        0, 498536548, 997073096, 651767980, 1994146192, 1802195444, 1303535960, 1342533948,
        3988292384, 4027552580, 3604390888, 3412177804, 2607071920, 2262029012, 2685067896, 3183342108
      ];
      bytes CONSTANT bytea := convert_to(told, 'UTF8');
      crc bigint := 4294967295;
    BEGIN
      FOR place IN 0..length(bytes) - 1 LOOP
        crc := crc # get_byte(bytes, place);
        crc := nibbles[(crc & 15) + 1] # (crc >> 4);
        crc := nibbles[(crc & 15) + 1] # (crc >> 4);
      END LOOP;
      RETURN (crc # 4294967295) & 131071;
    END
    $$;
  END IF;
END
$migration$;

-- The schedule of a partition's comparisons; and how often books began to leave its Redis. A comparison counts only if
-- no book was leaving, and none began to meanwhile.
CREATE TABLE reconciling (
  partition int PRIMARY KEY,
  begun_at timestamptz NOT NULL DEFAULT now(), -- a scheduled time after this one makes a comparison due
  removals bigint NOT NULL DEFAULT 0
);

-- Each workspace's last comparison: its cut, and what differed and still differs, by class.
CREATE TABLE reconciled (
  workspace int PRIMARY KEY REFERENCES workspaces (workspace),
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  found jsonb NOT NULL,
  left_over jsonb NOT NULL
);
CREATE INDEX reconciled_partition ON reconciled (partition);

-- An id as Redis stores it, where '-' is none.
CREATE FUNCTION word_of(told text) RETURNS text IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$
  SELECT CASE told WHEN '-' THEN '%-' ELSE coalesce(told, '-') END
$$;

-- Milliseconds since 1970, rounded down.
CREATE FUNCTION ms_of(at timestamptz) RETURNS bigint IMMUTABLE PARALLEL SAFE LANGUAGE sql AS $$
  SELECT floor(extract(epoch FROM at) * 1000)::bigint
$$;

-- The state right after an event, without later facts. Each function is one SELECT, so that Postgres can use indexes
-- for its callers' conditions.

-- A workspace's redemptions, and their rollbacks.
CREATE FUNCTION redemptions_at(p int, w int, e bigint, s bigint) RETURNS TABLE (
  workspace int,
  book int,
  code text,
  user_id text,
  order_id text,
  redemption_id uuid,
  epoch bigint,
  seq bigint,
  slot int,
  max_redemptions int, discount_amount numeric, at_ms bigint, stands boolean, taken boolean, counted_ms bigint
) STABLE LANGUAGE sql AS $$
  SELECT
    r.workspace, r.book, r.code, r.user_id, r.order_id, r.redemption_id, r.epoch, r.seq, r.slot,
    r.max_redemptions, r.discount_amount, ms_of(r.redeemed_at), b.redemption_id IS NULL, b.restore IS NOT TRUE,
    ms_of(coalesce(r.counted_at, r.redeemed_at))
  FROM redemptions r LEFT JOIN rollbacks b ON b.redemption_id = r.redemption_id AND (b.epoch, b.seq) <= (e, s)
  WHERE r.workspace = w AND r.partition = p AND (r.epoch, r.seq) <= (e, s)
$$;

-- The assignments of a workspace's codes: the open ones, and those taken back after the event.
CREATE FUNCTION assignments_at(p int, w int, e bigint, s bigint) RETURNS TABLE (
  code text, user_id text, at_ms bigint, order_id text
) STABLE LANGUAGE sql AS $$
  SELECT code, user_id, ms_of(assigned_at), order_id FROM open_assignments
  WHERE workspace = w AND (epoch, seq) <= (e, s)
  UNION ALL
  SELECT code, user_id, ms_of(assigned_at), order_id FROM unassignments
  WHERE partition = p AND (epoch, seq) > (e, s) AND workspace = w AND (assigned_epoch, assigned_seq) <= (e, s)
$$;

-- A workspace's codes, all, or these, or those of these books: the expected values of each one's record in Redis (`max`
-- null if it is unused and has no limit of its own), its last standing redemption, and those of a code with several
-- uses, up to a thousand. These are in the order of their events, by epoch and number, like `apply_redeem` in
-- lua/includes/state.lua.
CREATE FUNCTION codes_at(p int, w int, e bigint, s bigint, only_codes text[], only_books int[]) RETURNS TABLE (
  code text,
  book int,
  version bigint,
  active boolean,
  expires_ms bigint,
  owner text,
  at_ms bigint,
  uses bigint,
  max int,
  last text, standing text, stand bigint, special boolean, issued_e4 bigint, credited_e4 bigint, spent_e4 bigint,
  closed_e4 bigint
) STABLE LANGUAGE sql AS $$
  SELECT
    c.code, c.book, c.version, c.active, ms_of(c.expires_at), coalesce(a.user_id, kept.owner_id),
    coalesce(a.at_ms, ms_of(CASE WHEN kept.owner_id IS NOT NULL THEN c.created_at END)), coalesce(spent.uses, 0),
    coalesce(spent.max, c.max_redemptions), spent.last[1] || '-' || spent.last[2], spent.standing,
    coalesce(spent.stand, 0),
    c.owner_id IS NOT NULL OR c.max_redemptions IS NOT NULL OR c.expires_at IS NOT NULL OR NOT c.active,
    (c.amount * 10000)::bigint, (coalesce(changed.credited, 0) * 10000)::bigint,
    CASE WHEN c.amount IS NULL THEN 0 ELSE (coalesce(spent.amount, 0) * 10000)::bigint END,
    (coalesce(changed.closed, 0) * 10000)::bigint
  FROM codes c
  LEFT JOIN (
    SELECT
      r.code, count(*) FILTER (WHERE taken) AS uses, max(max_redemptions) AS max,
      count(*) FILTER (WHERE stands) AS stand,
      max(ARRAY[epoch, seq]) FILTER (WHERE stands) AS last, sum(discount_amount) FILTER (WHERE taken) AS amount,
      CASE WHEN count(*) <= 1000 THEN
        string_agg(epoch || '-' || seq || ' ' || epoch * 16 + length(seq::text), ' ')
          FILTER (WHERE stands AND max_redemptions <> 1)
      END AS standing
    FROM redemptions_at(p, w, e, s) r
    WHERE (only_codes IS NULL OR r.code COLLATE "C" = ANY (only_codes))
      AND (only_books IS NULL OR r.book = ANY (only_books))
    GROUP BY r.code
  ) AS spent ON spent.code = c.code
  LEFT JOIN (
    SELECT
      b.code, sum(amount) FILTER (WHERE change = 'credited') AS credited,
      sum(amount) FILTER (WHERE change = 'closed') AS closed
    FROM balance_changes b
    WHERE b.workspace = w AND b.partition = p AND (b.epoch, b.seq) <= (e, s)
      AND (only_codes IS NULL OR b.code = ANY (only_codes)) AND (only_books IS NULL OR b.book = ANY (only_books))
    GROUP BY b.code
  ) AS changed ON changed.code = c.code
  LEFT JOIN (
    SELECT * FROM assignments_at(p, w, e, s) a WHERE only_codes IS NULL OR a.code COLLATE "C" = ANY (only_codes)
  ) AS a ON a.code = c.code
  LEFT JOIN (
    SELECT o.code, o.owner_id FROM codes o
    WHERE o.workspace = w AND o.owner_id IS NOT NULL AND (only_codes IS NULL OR o.code = ANY (only_codes))
      AND NOT EXISTS (
        SELECT FROM unassignments u WHERE u.workspace = w AND u.code = o.code AND (u.epoch, u.seq) <= (e, s)
      )
  ) AS kept ON kept.code = c.code
  WHERE c.workspace = w AND (only_codes IS NULL OR c.code = ANY (only_codes))
    AND (only_books IS NULL OR c.book = ANY (only_books))
$$;

-- Rolling upgrades: processes of two versions on one database (docs/upgrading.md).

-- One row: the largest number of formats (service/engine/formats/number.py) among the versions that migrated this
-- database.
CREATE TABLE formats (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  number int NOT NULL CHECK (number > 0)
);

-- The scripts that a version's API processes call, as templates by name, the layout of the keys that they use, and when
-- the version last migrated this database. Any worker of this layout composes an epoch's texts from them. Only the
-- owner writes this table: what is in it, Redis runs.
CREATE TABLE script_versions (
  version text PRIMARY KEY,
  layout text NOT NULL,
  templates json NOT NULL,
  migrated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Drop the oldest months of facts that are older than so many days, up to the first that has facts of a book that Redis
-- may have; return their names. If a table is in use for half a second, the rest is left for the next call. Roll-ups
-- stay, so facts_from says since when they equal the facts.
CREATE FUNCTION drop_old_months(days int) RETURNS SETOF text LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
  old date;
  fact record;
  keeps boolean;
BEGIN
  IF days < 1 OR NOT pg_try_advisory_xact_lock(hashtext('drop_old_months')) THEN
    RETURN; -- another process drops them
  END IF;
  FOR old IN
    SELECT month FROM fact_months
    WHERE (month + interval '1 month') AT TIME ZONE 'UTC' < now() - days * interval '1 day' ORDER BY month
  LOOP
    FOR fact IN SELECT fact_partition(name, old) AS partition FROM fact_tables() LOOP
      EXECUTE format(
        'SELECT EXISTS (SELECT FROM %I JOIN books USING (workspace, book) WHERE archived_at IS NULL OR archiving)',
        fact.partition
      ) INTO keeps;
      IF keeps THEN
        RETURN;
      END IF;
    END LOOP;
    BEGIN
      FOR fact IN SELECT fact_partition(name, old) AS partition FROM fact_tables() LOOP
        EXECUTE format('DROP TABLE %I', fact.partition);
      END LOOP;
    EXCEPTION WHEN lock_not_available THEN
      RETURN;
    END;
    DELETE FROM fact_months WHERE month = old;
    UPDATE settings SET facts_from = (old + interval '1 month') AT TIME ZONE 'UTC';
    RETURN NEXT to_char(old, 'YYYY-MM');
  END LOOP;
END
$$;

-- The refused requests of the last hour (docs/internals/decisions/0086-refused-requests.md): a row for each second of a
-- process. Unlogged, since it is for explanation alone: it is empty after a crash of Postgres, and on a standby.
CREATE UNLOGGED TABLE refused_requests (
  at timestamptz NOT NULL DEFAULT now(),
  digests int[] NOT NULL, -- of each refusal two, of its id with and without its workspace (refused_batches.py)
  refusals text NOT NULL, -- JSON, as service/server/in_postgres/refused_batches.py writes and reads it
  dropped jsonb NOT NULL -- how many more there were, by workspace
);

-- The console's history of an hour and a day (docs/internals/decisions/0068-history.md). Each table has rows of two
-- steps: of 10 seconds, which are kept for an hour, and of 300 seconds, kept for a day. Counts of traffic are also kept
-- by hours of the workspace's time zone, for reports. `at` is the beginning of a step. The fill factor leaves room for
-- updates in the same page: a row of 300 seconds is updated thirty times.

-- Steps in which an API process counted. A step without a row is a gap, not zero.
CREATE TABLE sampled_steps (
  step_s int CHECK (step_s IN (10, 300)),
  at timestamptz,
  PRIMARY KEY (step_s, at)
);

-- Responses to a workspace's requests, summed over all API processes. No row: none.
CREATE TABLE traffic_samples (
  workspace int,
  step_s int CHECK (step_s IN (10, 300, 3600)),
  at timestamptz,
  -- Successful operations and refusals by name, such as {"redeemed": 20, "coupon_locked": 3}.
  counts jsonb NOT NULL CHECK (jsonb_typeof(counts) = 'object'),
  -- Response times: how many took at most so many µs, and more than the next smaller bound
  -- (service/common/durations.py).
  times jsonb NOT NULL CHECK (jsonb_typeof(times) = 'object'),
  PRIMARY KEY (workspace, step_s, at)
) WITH (fillfactor = 50);
CREATE INDEX traffic_samples_by_time ON traffic_samples (step_s, at);

-- The highest number of unrecorded events of a partition, and the highest age of the oldest of them.
CREATE TABLE backlog_samples (
  partition int,
  step_s int CHECK (step_s IN (10, 300)),
  at timestamptz,
  events bigint NOT NULL CHECK (events >= 0),
  oldest_ms bigint NOT NULL CHECK (oldest_ms >= 0),
  PRIMARY KEY (partition, step_s, at)
) WITH (fillfactor = 50);
CREATE INDEX backlog_samples_by_time ON backlog_samples (step_s, at);

-- The sums of two objects of counts, name by name.
CREATE FUNCTION add_counts(one jsonb, other jsonb) RETURNS jsonb IMMUTABLE LANGUAGE sql AS $$
  SELECT coalesce(jsonb_object_agg(key, total), '{}') FROM (
    SELECT key, sum(value::bigint) AS total
    FROM (SELECT * FROM jsonb_each_text(one) UNION ALL SELECT * FROM jsonb_each_text(other)) AS counted
    GROUP BY key
  ) AS totals
$$;

-- Refresh the statistics of tables that have grown, without the minute that autovacuum may take
-- (docs/internals/decisions/0072-grown-tables.md).

-- Analyze the largest tables, at most so many, that have at least `min_bytes` and have doubled since their statistics
-- are from. Returns how many; 0 if another process is at it.
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
