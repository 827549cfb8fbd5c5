-- name: books_numbers
-- The numbers of a workspace's books.
-- $1 workspace int
SELECT book FROM books WHERE workspace = $1 AND archived_at IS NULL ORDER BY book;

-- name: buyers_after
-- The next users with redemptions, in order.
-- $1 workspace int  $2 after text  $3 most int
SELECT DISTINCT user_id FROM redemptions WHERE workspace = $1 AND user_id > $2 ORDER BY user_id LIMIT $3;

-- name: codes_after
-- The next codes, in order.
-- $1 workspace int  $2 after text  $3 most int
SELECT code FROM codes WHERE workspace = $1 AND code > $2 ORDER BY code LIMIT $3;

-- name: codes_in_buckets
-- A workspace's codes in these buckets.
-- $1 workspace int  $2 buckets int[]
SELECT code FROM codes WHERE workspace = $1 AND bucket_of(code) = ANY ($2);

-- name: codes_in_order
-- The state of codes after an event, in order of their buckets: of all of a workspace's, or of these. Without archived
-- books.
-- $1 partition int  $2 workspace int  $3 epoch bigint  $4 seq bigint  $5 codes text[]
SELECT
  bucket_of(code) AS bucket,
  code,
  book,
  version,
  active,
  expires_ms,
  owner,
  at_ms,
  uses,
  max,
  last,
  standing,
  stand,
  special,
  issued_e4, credited_e4, spent_e4, closed_e4
FROM codes_at($1, $2, $3, $4, $5, NULL)
WHERE book NOT IN (SELECT book FROM books WHERE workspace = $2 AND archived_at IS NOT NULL)
ORDER BY 1;

-- name: codes_of_users
-- All codes that these users have or had.
-- $1 workspace int  $2 users text[]
SELECT code FROM open_assignments WHERE workspace = $1 AND user_id = ANY ($2)
UNION SELECT code FROM unassignments WHERE workspace = $1 AND user_id = ANY ($2)
UNION SELECT code FROM codes WHERE workspace = $1 AND owner_id = ANY ($2);

-- name: count_compared
-- Roughly how many things of these workspaces are compared: codes, and orders that used one.
-- $1 workspaces int[]
SELECT workspace, (
  (SELECT coalesce(sum(code_count), 0) FROM books WHERE books.workspace = wanted.workspace)
  + (SELECT count(*) FROM order_uses WHERE order_uses.workspace = wanted.workspace)
)::bigint FROM unnest($1::int[]) AS wanted (workspace);

-- name: counts_of_books
-- The expected counters of these books after an event, as numeric: a sum has no bound. Zeros may be missing.
-- $1 partition int  $2 workspace int  $3 epoch bigint  $4 seq bigint  $5 books int[]
WITH counted AS (
  SELECT c.book, issued_e4, credited_e4, spent_e4, closed_e4, CASE
      WHEN c.max > 0 AND uses >= c.max THEN CASE c.max WHEN 1 THEN 'redeemed' ELSE 'exhausted' END
      WHEN issued_e4 + credited_e4 = spent_e4 + closed_e4 THEN 'exhausted'
      WHEN NOT active THEN 'inactive'
      WHEN owner IS NOT NULL THEN 'assigned'
    END AS state
  FROM codes_at($1, $2, $3, $4, NULL, $5) c
), redeemed AS (
  SELECT book, user_id, discount_amount, stands, taken FROM redemptions_at($1, $2, $3, $4) WHERE book = ANY ($5)
)
SELECT * FROM (
  SELECT book, 'codes' AS counter, count(*) AS count FROM counted GROUP BY book
  UNION ALL SELECT book, state, count(*) FROM counted WHERE state IS NOT NULL GROUP BY book, state
  UNION ALL SELECT book, 'issued', sum(issued_e4) FROM counted GROUP BY book
  UNION ALL SELECT book, 'credited', sum(credited_e4) FROM counted GROUP BY book
  UNION ALL SELECT book, 'spent', sum(spent_e4) FROM counted GROUP BY book
  UNION ALL SELECT book, 'closed', sum(closed_e4) FROM counted GROUP BY book
  UNION ALL SELECT book, 'taken', count(*) FROM redeemed WHERE taken GROUP BY book
  UNION ALL SELECT book, 'redemptions', count(*) FROM redeemed WHERE stands GROUP BY book
  UNION ALL SELECT book, 'rolledBack', count(*) FROM redeemed WHERE NOT stands GROUP BY book
  UNION ALL SELECT book, 'discount', sum(discount_amount) * 10000 FROM redeemed WHERE stands GROUP BY book
  UNION ALL
  SELECT book, 'users', count(*)
  FROM (SELECT DISTINCT book, user_id FROM redeemed WHERE stands) AS users
  GROUP BY book
) AS counts;

