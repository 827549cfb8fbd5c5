-- name: listed_codes
-- A book's codes before a position, newest first, with their assignments, redemptions and status apart from locks.
-- LATERAL with LIMIT or count(*) looks up each code of the page separately, whatever the planner knows of table sizes.
-- A card is exhausted once nothing is left of it. A redeemed code has the limit under which it was redeemed. Ids are
-- drawn before Redis decides, so the latest redemption is searched among the last hundred.
-- $1 workspace int  $2 book int  $3 limit int  $4 before bigint
SELECT
  position, code,
  CASE
    WHEN taken >= most THEN CASE most WHEN 1 THEN 'redeemed' ELSE 'exhausted' END
    WHEN amount + changed = spent THEN 'exhausted'
    WHEN NOT active THEN 'inactive'
    WHEN now() + clock_offset_ms * interval '1 ms' >= ends_at THEN 'expired'
    WHEN user_id IS NOT NULL THEN 'assigned'
    ELSE 'available'
  END AS status,
  user_id, floor(extract(epoch FROM assigned_at) * 1000)::bigint AS assigned_at_ms, taken, most,
  floor(extract(epoch FROM ends_at) * 1000)::bigint AS ends_at_ms, redeemed_by,
  floor(extract(epoch FROM redeemed_at) * 1000)::bigint AS redeemed_at_ms, (amount * 10000)::bigint AS amount_e4,
  currency
FROM (
  SELECT
    c.position, c.code, c.active, c.amount, spent, changed, b.discount ->> 'currency' AS currency, clock_offset_ms,
    coalesce(a.user_id, owner.user_id) AS user_id,
    coalesce(a.assigned_at, owner.assigned_at) AS assigned_at,
    (made - restored)::int AS taken, least(c.expires_at, b.valid_until) AS ends_at, last.user_id AS redeemed_by,
    last.redeemed_at,
    CASE
      WHEN used_under IS NULL THEN coalesce(c.max_redemptions, b.max_redemptions_per_code) ELSE nullif(used_under, 0)
    END
      AS most
  FROM (
    SELECT position, code, active, owner_id, created_at, expires_at, max_redemptions, amount FROM codes
    WHERE workspace = $1 AND book = $2 AND position < $4 ORDER BY position DESC LIMIT $3
  ) AS c
  JOIN books b ON b.workspace = $1 AND b.book = $2
  JOIN workspaces w ON w.workspace = $1
  LEFT JOIN LATERAL (
    SELECT user_id, assigned_at FROM open_assignments
    WHERE workspace = $1 AND open_assignments.code = c.code LIMIT 1
  ) AS a ON true
  LEFT JOIN LATERAL (
    SELECT c.owner_id AS user_id, c.created_at AS assigned_at WHERE c.owner_id IS NOT NULL AND (
      SELECT true FROM unassignments WHERE workspace = $1 AND unassignments.code = c.code LIMIT 1
    ) IS NULL
  ) AS owner ON true
  CROSS JOIN LATERAL (
    SELECT count(*) AS made, max(max_redemptions) AS used_under FROM redemptions
    WHERE workspace = $1 AND redemptions.code = c.code
  ) AS uses
  CROSS JOIN LATERAL (
    SELECT count(*) AS rolled_back, count(*) FILTER (WHERE restore) AS restored FROM rollbacks
    WHERE made > 0 AND workspace = $1 AND rollbacks.code = c.code
  ) AS back
  CROSS JOIN LATERAL (
    SELECT coalesce(sum(discount_amount), 0) AS spent FROM redemptions r
    WHERE c.amount IS NOT NULL AND made > restored AND workspace = $1 AND r.code = c.code
      AND (SELECT true FROM rollbacks b WHERE b.redemption_id = r.redemption_id AND restore LIMIT 1) IS NULL
  ) AS spending
  CROSS JOIN LATERAL (
    SELECT coalesce(sum(CASE change WHEN 'credited' THEN amount ELSE -amount END), 0) AS changed FROM balance_changes
    WHERE c.amount IS NOT NULL AND workspace = $1 AND balance_changes.code = c.code
  ) AS changes
  LEFT JOIN LATERAL (
    SELECT user_id, redeemed_at FROM (
      SELECT user_id, redeemed_at, redemption_id FROM redemptions r
      WHERE made > back.rolled_back AND workspace = $1 AND r.code = c.code
        AND (SELECT true FROM rollbacks WHERE rollbacks.redemption_id = r.redemption_id LIMIT 1) IS NULL
      ORDER BY redemption_id DESC LIMIT 100
    ) AS newest ORDER BY redeemed_at DESC, redemption_id DESC LIMIT 1
  ) AS last ON true
) AS listed ORDER BY position DESC;
