-- Redis keeps of a redemption no more than its event: a rollback is applied again by the event of its redemption, and needs
-- its discount.
CREATE OR REPLACE VIEW facts AS
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

-- What Redis keeps under the key of a rollback says when it was.
UPDATE idempotency_keys SET entry = entry || ' ' || (extract(epoch FROM at) * 1000)::bigint
WHERE op = 'rollback' AND entry ~ '^\S+ \S+ @\S*$';
