-- When a notice was recorded: `noticed_at` goes by the workspace's clock, which a test workspace may set.
ALTER TABLE stock_notices ADD COLUMN recorded_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX stock_notices_recorded ON stock_notices (recorded_at);
