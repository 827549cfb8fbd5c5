-- name: add_to_card_sums
-- Add an amount, which may be negative, to what happened to a book's cards in a day.
-- $1 workspace int  $2 book int  $3 start timestamptz  $4 kind text  $5 amount numeric
INSERT INTO card_sums AS old VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (workspace, book, start, kind) DO UPDATE SET amount = old.amount + excluded.amount;

-- name: add_to_rollups
-- Add numbers, which may be negative, to an hour or a day.
-- $1 workspace int  $2 step text  $3 start timestamptz  $4 book int  $5 currency text  $6 redemptions bigint
-- $7 rolled_back bigint  $8 order_value numeric  $9 discount_amount numeric  $10 balance_spent numeric
-- $11 assigned bigint  $12 new_users bigint  $13 returning_users bigint  $14 week_new bigint  $15 week_returning bigint
INSERT INTO report_sums AS old VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (workspace, step, start, book, currency) DO UPDATE SET
  redemptions = old.redemptions + excluded.redemptions, rolled_back = old.rolled_back + excluded.rolled_back,
  order_value = old.order_value + excluded.order_value,
  discount_amount = old.discount_amount + excluded.discount_amount,
  balance_spent = old.balance_spent + excluded.balance_spent,
  assigned = old.assigned + excluded.assigned,
  new_users = old.new_users + excluded.new_users,
  returning_users = old.returning_users + excluded.returning_users, week_new = old.week_new + excluded.week_new,
  week_returning = old.week_returning + excluded.week_returning;

-- name: card_differences
-- What the transaction's own sums of cards have more than those of a partition's workspaces.
-- $1 partition int
SELECT * FROM (
  SELECT workspace, book, start, kind, coalesce(own.amount, 0) - coalesce(old.amount, 0) AS amount
  FROM pg_temp.card_sums AS own FULL JOIN (
    SELECT workspace, book, start, kind, amount FROM public.card_sums
    WHERE workspace IN (SELECT workspace FROM workspaces WHERE partition = $1)
  ) AS old USING (workspace, book, start, kind)
) AS more
WHERE amount <> 0;

-- name: compare_newest_hours
-- The hours of books that have the newest redemptions of a partition: how many were compared with their facts, and how
-- many of them differ. Hours with too many redemptions are left out.
-- $1 partition int  $2 redemptions int  $3 hours int  $4 most int
WITH hours AS MATERIALIZED (
  SELECT workspace, book, date_trunc('hour', redeemed_at, time_zone) AS start FROM (
    SELECT workspace, book, redeemed_at FROM redemptions WHERE partition = $1 ORDER BY epoch DESC, seq DESC LIMIT $2
  ) AS newest JOIN workspaces USING (workspace) GROUP BY 1, 2, 3 ORDER BY 3 DESC LIMIT $3
)
SELECT count(*), count(*) FILTER (WHERE facts IS DISTINCT FROM rollups)
FROM hours CROSS JOIN LATERAL (
  SELECT
    count(*) - count(back) AS redemptions, count(back) AS rolled_back,
    coalesce(sum(order_value) FILTER (WHERE back IS NULL), 0) AS order_value,
    coalesce(sum(discount_amount) FILTER (WHERE back IS NULL), 0) AS discount_amount,
    coalesce(sum(discount_amount) FILTER (WHERE back IS NULL AND balance_after IS NOT NULL), 0) AS balance_spent
  FROM (
    SELECT redemption_id, order_value, discount_amount, balance_after FROM redemptions r
    WHERE r.workspace = hours.workspace AND r.book = hours.book
      AND redemption_id >= first_uuid7(start) AND redemption_id < first_uuid7(start + interval '1 hour')
    LIMIT $4 + 1
  ) AS made LEFT JOIN (
    SELECT redemption_id, rolled_back_at AS back FROM rollbacks
    WHERE redemption_id >= first_uuid7(start) AND redemption_id < first_uuid7(start + interval '1 hour')
  ) AS undone USING (redemption_id)
) AS facts CROSS JOIN LATERAL (
  SELECT
    coalesce(sum(redemptions), 0)::bigint AS redemptions, coalesce(sum(rolled_back), 0)::bigint AS rolled_back,
    coalesce(sum(order_value), 0) AS order_value, coalesce(sum(discount_amount), 0) AS discount_amount,
    coalesce(sum(balance_spent), 0) AS balance_spent
  FROM report_sums s
  WHERE s.workspace = hours.workspace AND step = 'hour' AND s.start = hours.start AND s.book = hours.book
) AS rollups
WHERE facts.redemptions + facts.rolled_back <= $4;