-- name: gifts_after
-- The next orders with a gift, in order.
-- $1 workspace int  $2 after text  $3 most int
SELECT order_id FROM open_assignments WHERE workspace = $1 AND order_id > $2 ORDER BY order_id LIMIT $3;

-- name: has_applied
-- Whether this server has the WAL up to a position, and a partition's events up to one. A replica of a former primary
-- may have the position without the event.
-- $1 partition int  $2 position bigint  $3 epoch bigint  $4 seq bigint
SELECT (cursor_epoch, cursor_seq) >= ($3, $4)
  AND (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END - '0/0')
  >= $2::bigint
FROM partitions WHERE id = $1;

-- name: keys_in_order
-- A workspace's idempotency keys up to an event that were used within the last 58 minutes, in order. Each is stored for
-- an hour at least. With the expected entry, or its digest if it is not small. Those after a key, and at most so many.
-- $1 workspace int  $2 epoch bigint  $3 seq bigint  $4 small_bytes int  $5 after text  $6 most int
SELECT key, bytes, CASE WHEN bytes <= $4 THEN entry ELSE md5(entry) END AS entry
FROM (
  SELECT
    key, octet_length(entry) AS bytes, regexp_replace(entry, '^(\S+ \S+ @)\.', '\1' || epoch || '-' || seq) AS entry
  FROM idempotency_keys
  WHERE workspace = $1
    AND (epoch, seq) <= ($2, $3)
    AND least(at, recorded_at) > now() - interval '58 minutes'
    AND key > $5
) AS recent
ORDER BY key LIMIT $6;

-- name: known_users
-- Those of these users that were created, or have a coupon.
-- $1 workspace int  $2 users text[]
SELECT user_id FROM users WHERE workspace = $1 AND user_id = ANY ($2)
UNION SELECT user_id FROM open_assignments WHERE workspace = $1 AND user_id = ANY ($2)
UNION SELECT owner_id FROM codes c WHERE workspace = $1 AND owner_id = ANY ($2)
  AND NOT EXISTS (SELECT FROM unassignments u WHERE u.workspace = c.workspace AND u.code = c.code);

-- name: lock_reconciling
-- Serialize orders of comparisons of a workspace until the transaction ends.
-- $1 workspace int
SELECT pg_advisory_xact_lock(hashtext('reconciling'), $1);

-- name: note_comparison
-- Store that a partition was compared as a whole.
-- $1 partition int
UPDATE reconciling SET begun_at = clock_timestamp() WHERE partition = $1;

-- name: orders_after
-- The next orders with a place taken, in order.
-- $1 workspace int  $2 after text  $3 most int
SELECT DISTINCT order_id FROM order_uses WHERE workspace = $1 AND order_id > $2 ORDER BY order_id LIMIT $3;

-- name: owners_after
-- The next users who own codes since upload and are not of users_after, in this column's order.
-- $1 workspace int  $2 after text  $3 most int
SELECT DISTINCT owner_id FROM codes
WHERE workspace = $1 AND owner_id > $2
  AND NOT EXISTS (SELECT FROM users WHERE users.workspace = $1 AND user_id = owner_id COLLATE "C")
  AND NOT EXISTS (
    SELECT FROM open_assignments open WHERE open.workspace = $1 AND open.user_id = owner_id COLLATE "C"
  )
ORDER BY owner_id LIMIT $3;

-- name: read_last_comparisons
-- By partition that has workspaces: the time of the oldest of their last comparisons, null if there is none, and the
-- differences that these left, by class.
WITH differences AS (
  SELECT workspaces.partition, class, sum(n::bigint) AS n
  FROM workspaces JOIN reconciled USING (workspace), jsonb_each_text(left_over) AS each (class, n)
  GROUP BY workspaces.partition, class
)
SELECT workspaces.partition, min(at) AS oldest, coalesce(
  (SELECT jsonb_object_agg(class, n) FROM differences WHERE differences.partition = workspaces.partition), '{}'
) AS left_over
FROM workspaces LEFT JOIN reconciled USING (workspace) GROUP BY workspaces.partition;

-- name: read_reconciled
-- A workspace's last comparison.
-- $1 workspace int
SELECT epoch, seq, at, left_over FROM reconciled WHERE workspace = $1;

-- name: read_removals
-- How often books began to leave a partition's Redis, and whether one is leaving now.
-- $1 partition int
SELECT coalesce((SELECT removals FROM reconciling WHERE partition = $1), 0),
  EXISTS (SELECT FROM books JOIN workspaces w USING (workspace) WHERE w.partition = $1 AND archiving
    AND NOT is_set_aside($1, 'retaining', 'book ' || book_id));

