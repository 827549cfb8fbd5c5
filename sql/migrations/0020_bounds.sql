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
