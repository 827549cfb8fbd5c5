-- name: coupons_of_user
-- A user's coupons, assigned or owned since upload and not taken back, newest first, after a last one.
-- $1 workspace int  $2 user text  $3 limit int  $4 last_at timestamptz  $5 last_code text
SELECT code, book, at FROM (
  SELECT code, book, assigned_at AS at FROM open_assignments
  WHERE workspace = $1 AND user_id = $2 AND (assigned_at, code) < ($4, $5)
  UNION ALL
  SELECT code, book, created_at FROM codes
  WHERE workspace = $1 AND owner_id = $2 AND (created_at, code) < ($4, $5) AND NOT EXISTS (
    SELECT FROM open_assignments WHERE workspace = $1 AND open_assignments.code = codes.code
  ) AND NOT EXISTS (
    SELECT FROM unassignments WHERE workspace = $1 AND unassignments.code = codes.code
  )
) AS coupons ORDER BY at DESC, code DESC LIMIT $3;

-- name: gift_of_order
-- The code that the order was given.
-- $1 workspace int  $2 order text
SELECT code FROM open_assignments WHERE workspace = $1 AND order_id = $2;

-- name: ledger_of_card
-- The changes of a card's balance, newest first, before an event; its issue is the first, of event 0-0. Amounts are in
-- 10⁻⁴ units. A rollback without restore changes nothing. Who ordered a rollback is known of those in the console, by
-- the audit, whose entry is begun just before.
-- $1 workspace int  $2 code text  $3 limit int  $4 last_epoch bigint  $5 last_seq bigint
SELECT
  epoch,
  seq,
  ms_of(at) AS at_ms,
  kind,
  (amount * 10000)::bigint AS amount_e4,
  (available * 10000)::bigint AS available_e4,
  redemption_id, order_id, coalesce(person, name) AS actor, reason
FROM (
  (
    SELECT
      epoch,
      seq,
      redeemed_at AS at,
      'spent' AS kind,
      discount_amount AS amount,
      balance_after AS available,
      redemption_id,
      order_id, NULL AS reason, NULL::uuid AS key_id, NULL AS person
    FROM redemptions WHERE workspace = $1 AND code = $2 AND balance_after IS NOT NULL AND (epoch, seq) < ($4, $5)
    ORDER BY epoch DESC, seq DESC LIMIT $3
  )
  UNION ALL
  (
    SELECT epoch, seq, rolled_back_at, 'returned',
      (SELECT discount_amount FROM redemptions r WHERE r.redemption_id = b.redemption_id), balance_after, redemption_id,
      order_id, reason, key_id, person
    FROM rollbacks b LEFT JOIN LATERAL (
      SELECT key_id, person FROM audit
      WHERE audit.workspace = $1 AND subject IN (b.redemption_id::text, b.order_id)
        AND action IN ('redemption.rolledBack', 'order.rolledBack')
        AND at BETWEEN rolled_back_at - interval '1 minute' AND rolled_back_at + interval '1 minute'
      ORDER BY at DESC LIMIT 1
    ) AS ordered ON true
    WHERE workspace = $1 AND code = $2 AND balance_after IS NOT NULL AND restore AND (epoch, seq) < ($4, $5)
    ORDER BY epoch DESC, seq DESC LIMIT $3
  )
  UNION ALL
  (
    SELECT epoch, seq, changed_at, change, amount, balance_after, NULL, NULL, reason,
      CASE WHEN changed_by LIKE 'key:%' THEN substr(changed_by, 5)::uuid END,
      CASE WHEN changed_by LIKE 'person:%' THEN substr(changed_by, 8) END
    FROM balance_changes WHERE workspace = $1 AND code = $2 AND (epoch, seq) < ($4, $5)
    ORDER BY epoch DESC, seq DESC LIMIT $3
  )
  UNION ALL
  SELECT 0, 0, created_at, 'issued', amount, amount, NULL, NULL, NULL, NULL, NULL
  FROM codes WHERE workspace = $1 AND code = $2 AND amount IS NOT NULL AND (0, 0) < ($4, $5)
) AS changes LEFT JOIN keys USING (key_id)
ORDER BY epoch DESC, seq DESC LIMIT $3;

-- name: notices_of_book
-- A book's stock notices, newest first, after a last event.
-- $1 workspace int  $2 book int  $3 limit int  $4 last_epoch bigint  $5 last_seq bigint
SELECT epoch, seq, notice, what, remaining, (extract(epoch FROM noticed_at) * 1000)::bigint FROM stock_notices
WHERE workspace = $1 AND book = $2 AND (epoch, seq) < ($4, $5) AND what IN ('codes', 'uses')
ORDER BY epoch DESC, seq DESC
LIMIT $3;

-- name: prune_notices
-- Delete a bounded number of old notices, the oldest first, which no webhook still needs. A webhook that is on, or was
-- switched off recently, must have passed them, and no delivery may show them.
-- $1 days int  $2 webhook_days int  $3 limit int
DELETE FROM stock_notices WHERE (partition, epoch, seq, noticed_at) IN (
  SELECT partition, epoch, seq, noticed_at FROM stock_notices AS notice
  WHERE recorded_at < now() - $1 * interval '1 day' AND NOT EXISTS (
    SELECT FROM webhooks WHERE webhooks.workspace = notice.workspace AND deleted_at IS NULL
      AND (status = 'active' OR inactive_since > now() - $2 * interval '1 day')
      AND (webhooks.epoch, webhooks.seq) < (notice.epoch, notice.seq)
  ) AND NOT EXISTS (
    SELECT FROM webhooks JOIN webhook_deliveries USING (webhook)
    WHERE webhooks.workspace = notice.workspace AND event_id = format('evt_%s-%s-5', notice.epoch, notice.seq)
  )
  ORDER BY recorded_at LIMIT $3
);

-- name: redemption
-- One redemption.
-- $1 workspace int  $2 redemption uuid
SELECT {redemption} FROM past_redemptions WHERE workspace = $1 AND redemption_id = $2;

-- name: redemptions_of_book
-- A book's redemptions, newest first, after a last one.
-- $1 workspace int  $2 book int  $3 limit int  $4 last uuid
SELECT {redemption} FROM past_redemptions WHERE workspace = $1 AND book = $2 AND redemption_id < $4
ORDER BY redemption_id DESC LIMIT $3;

-- name: redemptions_of_code
-- A code's redemptions, newest first, after a last one.
-- $1 workspace int  $2 code text  $3 limit int  $4 last uuid
SELECT {redemption} FROM past_redemptions WHERE workspace = $1 AND code = $2 AND redemption_id < $4
ORDER BY redemption_id DESC LIMIT $3;

-- name: redemptions_of_order
-- An order's redemptions, newest first: those with a place in it, and the newest that were rolled back.
-- $1 workspace int  $2 order text  $3 limit int
SELECT {redemption} FROM past_redemptions WHERE workspace = $1 AND redemption_id IN (
  SELECT redemption_id FROM order_uses WHERE workspace = $1 AND order_id = $2
  UNION
  (SELECT redemption_id FROM rollbacks WHERE workspace = $1 AND order_id = $2 ORDER BY epoch DESC, seq DESC LIMIT $3)
)
ORDER BY redemption_id DESC;

-- name: redemptions_of_user
-- A user's redemptions, newest first, after a last one.
-- $1 workspace int  $2 user text  $3 limit int  $4 last uuid
SELECT {redemption} FROM past_redemptions WHERE workspace = $1 AND user_id = $2 AND redemption_id < $4
ORDER BY redemption_id DESC LIMIT $3;