-- name: hide_rollups
-- Let this transaction count into empty roll-ups of its own.
SELECT hide_rollups();

-- name: next_fact
-- The first event after one of which a partition has facts.
-- $1 partition int  $2 epoch bigint  $3 seq bigint
SELECT epoch, seq FROM facts WHERE partition = $1 AND (epoch, seq) > ($2, $3) ORDER BY epoch, seq LIMIT 1;

-- name: read_ends_of_books
-- The limits of these books, and their first and last redemption: of the last also its interval and currency.
-- $1 workspace int  $2 interval text  $3 zone text  $4 books uuid[]
SELECT
  book_id::text, max_redemptions, ms_of(date_trunc($2, last.redeemed_at, $3)) AS from_ms, last.currency,
  ms_of(first.redeemed_at) AS first_ms, ms_of(last.redeemed_at) AS last_ms
FROM books b CROSS JOIN LATERAL (
  SELECT redeemed_at FROM redemptions r WHERE r.workspace = $1 AND r.book = b.book ORDER BY redemption_id LIMIT 1
) AS first CROSS JOIN LATERAL (
  SELECT redeemed_at, coalesce(currency, '') AS currency FROM redemptions r
  WHERE r.workspace = $1 AND r.book = b.book ORDER BY redemption_id DESC LIMIT 1
) AS last
WHERE workspace = $1 AND book_id = ANY ($4);

-- name: read_funnel
-- Assignments and standing redemptions of a report by interval and group.
-- $1 workspace int  $2 interval text  $3 from timestamptz  $4 to timestamptz  $5 zone text  $6 grouped text
-- $7 book uuid  $8 tag text  $9 limit int
WITH groups AS MATERIALIZED (SELECT book, name FROM report_groups($1, $6, $7, $8))
SELECT
  ms_of(date_trunc($2, start, $5)) AS from_ms,
  name COLLATE "C" AS name,
  sum(assigned)::bigint AS assigned,
  sum(redemptions)::bigint AS redeemed
FROM report_sums JOIN groups USING (book)
WHERE workspace = $1 AND step = CASE $2 WHEN 'hour' THEN 'hour' ELSE 'day' END AND start >= $3 AND start < $4
GROUP BY date_trunc($2, start, $5), 2 HAVING sum(assigned + redemptions + rolled_back) > 0 ORDER BY 1, 2 LIMIT $9;

-- name: read_liability
-- What happened to a workspace's cards by day and book, and what was outstanding of them at the day's end. A day on
-- which nothing happened is left out, unless it is the first of the report and something is outstanding.
-- $1 workspace int  $2 from timestamptz  $3 to timestamptz  $4 zone text  $5 book uuid  $6 limit int
WITH days AS (
  SELECT
    book, day, coalesce(sum(amount) FILTER (WHERE kind = 'issued'), 0) AS issued,
    coalesce(sum(amount) FILTER (WHERE kind = 'credited'), 0) AS credited,
    coalesce(sum(amount) FILTER (WHERE kind = 'spent'), 0) AS spent,
    coalesce(sum(amount) FILTER (WHERE kind = 'returned'), 0) AS returned,
    coalesce(sum(amount) FILTER (WHERE kind = 'closed'), 0) AS closed,
    sum(CASE WHEN kind IN ('spent', 'closed') THEN -amount ELSE amount END) AS added
  FROM (
    SELECT book, date_trunc('day', start, $4) AS day, kind, amount
    FROM card_sums JOIN books USING (workspace, book)
    WHERE workspace = $1 AND start >= $2 AND start < $3 AND ($5::uuid IS NULL OR book_id = $5)
    UNION ALL
    SELECT book, $2, 'before', sum(CASE WHEN kind IN ('spent', 'closed') THEN -amount ELSE amount END)
    FROM card_sums JOIN books USING (workspace, book)
    WHERE workspace = $1 AND start < $2 AND ($5::uuid IS NULL OR book_id = $5) GROUP BY book
  ) AS sums
  GROUP BY 1, 2
)
SELECT
  ms_of(day) AS from_ms,
  book_id::text AS name,
  own_currency AS currency,
  issued,
  credited,
  spent,
  returned,
  closed,
  outstanding
