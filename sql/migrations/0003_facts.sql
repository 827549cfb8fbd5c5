-- Facts: assignments, unassignments, redemptions, rollbacks. Each row is one event of the outbox, named by (epoch,
-- seq).
-- Facts have no foreign keys. The record must take what Redis has decided, even if a book, code or user was deleted
-- since; and some ten thousand rows a second would each need a look-up. `workspace` and `book` are the inner numbers.

CREATE TABLE assignments (
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  workspace int NOT NULL,
  book int NOT NULL,
  code text COLLATE "C" NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  assigned_at timestamptz NOT NULL,
  unassigned_at timestamptz, -- no part of the fact: marks closed assignments for the index below, and for lists
  ip text,
  user_agent text,
  order_id text COLLATE "C", -- if it is an order's gift
  order_forgotten boolean NOT NULL DEFAULT false, -- no part of the fact: the order may have another gift
  PRIMARY KEY (partition, epoch, seq)
);
-- A code belongs to one user. A remembered order has one open gift.
CREATE UNIQUE INDEX assignments_code ON assignments (workspace, code) WHERE unassigned_at IS NULL;
CREATE UNIQUE INDEX assignments_gift ON assignments (workspace, order_id)
  WHERE order_id IS NOT NULL AND unassigned_at IS NULL AND NOT order_forgotten;
CREATE INDEX assignments_gifts ON assignments (partition, assigned_at, epoch, seq) WHERE order_id IS NOT NULL;
CREATE INDEX assignments_user ON assignments (workspace, user_id, assigned_at, code);

-- An assignment was taken back, or the ownership since upload, which then no longer counts.
CREATE TABLE unassignments (
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  workspace int NOT NULL,
  book int NOT NULL,
  code text COLLATE "C" NOT NULL,
  user_id text COLLATE "C" NOT NULL,
  unassigned_at timestamptz NOT NULL,
  ip text,
  user_agent text,
  PRIMARY KEY (partition, epoch, seq)
);
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
  ip text,
  user_agent text,
  metadata json CHECK (json_typeof(metadata) = 'object'), -- not jsonb: an answer is repeated byte for byte
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

-- Ids outside of all months, drawn by a wrong clock.
CREATE TABLE redemptions_default PARTITION OF redemptions DEFAULT;

-- The smallest UUIDv7 of a moment.
CREATE FUNCTION first_uuid7(moment timestamptz) RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Create the partitions of this month and the next ones; return how many are new. A month with rows in the default
-- partition stays there.
CREATE FUNCTION ensure_fact_partitions(months_ahead int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
  made int := 0;
  month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
  low uuid;
  high uuid;
BEGIN
  PERFORM pg_advisory_xact_lock(hashtext('ensure_fact_partitions'));
  FOR ahead IN 0..months_ahead LOOP
    low := first_uuid7((month + make_interval(months => ahead)) AT TIME ZONE 'UTC');
    high := first_uuid7((month + make_interval(months => ahead + 1)) AT TIME ZONE 'UTC');
    IF to_regclass('redemptions_' || to_char(month + make_interval(months => ahead), 'YYYY_MM')) IS NULL
      AND NOT EXISTS (SELECT FROM redemptions_default WHERE redemption_id >= low AND redemption_id < high) THEN
      EXECUTE format(
        'CREATE TABLE %I PARTITION OF redemptions FOR VALUES FROM (%L) TO (%L)',
        'redemptions_' || to_char(month + make_interval(months => ahead), 'YYYY_MM'), low, high
      );
      made := made + 1;
    END IF;
  END LOOP;
  RETURN made;
END
$$;
SELECT ensure_fact_partitions(2);

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
  user_agent text
);
CREATE INDEX rollbacks_event ON rollbacks (partition, epoch, seq);
CREATE INDEX rollbacks_code ON rollbacks (workspace, code);
-- The orders of rolled-back redemptions, which have no place in the order any more.
CREATE INDEX rollbacks_order ON rollbacks (workspace, order_id) WHERE order_id IS NOT NULL;

