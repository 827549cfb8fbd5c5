-- Operating: comparisons, upgrades, moves, detached months, notes of locks, the history of the console, statistics.

-- Comparing Redis with the record.

-- The bucket of a code, an order or a user in Redis: crc32 & 131071, as in service/formats/key_names.py. Postgres has
-- crc32 since 18; the replacement below takes ten times as long.
DO $migration$
BEGIN
  IF to_regprocedure('crc32(bytea)') IS NOT NULL THEN
    CREATE FUNCTION bucket_of(told text) RETURNS int IMMUTABLE STRICT PARALLEL SAFE LANGUAGE sql AS $$
      SELECT (crc32(told::bytea) & 131071)::int
    $$;
  ELSE
    CREATE FUNCTION bucket_of(told text) RETURNS int IMMUTABLE STRICT PARALLEL SAFE LANGUAGE plpgsql AS $$
    DECLARE
      nibbles CONSTANT bigint[] := ARRAY[0, 498536548, 997073096, 651767980, 1994146192, 1802195444, 1303535960, 1342533948,
        3988292384, 4027552580, 3604390888, 3412177804, 2607071920, 2262029012, 2685067896, 3183342108];
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

-- The schedule of a partition's comparisons; and the turns of its worker's tasks that remove from Redis what is recorded,
-- bring it back, or move it. A comparison counts only if no turn was running, and none began meanwhile.
CREATE TABLE reconciling (
  partition int PRIMARY KEY,
  begun_at timestamptz NOT NULL DEFAULT now(), -- a scheduled time after this one makes a comparison due
  turns bigint NOT NULL DEFAULT 0,
  fence bigint -- of the worker whose task has the turn; an older fence has none
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
  workspace int, book int, code text, user_id text, order_id text, redemption_id uuid, epoch bigint, seq bigint, slot int,
  max_redemptions int, discount_amount numeric, at_ms bigint, stands boolean, taken boolean
) STABLE LANGUAGE sql AS $$
  SELECT
    r.workspace, r.book, r.code, r.user_id, r.order_id, r.redemption_id, r.epoch, r.seq, r.slot,
    r.max_redemptions, r.discount_amount, ms_of(r.redeemed_at), b.redemption_id IS NULL, b.restore IS NOT TRUE
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
  code text, book int, version bigint, active boolean, expires_ms bigint, owner text, at_ms bigint, uses bigint, max int,
  last text, standing text, stand bigint, special boolean
) STABLE LANGUAGE sql AS $$
  SELECT
    c.code, c.book, c.version, c.active, ms_of(c.expires_at), coalesce(a.user_id, kept.owner_id),
    coalesce(a.at_ms, ms_of(CASE WHEN kept.owner_id IS NOT NULL THEN c.created_at END)), coalesce(spent.uses, 0),
    coalesce(spent.max, c.max_redemptions), spent.last[1] || '-' || spent.last[2], spent.standing, coalesce(spent.stand, 0),
    c.owner_id IS NOT NULL OR c.max_redemptions IS NOT NULL OR c.expires_at IS NOT NULL OR NOT c.active
  FROM codes c
  LEFT JOIN (
    SELECT
      r.code, count(*) FILTER (WHERE taken) AS uses, max(max_redemptions) AS max, count(*) FILTER (WHERE stands) AS stand,
      max(ARRAY[epoch, seq]) FILTER (WHERE stands) AS last,
      CASE WHEN count(*) <= 1000 THEN
        string_agg(epoch || '-' || seq || ' ' || epoch * 16 + length(seq::text), ' ')
          FILTER (WHERE stands AND max_redemptions <> 1)
      END AS standing
    FROM redemptions_at(p, w, e, s) r
    WHERE (only_codes IS NULL OR r.code COLLATE "C" = ANY (only_codes)) AND (only_books IS NULL OR r.book = ANY (only_books))
    GROUP BY r.code
  ) AS spent ON spent.code = c.code
  LEFT JOIN (
    SELECT * FROM assignments_at(p, w, e, s) a WHERE only_codes IS NULL OR a.code COLLATE "C" = ANY (only_codes)
  ) AS a ON a.code = c.code
  LEFT JOIN (
    SELECT o.code, o.owner_id FROM codes o
    WHERE o.workspace = w AND o.owner_id IS NOT NULL AND (only_codes IS NULL OR o.code = ANY (only_codes)) AND NOT EXISTS (
      SELECT FROM unassignments u WHERE u.workspace = w AND u.code = o.code AND (u.epoch, u.seq) <= (e, s)
    )
  ) AS kept ON kept.code = c.code
  WHERE c.workspace = w AND (only_codes IS NULL OR c.code = ANY (only_codes))
    AND (only_books IS NULL OR c.book = ANY (only_books))
$$;

