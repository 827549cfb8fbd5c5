-- name: advance_orders_since
-- Forget orders of these workspaces from before a moment.
-- $1 workspaces int[]  $2 since_ms bigint
UPDATE workspaces SET orders_since = 'epoch'::timestamptz + $2 * interval '1 ms' WHERE workspace = ANY ($1);

-- name: forget_gifts
-- Let the orders of these gifts have others.
-- $1 workspaces int[]  $2 orders text[]  $3 codes text[]  $4 epochs bigint[]  $5 seqs bigint[]
UPDATE open_assignments AS open SET order_id = NULL
FROM unnest($1::int[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) AS gone (workspace, order_id, code, epoch, seq)
WHERE open.workspace = gone.workspace AND open.order_id = gone.order_id AND open.code = gone.code
  AND (open.epoch, open.seq) = (gone.epoch, gone.seq);

-- name: page_gifts_between
-- Gifts of these workspaces' orders from a period, in order, after one.
-- $1 partition int  $2 workspaces int[]  $3 to_ms bigint  $4 after_ms bigint  $5 after_epoch bigint  $6 after_seq bigint
-- $7 limit int
SELECT workspace, order_id, code, ms_of(assigned_at) AS at_ms, epoch, seq FROM assignments
WHERE partition = $1 AND workspace = ANY ($2) AND order_id IS NOT NULL
  AND assigned_at < 'epoch'::timestamptz + $3 * interval '1 ms'
  AND (assigned_at, epoch, seq) > ('epoch'::timestamptz + $4 * interval '1 ms', $5, $6)
ORDER BY assigned_at, epoch, seq LIMIT $7;

-- name: page_places_between
-- Redemptions for these workspaces' orders from a period, in the order of their ids, after one, before another. Without
-- retired books.
-- $1 partition int  $2 workspaces int[]  $3 after uuid  $4 before uuid  $5 limit int
SELECT workspace, order_id, redemption_id, epoch, seq FROM redemptions
WHERE redemption_id > $3 AND redemption_id < $4 AND partition = $1 AND workspace = ANY ($2) AND order_id IS NOT NULL
  AND (workspace, book) NOT IN (SELECT workspace, book FROM books WHERE retirement = 'retired')
ORDER BY redemption_id LIMIT $5;

-- name: read_orders_since
-- Since when a partition's live workspaces remember orders, null if always; their creation; for how many days; and now.
-- $1 partition int
SELECT workspace, ms_of(orders_since) AS since_ms, ms_of(created_at) AS created_ms, order_days, ms_of(now()) AS now_ms
FROM workspaces WHERE partition = $1 AND mode = 'live' ORDER BY workspace;