-- name: reconcile_work
-- Whether a job of a partition waits, the scheduled comparison is due, and a workspace that was set aside is due again.
-- $1 partition int  $2 turn timestamptz
SELECT EXISTS (
  SELECT FROM jobs JOIN workspaces USING (workspace)
  WHERE partition = $1
    AND status = 'running'
    AND kind = 'reconcile'
    AND NOT is_set_aside($1, 'reconciling', 'job ' || job_id)
) AS job, coalesce((SELECT begun_at < $2 FROM reconciling WHERE partition = $1), false) AS turn, EXISTS (
  SELECT FROM failing_tasks
  WHERE partition = $1 AND task = 'reconciling' AND thing LIKE 'workspace %' AND next_try_at <= clock_timestamp()
) AS retry;

-- name: recorded_keys
-- These of a workspace's unexpired idempotency keys up to an event, with the expected entry and the remaining lifetime;
-- with a maximal age, only those used since.
-- $1 workspace int  $2 epoch bigint  $3 seq bigint  $4 keys text[]  $5 max_age_minutes int
SELECT * FROM (
  SELECT
    key, regexp_replace(entry, '^(\S+ \S+ @)\.', '\1' || epoch || '-' || seq) AS entry,
    (extract(epoch FROM recorded_at + idempotency_hours * interval '1 hour' - now()) * 1000)::bigint AS ttl_ms
  FROM idempotency_keys JOIN workspaces USING (workspace)
  WHERE workspace = $1 AND (idempotency_keys.epoch, seq) <= ($2, $3) AND key = ANY ($4)
    AND ($5::int IS NULL OR least(at, recorded_at) > now() - $5 * interval '1 minute')
) AS recorded WHERE ttl_ms > 0;

-- name: redemptions_of_orders
-- The redemptions with places in these orders now or right after an event; and those of these events.
-- $1 partition int  $2 workspace int  $3 epoch bigint  $4 seq bigint  $5 orders text[]  $6 epochs bigint[]
-- $7 seqs bigint[]
SELECT redemption_id FROM order_uses WHERE workspace = $2 AND order_id = ANY ($5)
UNION
SELECT redemption_id FROM rollbacks
WHERE partition = $1 AND (epoch, seq) > ($3, $4) AND workspace = $2 AND order_id = ANY ($5)
UNION
SELECT redemption_id
FROM unnest($6::bigint[], $7::bigint[]) AS wanted (epoch, seq)
JOIN redemptions r USING (epoch, seq)
WHERE r.partition = $1;

-- name: served_workspaces
-- A partition's workspaces with a comparison job that waits, and with an earlier turn: the one whose turn was longest
-- ago first.
-- $1 partition int
SELECT workspace FROM (
  SELECT DISTINCT workspace FROM jobs JOIN workspaces USING (workspace)
  WHERE partition = $1 AND kind = 'reconcile' AND status = 'running'
) AS waiting CROSS JOIN LATERAL (
  SELECT turn_at FROM jobs WHERE jobs.workspace = waiting.workspace AND kind = 'reconcile' AND turn_at IS NOT NULL
  ORDER BY job_id DESC LIMIT 1
) AS served
ORDER BY turn_at;

-- name: unplaced_redemptions
-- The redemptions of these users that had a place in an order after an event, and have no row in order_uses.
-- $1 partition int  $2 workspace int  $3 epoch bigint  $4 seq bigint  $5 users text[]
SELECT redemption_id FROM redemptions_at($1, $2, $3, $4) AS r
WHERE taken AND order_id IS NOT NULL AND user_id COLLATE "C" = ANY ($5) AND NOT EXISTS (
  SELECT FROM order_uses o
  WHERE o.workspace = $2 AND o.order_id = r.order_id COLLATE "C" AND o.redemption_id = r.redemption_id
);

-- name: users_after
-- The next users who were created or have an assigned coupon, in order.
-- $1 workspace int  $2 after text  $3 most int
SELECT user_id FROM (
  (SELECT user_id FROM users WHERE workspace = $1 AND user_id > $2 ORDER BY user_id LIMIT $3)
  UNION
  (
    SELECT DISTINCT user_id FROM open_assignments WHERE workspace = $1 AND user_id > $2 ORDER BY user_id LIMIT $3
  )
) AS next ORDER BY user_id LIMIT $3;

