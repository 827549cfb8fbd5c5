-- name: codes_with_prefix
-- The workspace's first codes that begin with this text. "~" is after every character of a code.
-- $1 workspace int  $2 prefix text  $3 limit int
SELECT code FROM codes WHERE workspace = $1 AND code >= $2 AND code < $2 || '~' ORDER BY code LIMIT $3;

-- name: events_around
-- The events of redemptions with ids between two.
-- $1 workspace int  $2 first uuid  $3 last uuid  $4 limit int
SELECT epoch, seq
FROM redemptions
WHERE redemption_id BETWEEN $2 AND $3 AND workspace = $1
ORDER BY redemption_id
LIMIT $4;

-- name: events_of_code
-- A code's events, the newest of each kind.
-- $1 workspace int  $2 code text  $3 limit int
(SELECT epoch, seq FROM redemptions WHERE workspace = $1 AND code = $2 ORDER BY redemption_id DESC LIMIT $3)
UNION
(SELECT epoch, seq FROM rollbacks WHERE workspace = $1 AND code = $2 ORDER BY epoch DESC, seq DESC LIMIT $3)
UNION
(SELECT epoch, seq FROM unassignments WHERE workspace = $1 AND code = $2 ORDER BY epoch DESC, seq DESC LIMIT $3)
UNION
SELECT epoch, seq FROM open_assignments WHERE workspace = $1 AND code = $2
UNION
(
  SELECT assigned_epoch, assigned_seq FROM unassignments
  WHERE workspace = $1 AND code = $2 AND assigned_seq IS NOT NULL
  ORDER BY assigned_epoch DESC, assigned_seq DESC
  LIMIT $3
)
UNION
(SELECT epoch, seq FROM balance_changes WHERE workspace = $1 AND code = $2 ORDER BY epoch DESC, seq DESC LIMIT $3);

-- name: events_of_key
-- The event of a request with this Idempotency-Key.
-- $1 workspace int  $2 key text  $3 limit int
SELECT epoch, seq FROM idempotency_keys WHERE workspace = $1 AND key = $2 LIMIT $3;

-- name: events_of_order
-- An order's events: redemptions with a place in it, the newest rollbacks, and its gift. Of archived books, only
-- rollbacks.
-- $1 workspace int  $2 order text  $3 limit int
SELECT epoch, seq FROM redemptions WHERE redemption_id IN (
  SELECT redemption_id FROM order_uses WHERE workspace = $1 AND order_id = $2
  UNION
  (SELECT redemption_id FROM rollbacks WHERE workspace = $1 AND order_id = $2 ORDER BY epoch DESC, seq DESC LIMIT $3)
)
UNION
(SELECT epoch, seq FROM rollbacks WHERE workspace = $1 AND order_id = $2 ORDER BY epoch DESC, seq DESC LIMIT $3)
UNION
SELECT epoch, seq FROM open_assignments WHERE workspace = $1 AND order_id = $2;

-- name: events_of_user
-- A user's events, the newest of each kind.
-- $1 workspace int  $2 user text  $3 limit int
(SELECT epoch, seq FROM redemptions WHERE workspace = $1 AND user_id = $2 ORDER BY redemption_id DESC LIMIT $3)
UNION
(
  SELECT epoch, seq FROM open_assignments WHERE workspace = $1 AND user_id = $2
  ORDER BY assigned_at DESC, code DESC LIMIT $3
)
UNION
SELECT epoch, seq FROM rollbacks WHERE redemption_id IN (
  SELECT redemption_id FROM redemptions WHERE workspace = $1 AND user_id = $2 ORDER BY redemption_id DESC LIMIT $3
)
UNION
(SELECT epoch, seq FROM unassignments WHERE workspace = $1 AND user_id = $2 ORDER BY epoch DESC, seq DESC LIMIT $3)
UNION
(
  SELECT assigned_epoch, assigned_seq FROM unassignments
  WHERE workspace = $1 AND user_id = $2 AND assigned_seq IS NOT NULL
  ORDER BY assigned_epoch DESC, assigned_seq DESC LIMIT $3
);

