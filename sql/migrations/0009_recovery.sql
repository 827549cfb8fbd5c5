-- All facts, as rebuilding reads them: columns that a kind doesn't have are null. A checkout's redemption and gift are of one
-- event.
CREATE VIEW facts AS
SELECT
  'A' AS kind, partition, epoch, seq, workspace, book, code, user_id, (extract(epoch FROM assigned_at) * 1000)::bigint AS at_ms,
  ip, user_agent, order_id, NULL AS redemption_id, NULL::bigint AS value_e4, NULL AS currency,
  NULL::smallint AS digits, NULL::bigint AS discount_e4, NULL::int AS slot, NULL::int AS max_redemptions,
  NULL AS metadata, NULL::boolean AS restore, NULL AS reason
FROM assignments
UNION ALL
SELECT
  'U', partition, epoch, seq, workspace, book, code, user_id, (extract(epoch FROM unassigned_at) * 1000)::bigint,
  ip, user_agent, NULL, NULL, NULL, NULL,
  NULL, NULL, NULL, NULL,
  NULL, NULL, NULL
FROM unassignments
UNION ALL
SELECT
  'R', partition, epoch, seq, workspace, book, code, user_id, (extract(epoch FROM redeemed_at) * 1000)::bigint,
  ip, user_agent, order_id, redemption_id::text, (order_value * 10000)::bigint, currency,
  digits, (discount_amount * 10000)::bigint, slot, max_redemptions,
  metadata::text, NULL, NULL
FROM redemptions
UNION ALL
SELECT
  'B', partition, epoch, seq, workspace, book, code, user_id, (extract(epoch FROM rolled_back_at) * 1000)::bigint,
  ip, user_agent, order_id, redemption_id::text, NULL, NULL,
  NULL, NULL, NULL, NULL,
  NULL, restore, reason
FROM rollbacks;

-- How each opening came to a whole Redis, and how far it is.
CREATE TABLE recoveries (
  partition int,
  epoch bigint,
  kind text NOT NULL CHECK (kind IN ('tail', 'whole')),
  reason text NOT NULL,
  total bigint NOT NULL,
  done bigint NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz,
  PRIMARY KEY (partition, epoch)
);

-- An operator wants a partition's Redis rebuilt whole; with `accept_loss` also where events are missing that were never
-- recorded.
CREATE TABLE rebuild_orders (
  partition int PRIMARY KEY,
  accept_loss boolean NOT NULL,
  ordered_at timestamptz NOT NULL DEFAULT now()
);

-- A deletion's last event. A Redis that lost it has the user's id still, which no fact tells.
ALTER TABLE erasures ADD COLUMN done_epoch bigint, ADD COLUMN done_seq bigint;
