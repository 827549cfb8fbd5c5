-- Facts: assignments, unassignments, redemptions, rollbacks, changes of balances. Each row is one event of the outbox,
-- named by (epoch, seq).
-- Facts have no foreign keys. The record must take what Redis has decided, even if a book, code or user was deleted
-- since; and some ten thousand rows a second would each need a look-up. `workspace` and `book` are the inner numbers.
-- Each table has one partition a month, by the time of the fact; a rollback is in the month of its redemption. The
-- cursor records each event once; a primary key is a second check. What is unique over all months has a small table of
-- its own.

CREATE TABLE assignments (
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  workspace int NOT NULL,
  book int NOT NULL,
  code text COLLATE "C" NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  assigned_at timestamptz NOT NULL,
  ip text,
  user_agent text,
  order_id text COLLATE "C", -- if it is an order's gift
  PRIMARY KEY (partition, epoch, seq, assigned_at)
) PARTITION BY RANGE (assigned_at);
CREATE INDEX assignments_gifts ON assignments (workspace, code) WHERE order_id IS NOT NULL;

-- An assignment was taken back, or the ownership since upload, which then no longer counts. `assigned_*` and `order_id`
-- are the assignment's; null for ownership since upload. `rolled_back`: by a rollback of the order.
CREATE TABLE unassignments (
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  workspace int NOT NULL,
  book int NOT NULL,
  code text COLLATE "C" NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  unassigned_at timestamptz NOT NULL,
  assigned_epoch bigint,
  assigned_seq bigint,
  assigned_at timestamptz,
  order_id text COLLATE "C",
  ip text,
  user_agent text,
  rolled_back boolean NOT NULL DEFAULT false,
  PRIMARY KEY (partition, epoch, seq, unassigned_at)
) PARTITION BY RANGE (unassigned_at);
CREATE INDEX unassignments_code ON unassignments (workspace, code);
CREATE INDEX unassignments_user ON unassignments (workspace, user_id);

CREATE TABLE redemptions (
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  workspace int NOT NULL,
  book int NOT NULL,
  code text COLLATE "C" NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  order_id text COLLATE "C",
  redemption_id uuid PRIMARY KEY,
  order_value numeric(15, 4) CHECK (order_value >= 0),
  currency text CHECK (length(currency) = 3),
  digits smallint NOT NULL CHECK (digits BETWEEN 0 AND 4),
  discount_amount numeric(15, 4) NOT NULL CHECK (discount_amount >= 0),
  final_amount numeric(15, 4) GENERATED ALWAYS AS (order_value - discount_amount) STORED,
  redeemed_at timestamptz NOT NULL,
  slot int NOT NULL,
  max_redemptions int NOT NULL CHECK (max_redemptions >= 0),
  counted_at timestamptz, -- the time whose budgets it counts against, its lock's; null for its own
  ip text,
  user_agent text,
  metadata json CHECK (json_typeof(metadata) = 'object'), -- not jsonb: an answer is repeated byte for byte
  balance_after numeric(15, 4) CHECK (balance_after >= 0), -- what was available of a card; null of other coupons
  -- A discount is at most the order's value; without a value there is none.
  CHECK (discount_amount <= coalesce(order_value, 0)),
  CHECK (order_id IS NULL OR slot >= 1),
  -- No amount has more digits than its currency.
  CHECK (order_value = round(order_value, digits) AND discount_amount = round(discount_amount, digits))
) PARTITION BY RANGE (redemption_id);
CREATE INDEX redemptions_event ON redemptions (partition, epoch, seq);
CREATE INDEX redemptions_book ON redemptions (workspace, book, redemption_id);
CREATE INDEX redemptions_user ON redemptions (workspace, user_id, redemption_id);
CREATE INDEX redemptions_code ON redemptions (workspace, code, redemption_id);
CREATE INDEX redemptions_card ON redemptions (workspace, code, epoch, seq) WHERE balance_after IS NOT NULL;

-- A redemption is rolled back once.
CREATE TABLE rollbacks (
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  workspace int NOT NULL,
  book int NOT NULL,
  code text COLLATE "C" NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  order_id text COLLATE "C",
  redemption_id uuid PRIMARY KEY,
  rolled_back_at timestamptz NOT NULL,
  restore boolean NOT NULL,
  reason text,
  ip text,
  user_agent text,
  balance_after numeric(15, 4) CHECK (balance_after >= 0)
) PARTITION BY RANGE (redemption_id);
CREATE INDEX rollbacks_event ON rollbacks (partition, epoch, seq);
CREATE INDEX rollbacks_code ON rollbacks (workspace, code);
CREATE INDEX rollbacks_card ON rollbacks (workspace, code, epoch, seq) WHERE balance_after IS NOT NULL;
-- The orders of rolled-back redemptions, which have no place in the order any more.
CREATE INDEX rollbacks_order ON rollbacks (workspace, order_id) WHERE order_id IS NOT NULL;