-- name: facts_of_timeline
-- The newest facts of these events, newest first. All facts of a workspace are of its partition: a move changes them
-- all at once. What changed a card is in its book's currency; who credited or closed it is stored with that.
-- $1 workspace int  $2 epochs bigint[]  $3 seqs bigint[]  $4 limit int
SELECT
  kind,
  f.epoch,
  f.seq,
  b.book_id,
  f.code,
  f.user_id,
  f.at_ms,
  f.ip,
  f.user_agent,
  f.order_id,
  f.redemption_id,
  f.value_e4,
  coalesce(f.currency, CASE WHEN f.balance_after_e4 IS NOT NULL THEN b.own_currency END) AS currency, f.discount_e4,
  f.restore, f.reason, f.change, f.balance_after_e4, made.key_id, keys.name AS key_name, made.person
FROM workspaces w CROSS JOIN unnest($2::bigint[], $3::bigint[]) AS wanted (epoch, seq) CROSS JOIN LATERAL (
  SELECT {fact} FROM facts
  WHERE facts.partition = w.partition AND facts.epoch = wanted.epoch AND facts.seq = wanted.seq AND workspace = $1
  LIMIT 2
) AS f LEFT JOIN books b ON b.workspace = $1 AND b.book = f.book
LEFT JOIN LATERAL (
  SELECT
    CASE WHEN changed_by LIKE 'key:%' THEN substr(changed_by, 5)::uuid END AS key_id,
    CASE WHEN changed_by LIKE 'person:%' THEN substr(changed_by, 8) END AS person
  FROM balance_changes c WHERE kind = 'C' AND c.partition = w.partition AND c.epoch = f.epoch AND c.seq = f.seq
) AS made ON true LEFT JOIN keys USING (key_id)
WHERE w.workspace = $1
ORDER BY f.epoch DESC, f.seq DESC, kind DESC LIMIT $4;

-- name: has_code
-- Whether the workspace has this code.
-- $1 workspace int  $2 code text
SELECT EXISTS (SELECT FROM codes WHERE workspace = $1 AND code = $2);

-- name: has_key
-- Whether a request with this Idempotency-Key is recorded.
-- $1 workspace int  $2 key text
SELECT EXISTS (SELECT FROM idempotency_keys WHERE workspace = $1 AND key = $2);

-- name: has_order
-- Whether this order has events, as in events_of_order.
-- $1 workspace int  $2 order text
SELECT EXISTS (SELECT FROM order_uses WHERE workspace = $1 AND order_id = $2)
  OR EXISTS (SELECT FROM rollbacks WHERE workspace = $1 AND order_id = $2)
  OR EXISTS (SELECT FROM open_assignments WHERE workspace = $1 AND order_id = $2);

-- name: has_user
-- Whether this user was created, or ever had or redeemed a coupon.
-- $1 workspace int  $2 user text
SELECT EXISTS (SELECT FROM users WHERE workspace = $1 AND user_id = $2)
  OR EXISTS (SELECT FROM open_assignments WHERE workspace = $1 AND user_id = $2)
  OR EXISTS (SELECT FROM unassignments WHERE workspace = $1 AND user_id = $2)
  OR EXISTS (SELECT FROM redemptions WHERE workspace = $1 AND user_id = $2)
  OR EXISTS (SELECT FROM codes WHERE workspace = $1 AND owner_id = $2);

-- name: place_of_code
-- A code's book, position and creation time.
-- $1 workspace int  $2 code text
SELECT book, book_id, position, (extract(epoch FROM codes.created_at) * 1000)::bigint AS created_at_ms
FROM codes JOIN books USING (workspace, book)
WHERE workspace = $1 AND code = $2;

-- name: sold_of_book
-- A book's valid redemptions, and their users and orders.
-- $1 workspace int  $2 book int
SELECT
  count(*) FILTER (WHERE b.redemption_id IS NULL) AS standing,
  count(DISTINCT r.user_id) FILTER (WHERE b.redemption_id IS NULL) AS users,
  count(DISTINCT r.order_id) FILTER (WHERE b.redemption_id IS NULL) AS orders
FROM redemptions r LEFT JOIN rollbacks b USING (redemption_id) WHERE r.workspace = $1 AND r.book = $2;