-- name: users_in_order
-- The expected fields of users' hashes after an event, in order of the users: coupons by book, unused ones, those of
-- them with an expiry of their own, and the cap. Of all of a workspace's users, or of these with all of their codes.
-- $1 partition int  $2 workspace int  $3 epoch bigint  $4 seq bigint  $5 codes text[]  $6 users text[]
WITH owned AS (
  SELECT owner, book, code, expires_ms,
    coalesce(max > 0 AND uses >= max, false)
    OR coalesce(issued_e4 + credited_e4 = spent_e4 + closed_e4, false) AS used_up
  FROM codes_at($1, $2, $3, $4, $5, NULL) WHERE owner IS NOT NULL AND ($6::text[] IS NULL OR owner = ANY ($6))
    AND book NOT IN (SELECT book FROM books WHERE workspace = $2 AND archived_at IS NOT NULL)
)
SELECT word_of(owner) COLLATE "C" AS owner, 'a' || book AS field, count(*)::text AS value, 0::bigint AS version
FROM owned GROUP BY owner, book
UNION ALL
SELECT word_of(owner), 'h' || book, count(*)::text, 0 FROM owned WHERE NOT used_up GROUP BY owner, book
UNION ALL
SELECT word_of(owner), 'x' || book, count(*)::text, 0 FROM owned
WHERE NOT used_up AND expires_ms IS NOT NULL GROUP BY owner, book
UNION ALL
SELECT word_of(user_id), 'cap', version || ' ' || coalesce(max_coupons::text, '-'), version
FROM users WHERE workspace = $2 AND ($6::text[] IS NULL OR user_id = ANY ($6))
ORDER BY 1;

-- name: uses_in_order
-- The expected fields of orders' buckets after an event, in their order: orders' places and users' counts by book
-- (`o`), and valid gifts (`g`). Of all of a workspace's, or of these redemptions, users and orders. Without archived
-- books.
-- $1 partition int  $2 workspace int  $3 epoch bigint  $4 seq bigint  $5 redemptions uuid[]  $6 users text[]
-- $7 orders text[]
WITH uses AS NOT MATERIALIZED (
  SELECT * FROM redemptions_at($1, $2, $3, $4)
  WHERE taken AND book NOT IN (SELECT book FROM books WHERE workspace = $2 AND archived_at IS NOT NULL)
)
SELECT bucket_of(word_of(order_id)) AS bucket, 'o' AS kind, word_of(order_id) AS field, string_agg(
    epoch || '-' || seq || CASE slot WHEN 1 THEN '' ELSE ':' || slot END || CASE WHEN stands THEN '' ELSE '!' END,
    ' ' ORDER BY epoch, seq
  ) AS expected
FROM uses
WHERE order_id IS NOT NULL AND ($5::uuid[] IS NULL OR redemption_id = ANY ($5)) GROUP BY order_id
UNION ALL
SELECT bucket_of(word_of(user_id)), 'o', book || '/' || word_of(user_id), count(*) || CASE
    WHEN bool_and(stands) THEN '' ELSE ' ' || count(*) FILTER (WHERE stands)
  END
FROM uses
WHERE ($6::text[] IS NULL OR user_id COLLATE "C" = ANY ($6)) GROUP BY book, user_id
UNION ALL
SELECT
  bucket_of(word_of(order_id)),
  'g',
  word_of(order_id),
  code || ' ' || bucket_of(code) || ' ' || word_of(user_id) || ' ' || at_ms
FROM assignments_at($1, $2, $3, $4)
WHERE order_id IS NOT NULL AND ($7::text[] IS NULL OR order_id COLLATE "C" = ANY ($7))
ORDER BY 1;

-- name: watch_reconciling
-- Start a partition's schedule, if it has none.
-- $1 partition int
INSERT INTO reconciling (partition) VALUES ($1) ON CONFLICT DO NOTHING;

-- name: workspaces_of_partition
-- The numbers of a partition's workspaces.
-- $1 partition int
SELECT workspace FROM workspaces WHERE partition = $1 ORDER BY workspace;

-- name: workspaces_to_retry
-- The workspaces of a partition whose comparison was set aside, and is due again.
-- $1 partition int
SELECT workspace FROM failing_tasks JOIN workspaces USING (workspace)
WHERE failing_tasks.partition = $1 AND workspaces.partition = $1 AND task = 'reconciling' AND thing LIKE 'workspace %'
  AND next_try_at <= clock_timestamp()
ORDER BY workspace;

-- name: write_reconciled
-- Store the result of a workspace's comparison.
-- $1 workspace int  $2 partition int  $3 epoch bigint  $4 seq bigint  $5 found jsonb  $6 left_over jsonb
INSERT INTO reconciled (workspace, partition, epoch, seq, found, left_over) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (workspace) DO UPDATE SET
  partition = excluded.partition, epoch = excluded.epoch, seq = excluded.seq, at = now(), found = excluded.found,
  left_over = excluded.left_over;