-- A book ran low, or out, of free codes or of uses of its total; once for each crossing. A rebuild of Redis needs no
-- notices.
CREATE TABLE stock_notices (
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  workspace int NOT NULL,
  book int NOT NULL,
  notice text NOT NULL CHECK (notice IN ('low', 'out')),
  what text NOT NULL CHECK (what IN ('codes', 'uses')),
  remaining int NOT NULL CHECK (remaining >= 0),
  noticed_at timestamptz NOT NULL, -- by the workspace's clock, which a test workspace can set
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (partition, epoch, seq)
);
CREATE INDEX stock_notices_book ON stock_notices (workspace, book, epoch, seq);
CREATE INDEX stock_notices_recorded ON stock_notices (recorded_at);

-- A redemption for histories: times in ms, money in 10⁻⁴ units.
CREATE VIEW past_redemptions AS
SELECT
  redemption_id, r.workspace, r.book, book_id, r.code, r.user_id, r.order_id, (order_value * 10000)::bigint AS value_e4,
  r.currency, digits, (discount_amount * 10000)::bigint AS discount_e4,
  (extract(epoch FROM redeemed_at) * 1000)::bigint AS redeemed_at_ms,
  (extract(epoch FROM rolled_back_at) * 1000)::bigint AS rolled_back_at_ms,
  r.ip, r.user_agent, r.metadata
FROM redemptions r LEFT JOIN rollbacks USING (redemption_id) LEFT JOIN books b ON b.workspace = r.workspace AND b.book = r.book;

-- All facts, for rebuilds: columns that a kind lacks are null. A checkout's redemption and gift have one event. A
-- rollback is applied again by its redemption's event and discount, as Redis stores no more of it.
CREATE VIEW facts AS
SELECT
  'A' AS kind, partition, epoch, seq, workspace, book, code, user_id, (extract(epoch FROM assigned_at) * 1000)::bigint AS at_ms,
  ip, user_agent, order_id, NULL AS redemption_id, NULL::bigint AS value_e4, NULL AS currency,
  NULL::smallint AS digits, NULL::bigint AS discount_e4, NULL::int AS slot, NULL::int AS max_redemptions,
  NULL AS metadata, NULL::boolean AS restore, NULL AS reason, NULL::bigint AS redeemed_epoch, NULL::bigint AS redeemed_seq
FROM assignments
UNION ALL
SELECT
  'U', partition, epoch, seq, workspace, book, code, user_id, (extract(epoch FROM unassigned_at) * 1000)::bigint,
  ip, user_agent, NULL, NULL, NULL, NULL,
  NULL, NULL, NULL, NULL,
  NULL, NULL, NULL, NULL, NULL
FROM unassignments
UNION ALL
SELECT
  'R', partition, epoch, seq, workspace, book, code, user_id, (extract(epoch FROM redeemed_at) * 1000)::bigint,
  ip, user_agent, order_id, redemption_id::text, (order_value * 10000)::bigint, currency,
  digits, (discount_amount * 10000)::bigint, slot, max_redemptions,
  metadata::text, NULL, NULL, NULL, NULL
FROM redemptions
UNION ALL
SELECT
  'B', b.partition, b.epoch, b.seq, b.workspace, b.book, b.code, b.user_id, (extract(epoch FROM rolled_back_at) * 1000)::bigint,
  b.ip, b.user_agent, b.order_id, b.redemption_id::text, NULL, NULL,
  NULL, (discount_amount * 10000)::bigint, NULL, NULL,
  NULL, restore, reason, r.epoch, r.seq
FROM rollbacks b LEFT JOIN redemptions r USING (redemption_id);

-- Unique keys that check Redis's decisions again. A conflict is an alarm, not a repetition to skip.

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
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  at timestamptz NOT NULL,
  entry text NOT NULL,
  recorded_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (workspace, key)
);
CREATE INDEX idempotency_keys_recorded ON idempotency_keys USING brin (recorded_at);

-- Quarantined events, as they were decided. Each is an alarm.
CREATE TABLE quarantine (
  partition int,
  epoch bigint,
  seq bigint,
  reason text NOT NULL,
  d bytea NOT NULL,
  r bytea NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (partition, epoch, seq)
);