-- A card was credited, or closed.
CREATE TABLE balance_changes (
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  workspace int NOT NULL,
  book int NOT NULL,
  code text COLLATE "C" NOT NULL,
  change text NOT NULL CHECK (change IN ('credited', 'closed')),
  amount numeric(15, 4) NOT NULL CHECK (amount > 0),
  balance_after numeric(15, 4) NOT NULL CHECK (balance_after >= 0),
  changed_at timestamptz NOT NULL,
  ip text,
  user_agent text,
  reason text,
  changed_by text, -- 'key:' and the key's id, or 'person:' and the person
  PRIMARY KEY (partition, epoch, seq, changed_at)
) PARTITION BY RANGE (changed_at);
CREATE INDEX balance_changes_code ON balance_changes (workspace, code, epoch, seq);

-- A book ran low, or out, of free codes, of uses of its total, or of a budget, whose amounts are in 10⁻⁴ units; once
-- for each crossing. A rebuild of Redis needs no notices.
CREATE TABLE stock_notices (
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  workspace int NOT NULL,
  book int NOT NULL,
  notice text NOT NULL CHECK (notice IN ('low', 'out')),
  what text NOT NULL CHECK (what IN ('codes', 'uses') OR what LIKE 'budget:%'),
  remaining bigint NOT NULL CHECK (remaining >= 0),
  noticed_at timestamptz NOT NULL, -- by the workspace's clock, which a test workspace can set
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (partition, epoch, seq, noticed_at)
) PARTITION BY RANGE (noticed_at);
CREATE INDEX stock_notices_book ON stock_notices (workspace, book, epoch, seq);
CREATE INDEX stock_notices_of_codes ON stock_notices (workspace, epoch, seq) WHERE what = 'codes';
CREATE INDEX stock_notices_recorded ON stock_notices (recorded_at);

-- Facts outside of all months: of a test workspace whose clock was set, or of a wrong clock.
CREATE TABLE assignments_default PARTITION OF assignments DEFAULT;
CREATE TABLE unassignments_default PARTITION OF unassignments DEFAULT;
CREATE TABLE redemptions_default PARTITION OF redemptions DEFAULT;
CREATE TABLE rollbacks_default PARTITION OF rollbacks DEFAULT;
CREATE TABLE balance_changes_default PARTITION OF balance_changes DEFAULT;
CREATE TABLE stock_notices_default PARTITION OF stock_notices DEFAULT;

-- The smallest UUIDv7 of a moment.
CREATE FUNCTION first_uuid7(moment timestamptz) RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- The tables of facts, each with the column that chooses the month, in the order in which they are locked.
CREATE FUNCTION fact_tables() RETURNS TABLE (name text, key text) IMMUTABLE LANGUAGE sql AS $$
  VALUES
    ('assignments', 'assigned_at'), ('unassignments', 'unassigned_at'), ('redemptions', 'redemption_id'),
    ('rollbacks', 'redemption_id'), ('stock_notices', 'noticed_at'), ('balance_changes', 'changed_at')
$$;

-- The name of a month's partition.
CREATE FUNCTION fact_partition(fact text, month date) RETURNS text STABLE LANGUAGE sql AS $$
  SELECT fact || to_char(month, '_YYYY_MM')
$$;

-- The start of a month, as a value of this column.
CREATE FUNCTION fact_bound(key text, month date) RETURNS text STABLE LANGUAGE sql AS $$
  SELECT CASE key WHEN 'redemption_id' THEN first_uuid7(start)::text ELSE start::text END
  FROM (SELECT month::timestamp AT TIME ZONE 'UTC' AS start) AS utc
$$;

-- The columns of a fact that are written.
CREATE FUNCTION fact_columns(fact text) RETURNS text[] STABLE LANGUAGE sql AS $$
  SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
  WHERE attrelid = fact::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
$$;