-- Rolling upgrades: processes of two versions on one database (docs/upgrading.md).

-- One row: the largest number of formats (service/formats/number.py) among the versions that migrated this database.
CREATE TABLE formats (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  number int NOT NULL CHECK (number > 0)
);

-- The scripts that a version's API processes call, as templates by name, the layout of the keys that they use, and when
-- the version last migrated this database. Any worker of this layout composes an epoch's texts from them. Only the owner
-- writes this table: what is in it, Redis runs.
CREATE TABLE script_versions (
  version text PRIMARY KEY,
  layout text NOT NULL,
  templates json NOT NULL,
  migrated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The last move of each workspace (docs/decisions/0055-moving.md). The workspace's own row says where it is; this one,
-- what is left to do.
CREATE TABLE moves (
  workspace int PRIMARY KEY REFERENCES workspaces (workspace),
  source int NOT NULL REFERENCES partitions (id),
  target int NOT NULL REFERENCES partitions (id),
  -- `running`: a worker copies it; `clearing`: it has moved, and its old keys are being removed.
  state text NOT NULL DEFAULT 'ordered' CHECK (state IN ('ordered', 'running', 'clearing', 'done', 'failed')),
  reason text NOT NULL DEFAULT '',
  attempts int NOT NULL DEFAULT 0,
  total bigint NOT NULL DEFAULT 0, -- keys
  done bigint NOT NULL DEFAULT 0,
  closed_ms int,
  ordered_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  CHECK (source <> target)
);

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

-- Refuse a month that has no tables, or whose tables are not attached, or are, as `attached` asks.
CREATE FUNCTION require_month(asked date, attached boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  partition CONSTANT regclass := to_regclass(fact_partition('redemptions', asked));
BEGIN
  IF partition IS NULL OR asked <> date_trunc('month', asked) THEN
    RAISE EXCEPTION 'There are no tables of a month that begins on %.', asked
      USING HINT = 'Name its first day, such as 2024-11-01. The tables of a detached month come back from its dump.';
  ELSIF EXISTS (SELECT FROM pg_inherits WHERE inhrelid = partition) <> attached THEN
    RAISE EXCEPTION 'The month % is already %.', asked, CASE WHEN attached THEN 'detached' ELSE 'attached' END;
  END IF;
END
$$;

-- Detach a month's partitions, if all of its facts are of retired books. They stay as tables.
CREATE FUNCTION detach_month(asked date) RETURNS void LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
  fact record;
BEGIN
  PERFORM require_month(asked, true);
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
  PERFORM require_month(asked, false);
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

-- The history of a code's locks, for explanation alone (docs/decisions/0071-past-holds.md): an API process notes what
-- scripts answered, if the workspace wishes so. A note may be there twice, or be missing.
CREATE TABLE lock_notes (
  workspace int NOT NULL,
  code text COLLATE "C" NOT NULL,
  at timestamptz NOT NULL, -- of the answer, by the workspace's clock
  lock_digest bigint NOT NULL, -- names the lock without its token, which is a secret
  -- Of a lock or an extension: the holder, and the deadline. Of a release: the only user who could release it, if any, and
  -- no deadline. Or the pseudonym of a deleted user.
  user_id text COLLATE "C",
  order_id text COLLATE "C",
  until timestamptz,
  noted_at timestamptz NOT NULL DEFAULT now(),
  CHECK (until IS NULL OR user_id IS NOT NULL)
);
CREATE INDEX lock_notes_of_code ON lock_notes (workspace, code, at);
CREATE INDEX lock_notes_of_user ON lock_notes (workspace, user_id) WHERE user_id IS NOT NULL;
-- All notes of a transaction have one time, so this index is small.
CREATE INDEX lock_notes_by_time ON lock_notes (noted_at);

-- The refused requests of the last hour (docs/decisions/0086-refused-requests.md): a row for each second of a process.
-- Unlogged, since it is for explanation alone: it is empty after a crash of Postgres, and on a standby.
CREATE UNLOGGED TABLE refused_requests (
  at timestamptz NOT NULL DEFAULT now(),
  digests int[] NOT NULL, -- crc32 of the request ids, less 2^31
  refusals text NOT NULL, -- JSON, as service/record/refused_batches.py writes and reads it
  dropped int NOT NULL -- how many more there were
);

-- The console's history of an hour and a day (docs/decisions/0068-history.md). Each table has rows of two steps: of 10
-- seconds, which are kept for an hour, and of 300 seconds, kept for a day. Counts of traffic are also kept by hours of the
-- workspace's time zone, for reports. `at` is the beginning of a step. The fill factor leaves room for updates in the
-- same page: a row of 300 seconds is updated thirty times.

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
  -- Response times: how many took at most so many µs, and more than the next smaller bound (service/common/durations.py).
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