FROM (
  SELECT
    book,
    day,
    issued,
    credited,
    spent,
    returned,
    closed,
    sum(added) OVER (PARTITION BY book ORDER BY day) AS outstanding
  FROM days
) AS ended JOIN books b ON b.workspace = $1 AND b.book = ended.book
WHERE (issued, credited, spent, returned, closed, outstanding) <> (0, 0, 0, 0, 0, 0)
ORDER BY 1, 2 LIMIT $6;

-- name: read_report_bounds
-- A workspace's time zone, and the beginning and end of the intervals that have these times. Where the last interval
-- passes the last time that Python has, it ends there.
-- $1 workspace int  $2 interval text  $3 from timestamptz  $4 to timestamptz  $5 latest timestamptz
SELECT
  time_zone, date_trunc($2, $3::timestamptz, time_zone) AS first,
  least((date_trunc($2, $4::timestamptz - interval '1 ms', time_zone) AT TIME ZONE time_zone + ('1 ' || $2)::interval)
    AT TIME ZONE time_zone, $5::timestamptz) AS last
FROM workspaces WHERE workspace = $1;

-- name: read_sales
-- The redemptions of a report by interval, group and currency.
-- $1 workspace int  $2 interval text  $3 from timestamptz  $4 to timestamptz  $5 zone text  $6 grouped text
-- $7 book uuid  $8 tag text  $9 limit int
WITH groups AS MATERIALIZED (SELECT book, name FROM report_groups($1, $6, $7, $8))
SELECT
  ms_of(date_trunc($2, start, $5)) AS from_ms,
  name COLLATE "C" AS name,
  currency,
  sum(redemptions)::bigint AS redemptions,
  sum(order_value) AS order_value, sum(discount_amount) AS discount_amount, sum(balance_spent) AS balance_spent,
  sum(rolled_back)::bigint AS rolled_back,
  sum(CASE $2 WHEN 'week' THEN week_new ELSE new_users END)::bigint AS new_users,
  sum(CASE $2 WHEN 'week' THEN week_returning ELSE returning_users END)::bigint AS returning_users
FROM report_sums JOIN groups USING (book)
WHERE workspace = $1 AND step = CASE $2 WHEN 'hour' THEN 'hour' ELSE 'day' END AND start >= $3 AND start < $4
GROUP BY date_trunc($2, start, $5), 2, 3 HAVING sum(redemptions + rolled_back) > 0 ORDER BY 1, 2, 3 LIMIT $9;

-- name: read_traffic_of_intervals
-- A workspace's counts of responses by interval and name.
-- $1 workspace int  $2 interval text  $3 from timestamptz  $4 to timestamptz  $5 zone text
SELECT ms_of(start) AS from_ms, key, sum(value::bigint)::bigint AS count FROM (
  SELECT date_trunc($2, at, $5) AS start, counts FROM traffic_samples
  WHERE workspace = $1 AND step_s = 3600 AND at >= $3 AND at < $4 OFFSET 0
) AS samples CROSS JOIN LATERAL jsonb_each_text(counts)
GROUP BY start, key;