-- Attach a month's finished table. Facts of the month that are in the default partition move to it. Writers go on
-- meanwhile, and readers wait for the default partition.
CREATE FUNCTION attach_fact_partition(fact text, key text, month date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  low CONSTANT text := fact_bound(key, month);
  high CONSTANT text := fact_bound(key, (month + interval '1 month')::date);
  fields CONSTANT text := (SELECT string_agg(quote_ident(name), ', ') FROM unnest(fact_columns(fact)) AS name);
BEGIN
  EXECUTE format('LOCK TABLE %I', fact || '_default');
  EXECUTE format(
    'WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING %s) INSERT INTO %I (%s) SELECT * FROM moved',
    fact || '_default', key, low, key, high, fields, fact_partition(fact, month), fields
  );
  EXECUTE format(
    'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', fact, fact_partition(fact, month), low, high
  );
END
$$;

-- The months whose partitions were created, and not dropped since.
CREATE TABLE fact_months (month date PRIMARY KEY CHECK (extract(day FROM month) = 1));

-- Create the partitions of this month and the next ones; return how many are new. If the default partition of one is in
-- use for half a second, the rest is left for the next call.
CREATE FUNCTION ensure_fact_partitions(months_ahead int) RETURNS int LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
  made int := 0;
  fact record;
BEGIN
  IF NOT pg_try_advisory_xact_lock(hashtext('ensure_fact_partitions')) THEN
    RETURN 0; -- another process creates them
  END IF;
  FOR fact IN
    SELECT name, key, start::date AS month, fact_partition(name, start::date) AS partition
    FROM generate_series(0, months_ahead) AS ahead,
      LATERAL (
        SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => ahead) AS start
      ) AS months,
      fact_tables()
    ORDER BY start, name
  LOOP
    CONTINUE WHEN to_regclass(fact.partition) IS NOT NULL;
    BEGIN
      EXECUTE format('LOCK TABLE %I', fact.name || '_default');
      EXECUTE format(
        'CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS)',
        fact.partition, fact.name
      );
      PERFORM attach_fact_partition(fact.name, fact.key, fact.month);
      INSERT INTO fact_months VALUES (fact.month) ON CONFLICT DO NOTHING;
      made := made + 1;
    EXCEPTION WHEN lock_not_available THEN
      RAISE WARNING 'partition % is not created yet: its table is in use', fact.partition;
      RETURN made;
    END;
  END LOOP;
  RETURN made;
END
$$;
SELECT ensure_fact_partitions(2);

-- A redemption for histories: times in ms, money in 10⁻⁴ units.
CREATE VIEW past_redemptions AS
SELECT
  redemption_id, r.workspace, r.book, book_id, r.code, r.user_id, r.order_id, (order_value * 10000)::bigint AS value_e4,
  r.currency, digits, (discount_amount * 10000)::bigint AS discount_e4,
  (extract(epoch FROM redeemed_at) * 1000)::bigint AS redeemed_at_ms,
  (extract(epoch FROM rolled_back_at) * 1000)::bigint AS rolled_back_at_ms,
  r.ip, r.user_agent, r.metadata, (r.balance_after * 10000)::bigint AS balance_after_e4
FROM redemptions r
LEFT JOIN rollbacks USING (redemption_id)
LEFT JOIN books b ON b.workspace = r.workspace AND b.book = r.book;

-- All facts, for rebuilds: columns that a kind lacks are null. A checkout's redemption and gift have one event. A
-- rollback is applied again by its redemption's event and discount, as Redis stores no more of it. Each branch reads
-- one table, without a join, so that Postgres merges the months' indexes and sorts nothing.
CREATE VIEW facts AS
SELECT
  'A' AS kind,
  partition,
  epoch,
  seq,
  workspace,
  book,
  code,
  user_id,
  (extract(epoch FROM assigned_at) * 1000)::bigint AS at_ms,
  ip, user_agent, order_id, NULL AS redemption_id, NULL::bigint AS value_e4, NULL AS currency,
  NULL::smallint AS digits, NULL::bigint AS discount_e4, NULL::int AS slot, NULL::int AS max_redemptions,
  NULL AS metadata, NULL::boolean AS restore, NULL AS reason, NULL::bigint AS balance_after_e4, NULL AS change,
  NULL::bigint AS redeemed_epoch, NULL::bigint AS redeemed_seq,
  NULL::bigint AS counted_ms
FROM assignments
UNION ALL
SELECT
  'U', partition, epoch, seq, workspace, book, code, user_id, (extract(epoch FROM unassigned_at) * 1000)::bigint,
  ip, user_agent, CASE WHEN rolled_back THEN order_id END, NULL, NULL, NULL,
  NULL, NULL, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM unassignments
