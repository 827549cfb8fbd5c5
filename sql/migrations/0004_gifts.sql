-- An assignment that is an order's gift names the order. Of those that stand, an order has one.
ALTER TABLE assignments ADD COLUMN order_id text COLLATE "C";
CREATE UNIQUE INDEX assignments_gift ON assignments (workspace, order_id)
  WHERE order_id IS NOT NULL AND unassigned_at IS NULL;

-- A book ran low, or out, of free codes or of uses of its total; once for each crossing. Nothing follows from these in
-- Redis, so a rebuild needs none of them.
CREATE TABLE stock_notices (
  partition int NOT NULL,
  epoch bigint NOT NULL,
  seq bigint NOT NULL,
  workspace int NOT NULL,
  book int NOT NULL,
  notice text NOT NULL CHECK (notice IN ('low', 'out')),
  what text NOT NULL CHECK (what IN ('codes', 'uses')),
  remaining int NOT NULL CHECK (remaining >= 0),
  noticed_at timestamptz NOT NULL,
  PRIMARY KEY (partition, epoch, seq)
);
CREATE INDEX stock_notices_book ON stock_notices (workspace, book, epoch, seq);