-- name: recount_new_user
-- Count the redemptions of a user whom roll-ups took for a deleted one of the same name, now under a pseudonym, as a
-- new user's. They are all later than the deleted one's, which are read once: nothing is recorded meanwhile.
-- $1 workspace int  $2 user text  $3 pseudonym text
WITH deleted AS MATERIALIZED (
  SELECT book, min(redeemed_at) AS first, max(redeemed_at) AS last FROM redemptions
  WHERE workspace = $1 AND user_id = $3 GROUP BY book
), made AS (
  SELECT
    book, coalesce(r.currency, '') AS currency, redeemed_at AS at, time_zone AS zone,
    least(min(redeemed_at) OVER earlier, of_all.first) AS first,
    greatest(max(redeemed_at) OVER earlier, of_all.last) AS last,
    greatest(max(redeemed_at) OVER of_book, deleted.last) AS book_last,
    min(redeemed_at) OVER earlier AS new_first, max(redeemed_at) OVER earlier AS new_last,
    max(redeemed_at) OVER of_book AS book_new_last
  FROM redemptions r JOIN workspaces USING (workspace) LEFT JOIN deleted USING (book)
  CROSS JOIN (SELECT min(first) AS first, max(last) AS last FROM deleted) AS of_all
  WHERE workspace = $1 AND user_id = $2
  WINDOW
    earlier AS (ORDER BY epoch, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    of_book AS (PARTITION BY book ORDER BY epoch, seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
), counted AS (
  SELECT
    step, date_trunc(step, at, zone) AS start, one.book, currency, unit = 'week' AS of_week,
    is_new_user(date_trunc(unit, at, zone), one.last, first) AS before,
    is_new_user(date_trunc(unit, at, zone), one.new_last, new_first) AS after
  FROM made CROSS JOIN (VALUES ('hour', 'hour'), ('day', 'day'), ('day', 'week')) AS units (step, unit)
  CROSS JOIN LATERAL (VALUES (made.book, book_last, book_new_last), (0, last, new_last)) AS one (book, last, new_last)
)
INSERT INTO report_sums AS old (
  workspace, step, start, book, currency, new_users, returning_users, week_new, week_returning
)
SELECT
  $1, step, start, book, currency,
  count(*) FILTER (WHERE after AND NOT of_week) - count(*) FILTER (WHERE before AND NOT of_week),
  count(*) FILTER (WHERE NOT after AND NOT of_week) - count(*) FILTER (WHERE NOT before AND NOT of_week),
  count(*) FILTER (WHERE after AND of_week) - count(*) FILTER (WHERE before AND of_week),
  count(*) FILTER (WHERE NOT after AND of_week) - count(*) FILTER (WHERE NOT before AND of_week)
FROM counted GROUP BY 2, 3, 4, 5 ORDER BY 2, 3, 4, 5
ON CONFLICT (workspace, step, start, book, currency) DO UPDATE SET
  new_users = old.new_users + excluded.new_users, returning_users = old.returning_users + excluded.returning_users,
  week_new = old.week_new + excluded.week_new, week_returning = old.week_returning + excluded.week_returning;

-- name: report_assignments
-- Add a partition's assignments of these events, which have these times, to the roll-ups.
-- $1 partition int  $2 epoch bigint  $3 from_seq bigint  $4 to_seq bigint  $5 first text  $6 last text
INSERT INTO report_sums AS old (workspace, step, start, book, currency, assigned)
SELECT a.workspace, step, date_trunc(step, assigned_at, time_zone), counted.book, '', count(*)
FROM assignments a JOIN workspaces USING (workspace)
CROSS JOIN LATERAL (VALUES (a.book), (0)) AS counted (book) CROSS JOIN (VALUES ('hour'), ('day')) AS steps (step)
WHERE a.partition = $1 AND epoch = $2 AND seq BETWEEN $3 AND $4
  AND assigned_at BETWEEN $5::text::timestamptz AND $6::text::timestamptz
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
ON CONFLICT (workspace, step, start, book, currency) DO UPDATE SET assigned = old.assigned + excluded.assigned;

-- name: report_cards
-- Add what these events of a partition spent of cards, credited and closed, to their sums.
-- $1 partition int  $2 epoch bigint  $3 from_seq bigint  $4 to_seq bigint
INSERT INTO card_sums AS old (workspace, book, start, kind, amount)
SELECT workspace, book, date_trunc('day', at, time_zone), kind, sum(amount) FROM (
  SELECT workspace, book, redeemed_at AS at, 'spent' AS kind, discount_amount AS amount FROM redemptions
  WHERE partition = $1 AND epoch = $2 AND seq BETWEEN $3 AND $4 AND balance_after IS NOT NULL
  UNION ALL
  SELECT workspace, book, changed_at, change, amount FROM balance_changes
  WHERE partition = $1 AND epoch = $2 AND seq BETWEEN $3 AND $4
) AS made JOIN workspaces USING (workspace)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
ON CONFLICT (workspace, book, start, kind) DO UPDATE SET amount = old.amount + excluded.amount;

-- name: report_issued
-- Add an amount that is issued now to the sums of a book's cards.
-- $1 workspace int  $2 book int  $3 amount_e4 numeric
INSERT INTO card_sums AS old (workspace, book, start, kind, amount)
SELECT workspace, $2, date_trunc('day', now(), time_zone), 'issued', $3 * 0.0001 FROM workspaces WHERE workspace = $1
ON CONFLICT (workspace, book, start, kind) DO UPDATE SET amount = old.amount + excluded.amount;

-- name: report_issued_codes
-- Add the amounts of all cards of a partition to their sums.
-- $1 partition int
INSERT INTO card_sums AS old (workspace, book, start, kind, amount)
SELECT workspace, book, date_trunc('day', codes.created_at, time_zone), 'issued', sum(amount)
FROM workspaces JOIN books USING (workspace) JOIN codes USING (workspace, book)
WHERE workspaces.partition = $1 AND discount ->> 'type' = 'balance'
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (workspace, book, start, kind) DO UPDATE SET amount = old.amount + excluded.amount;

-- name: report_redemptions
-- Add a partition's redemptions of these events, which have these ids, to the roll-ups, and their users. Of each it
-- reads two rows of its user, however many books that user has redeemed in.
-- $1 partition int  $2 epoch bigint  $3 from_seq bigint  $4 to_seq bigint  $5 first text  $6 last text
WITH made AS (
  SELECT
    r.workspace, r.book, r.user_id, coalesce(r.currency, '') AS currency, coalesce(order_value, 0) AS order_value,
    discount_amount, CASE WHEN balance_after IS NULL THEN 0 ELSE discount_amount END AS balance_spent,
    redeemed_at AS at, time_zone AS zone, date_trunc('hour', redeemed_at, time_zone) AS hour,
    least(min(redeemed_at) OVER of_user, known.first_at) AS user_first,
    greatest(max(redeemed_at) OVER of_user, known.last_at) AS user_last,
    greatest(max(redeemed_at) OVER of_book, in_book.last_at) AS book_last,
    known.book AS known_book, known.first_at AS known_first, known.last_at AS known_last
  FROM redemptions r JOIN workspaces USING (workspace) LEFT JOIN LATERAL (
    SELECT book, first_at, last_at
    FROM report_users u WHERE u.workspace = r.workspace AND u.user_id = r.user_id ORDER BY book LIMIT 1
  ) AS known ON true CROSS JOIN LATERAL (
    SELECT max(last_at) AS last_at
    FROM report_users u WHERE u.workspace = r.workspace AND u.user_id = r.user_id AND u.book = r.book
  ) AS in_book
  WHERE r.partition = $1 AND epoch = $2 AND seq BETWEEN $3 AND $4
    AND redemption_id BETWEEN $5::text::uuid AND $6::text::uuid
  WINDOW
    of_user AS (PARTITION BY r.workspace, r.user_id ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
    of_book AS (
      PARTITION BY r.workspace, r.user_id, r.book ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
), users AS (
  INSERT INTO report_users AS old
  SELECT workspace, user_id, book, min(at), max(at) FROM made GROUP BY 1, 2, 3
  UNION ALL
  SELECT workspace, user_id, 0, min(least(at, known_first)), max(greatest(at, known_last)) FROM made GROUP BY 1, 2
  HAVING min(least(book, known_book)) < max(greatest(book, known_book))
  ORDER BY 1, 2, 3
  ON CONFLICT (workspace, user_id, book) DO UPDATE SET
    first_at = least(old.first_at, excluded.first_at), last_at = greatest(old.last_at, excluded.last_at)
), hours AS MATERIALIZED (
  SELECT hour, zone, date_trunc('day', hour, zone) AS day, date_trunc('week', hour, zone) AS week
  FROM (SELECT DISTINCT hour, zone FROM made) AS these
), counted AS MATERIALIZED (
  SELECT
    workspace, hour, day, one.book, currency, order_value, discount_amount, balance_spent,
    is_new_user(hour, last, user_first) AS of_hour, is_new_user(day, last, user_first) AS of_day,
    is_new_user(week, last, user_first) AS of_week
  FROM made
  JOIN hours USING (hour, zone)
  CROSS JOIN LATERAL (VALUES (made.book, book_last), (0, user_last)) AS one (book, last)
), sums AS (
  SELECT
    workspace, hour, day, book, currency, count(*) AS redemptions, sum(order_value) AS order_value,
    sum(discount_amount) AS discount_amount,
    sum(balance_spent) AS balance_spent,
    count(*) FILTER (WHERE of_hour) AS hour_new,
    count(*) FILTER (WHERE NOT of_hour) AS hour_returning, count(*) FILTER (WHERE of_day) AS day_new,
    count(*) FILTER (WHERE NOT of_day) AS day_returning, count(*) FILTER (WHERE of_week) AS week_new,
    count(*) FILTER (WHERE NOT of_week) AS week_returning
  FROM counted GROUP BY workspace, hour, day, book, currency
)
INSERT INTO report_sums AS old (
  workspace, step, start, book, currency, redemptions, order_value, discount_amount, balance_spent, new_users,
  returning_users, week_new, week_returning
)
SELECT
  workspace, 'hour', hour, book, currency, redemptions, order_value, discount_amount, balance_spent, hour_new,
  hour_returning, 0, 0
FROM sums
UNION ALL
SELECT
  workspace, 'day', day, book, currency, sum(redemptions), sum(order_value), sum(discount_amount), sum(balance_spent),
  sum(day_new), sum(day_returning), sum(week_new), sum(week_returning)
FROM sums GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (workspace, step, start, book, currency) DO UPDATE SET
  redemptions = old.redemptions + excluded.redemptions, order_value = old.order_value + excluded.order_value,
  discount_amount = old.discount_amount + excluded.discount_amount,
  balance_spent = old.balance_spent + excluded.balance_spent, new_users = old.new_users + excluded.new_users,
  returning_users = old.returning_users + excluded.returning_users, week_new = old.week_new + excluded.week_new,
  week_returning = old.week_returning + excluded.week_returning;

-- name: report_returned
-- Add what the rollbacks of these recorded redemptions gave back to cards to their sums.
-- $1 redemptions text[]
INSERT INTO card_sums AS old (workspace, book, start, kind, amount)
SELECT r.workspace, r.book, date_trunc('day', rolled_back_at, time_zone), 'returned', sum(discount_amount)
FROM redemptions r JOIN rollbacks b USING (redemption_id) JOIN workspaces ON workspaces.workspace = r.workspace
WHERE redemption_id = ANY ($1::text[]::uuid[]) AND r.balance_after IS NOT NULL AND restore
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (workspace, book, start, kind) DO UPDATE SET amount = old.amount + excluded.amount;

-- name: report_rollbacks
-- Take these recorded redemptions, which were rolled back, out of the roll-ups' sums.
-- $1 redemptions text[]
INSERT INTO report_sums AS old (
  workspace, step, start, book, currency, redemptions, rolled_back, order_value, discount_amount, balance_spent
)
SELECT
  r.workspace,
  step,
  date_trunc(step, redeemed_at, time_zone),
  counted.book,
  coalesce(r.currency, ''),
  -count(*),
  count(*),
  -coalesce(sum(order_value), 0), -sum(discount_amount),
  -coalesce(sum(discount_amount) FILTER (WHERE balance_after IS NOT NULL), 0)
FROM redemptions r JOIN workspaces USING (workspace)
CROSS JOIN LATERAL (VALUES (r.book), (0)) AS counted (book) CROSS JOIN (VALUES ('hour'), ('day')) AS steps (step)
WHERE redemption_id = ANY ($1::text[]::uuid[])
GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
ON CONFLICT (workspace, step, start, book, currency) DO UPDATE SET
  redemptions = old.redemptions + excluded.redemptions, rolled_back = old.rolled_back + excluded.rolled_back,
  order_value = old.order_value + excluded.order_value,
  discount_amount = old.discount_amount + excluded.discount_amount,
  balance_spent = old.balance_spent + excluded.balance_spent;

-- name: rolled_back_by
-- The redemptions that these events of a partition rolled back.
-- $1 partition int  $2 epoch bigint  $3 from_seq bigint  $4 to_seq bigint
SELECT coalesce(array_agg(redemption_id::text), '{}') FROM rollbacks
WHERE partition = $1 AND epoch = $2 AND seq BETWEEN $3 AND $4;

-- name: rolled_back_of
-- Those of these redemptions that were rolled back.
-- $1 redemptions text[]
SELECT redemption_id::text FROM rollbacks WHERE redemption_id = ANY ($1::text[]::uuid[]);

-- name: rollup_differences
-- What the transaction's own roll-ups have more than those of a partition's workspaces. No row counts as zeros, which a
-- repair leaves in an interval that has no fact any more.
-- $1 partition int
SELECT * FROM (
  SELECT
    workspace, step, start, book, currency,
    coalesce(own.redemptions, 0) - coalesce(old.redemptions, 0) AS redemptions,
    coalesce(own.rolled_back, 0) - coalesce(old.rolled_back, 0) AS rolled_back,
    coalesce(own.order_value, 0) - coalesce(old.order_value, 0) AS order_value,
    coalesce(own.discount_amount, 0) - coalesce(old.discount_amount, 0) AS discount_amount,
    coalesce(own.balance_spent, 0) - coalesce(old.balance_spent, 0) AS balance_spent,
    coalesce(own.assigned, 0) - coalesce(old.assigned, 0) AS assigned,
    coalesce(own.new_users, 0) - coalesce(old.new_users, 0) AS new_users,
    coalesce(own.returning_users, 0) - coalesce(old.returning_users, 0) AS returning_users,
    coalesce(own.week_new, 0) - coalesce(old.week_new, 0) AS week_new,
    coalesce(own.week_returning, 0) - coalesce(old.week_returning, 0) AS week_returning
  FROM pg_temp.report_sums AS own FULL JOIN (
    SELECT
      workspace, step, start, book, currency, redemptions, rolled_back, order_value, discount_amount, balance_spent,
      assigned, new_users, returning_users, week_new, week_returning
    FROM public.report_sums WHERE workspace IN (SELECT workspace FROM workspaces WHERE partition = $1)
  ) AS old USING (workspace, step, start, book, currency)
) AS more
WHERE (
  redemptions, rolled_back, order_value, discount_amount, balance_spent, assigned, new_users, returning_users, week_new,
  week_returning
) <> (0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

-- name: store_report_user
-- Store that a user redeemed in a book, or in all (0), within this time.
-- $1 workspace int  $2 user text  $3 book int  $4 first timestamptz  $5 last timestamptz
INSERT INTO report_users AS old (workspace, user_id, book, first_at, last_at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (
  workspace, user_id, book
) DO UPDATE SET
  first_at = least(old.first_at, excluded.first_at), last_at = greatest(old.last_at, excluded.last_at);

-- name: store_report_users
-- Store the first and last redemption of a user in each book, and in all if these are several.
-- $1 workspace int  $2 user text
WITH made AS (SELECT book, redeemed_at AS at FROM redemptions WHERE workspace = $1 AND user_id = $2)
INSERT INTO report_users (workspace, user_id, book, first_at, last_at)
SELECT $1, $2, book, min(at), max(at) FROM made GROUP BY book
UNION ALL
SELECT $1, $2, 0, min(at), max(at) FROM made HAVING min(book) < max(book)
ORDER BY 3;

-- name: unknown_report_users
-- The users of the transaction's own roll-ups whose first or last redemption the stored ones lack.
SELECT workspace, user_id, book, own.first_at, own.last_at
FROM pg_temp.report_users AS own LEFT JOIN public.report_users AS old USING (workspace, user_id, book)
WHERE old.book IS NULL OR own.first_at < old.first_at OR own.last_at > old.last_at;