UNION ALL
SELECT
  'R', partition, epoch, seq, workspace, book, code, user_id, (extract(epoch FROM redeemed_at) * 1000)::bigint,
  ip, user_agent, order_id, redemption_id::text, (order_value * 10000)::bigint, currency,
  digits, (discount_amount * 10000)::bigint, slot, max_redemptions,
  metadata::text,
  NULL,
  NULL,
  (balance_after * 10000)::bigint,
  NULL,
  NULL,
  NULL,
  (extract(epoch FROM counted_at) * 1000)::bigint
FROM redemptions
UNION ALL
SELECT
  'B', partition, epoch, seq, workspace, book, code, user_id, (extract(epoch FROM rolled_back_at) * 1000)::bigint,
  ip, user_agent, order_id, redemption_id::text, NULL, NULL,
  NULL,
  (SELECT (discount_amount * 10000)::bigint FROM redemptions r WHERE r.redemption_id = b.redemption_id),
  NULL,
  NULL,
  NULL, restore, reason, (balance_after * 10000)::bigint, NULL,
  (SELECT r.epoch FROM redemptions r WHERE r.redemption_id = b.redemption_id),
  (SELECT r.seq FROM redemptions r WHERE r.redemption_id = b.redemption_id),
  (SELECT (extract(epoch FROM coalesce(counted_at, redeemed_at)) * 1000)::bigint FROM redemptions r
    WHERE r.redemption_id = b.redemption_id)
FROM rollbacks b
UNION ALL
SELECT
  'C', partition, epoch, seq, workspace, book, code, '', (extract(epoch FROM changed_at) * 1000)::bigint,
  ip, user_agent, NULL, NULL, NULL, NULL,
  NULL, (amount * 10000)::bigint, NULL, NULL,
  NULL, NULL, reason, (balance_after * 10000)::bigint, change, NULL, NULL, NULL
FROM balance_changes;

-- Unique keys that check Redis's decisions again. A conflict is an alarm, not a repetition to skip.

-- The assignments that stand. A code belongs to one user. An order has one gift.
CREATE TABLE open_assignments (
  workspace int,
  code text COLLATE "C",
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  book int NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  assigned_at timestamptz NOT NULL,
  order_id text COLLATE "C",
  PRIMARY KEY (workspace, code)
);
CREATE INDEX open_assignments_user ON open_assignments (workspace, user_id, assigned_at, code);
CREATE UNIQUE INDEX open_assignments_order ON open_assignments (workspace, order_id) WHERE order_id IS NOT NULL;

-- A place in an order is taken once, until a rollback gives it back.
CREATE TABLE order_uses (
  workspace int,
  order_id text COLLATE "C",
  slot int,
  redemption_id uuid NOT NULL,
  PRIMARY KEY (workspace, order_id, slot)
);

-- A code with one use has one standing redemption.
CREATE TABLE single_uses (
  workspace int,
  code text COLLATE "C",
  redemption_id uuid NOT NULL,
  PRIMARY KEY (workspace, code)
);

-- The result of a request with an Idempotency-Key: its first event, and the stored answer.
CREATE TABLE idempotency_keys (
  workspace int,
  key text COLLATE "C",
  op text NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  at timestamptz NOT NULL,
  entry text NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace, key)
);
CREATE INDEX idempotency_keys_recorded ON idempotency_keys USING brin (recorded_at);

-- Quarantined events, as they were decided. Each is an alarm until an operator has resolved it. Cause: Postgres refused
-- to record it; it is recorded, and Redis could not apply it again; Redis was rebuilt before it was recorded. `ordered`
-- is what an operator wants a worker to do with it, `failure` why that failed, `resolution` what was done.
CREATE TABLE quarantine (
  partition int,
  epoch bigint,
  seq bigint,
  cause text NOT NULL CHECK (cause IN ('refused', 'not_redone', 'unrecorded')),
  reason text NOT NULL,
  d bytea NOT NULL,
  r bytea NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  ordered text CHECK (ordered IN ('retry', 'settle', 'release')),
  failure text,
  resolution text CHECK (resolution IN ('retry', 'settle', 'release')),
  resolved_at timestamptz,
  CHECK ((resolution IS NULL) = (resolved_at IS NULL) AND (ordered IS NULL OR resolution IS NULL)),
  PRIMARY KEY (partition, epoch, seq)
);
CREATE INDEX quarantine_live ON quarantine (partition, epoch, seq) WHERE resolution IS NULL;
