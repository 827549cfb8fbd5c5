-- Bounds of what one script handles (docs/decisions/0031-bounds.md).

-- An order takes at most 100 coupons. What is larger becomes that, with a version of its own, so that Redis gets it.
DO $migration$
DECLARE
  one record;
BEGIN
  FOR one IN SELECT workspace, partition FROM workspaces WHERE coupons_per_order > 100 ORDER BY workspace LOOP
    UPDATE config_versions SET version = version + 1 WHERE partition = one.partition;
    UPDATE workspaces SET coupons_per_order = 100, version = v.version FROM config_versions v
    WHERE workspace = one.workspace AND v.partition = one.partition;
  END LOOP;
END
$migration$;
ALTER TABLE workspaces DROP CONSTRAINT workspaces_coupons_per_order_check;
ALTER TABLE workspaces ADD CONSTRAINT workspaces_coupons_per_order_check CHECK (coupons_per_order BETWEEN 1 AND 100);

-- A code's standing redemptions are ranked by their events, the one decided last at the end, whatever clocks did: by epoch, then
-- by number, as `apply_redeem` in lua/includes/state.lua has it. All else is as in 0018.
CREATE OR REPLACE FUNCTION codes_at(p int, w int, e bigint, s bigint, only_codes text[], only_books int[]) RETURNS TABLE (
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
        string_agg(epoch || '-' || seq || ' ' || epoch * 16 + length(seq::text), ' ') FILTER (WHERE stands AND max_redemptions <> 1)
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
