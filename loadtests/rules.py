"""The rules that must hold after a load: each is a query over its tables that selects what breaks it."""

from loadtests.plan import CARD, HOLD_S, TOTALS

CLOCK_MS = 2
"""By how much two times of one machine may differ."""
_FIELDS = "redemption_id, code, user_id, order_id, value, currency, discount, amount, redeemed_at"
TABLES = f"""
CREATE TABLE answers (entry, buyer, op, key, path, body, book_id, code, user_id, order_id, status, refusal, retry_after,
  replayed, digest, wanted, final, durability, api, until_ms, sent_ms, answered_ms);
CREATE TABLE answered_redemptions (entry, book_id, {_FIELDS});
CREATE TABLE answered_assignments (entry, book_id, code, user_id, order_id, assigned_at);
CREATE TABLE answered_rollbacks (entry, redemption_id, rolled_back_at);
CREATE TABLE rollback_requests (name, restore);
CREATE TABLE redemptions (book_id, {_FIELDS}, rolled_back_at, discount_e4);
CREATE TABLE codes (book_id, code, user_id, assigned_at, status);
CREATE TABLE taken_back (code, user_id, assigned_at);
CREATE TABLE books (book_id, kind, per_code, per_user, total, stock, codes_per_user);
CREATE TABLE counts (book_id, name, redis, postgres);
CREATE TABLE drift (class, many);
CREATE TABLE about (coupons_per_order, lists_taken_back, locks_end);
CREATE TABLE may_lose (durability);
CREATE TABLE lost_before (redemption_id);
CREATE TABLE closed (begun_ms, ended_ms, alone);
CREATE INDEX answers_key ON answers (key) WHERE key <> '';
CREATE INDEX answered_redemptions_id ON answered_redemptions (redemption_id);
CREATE INDEX answered_assignments_code ON answered_assignments (code);
CREATE INDEX rollback_requests_name ON rollback_requests (name);
CREATE INDEX redemptions_id ON redemptions (redemption_id);
CREATE INDEX redemptions_book ON redemptions (book_id);
CREATE INDEX codes_code ON codes (code);
CREATE INDEX codes_book ON codes (book_id);
"""
"""Requests and their responses; what the service lists afterwards; and what the load was. `rollback_requests` names
redemptions, orders and codes. If `lists_taken_back`, `taken_back` has all assignments that were taken back. `closed` is
the times at which the partition is closed in Postgres. With `alone`, its Redis has no replica: an API may use it until
it is fenced, or until the API reads the new state in Postgres. From then on the API returns `recovering`."""

DERIVED = ("facts", "lost", "answered", "used", "of_cards", "assigned", "unknown", "holds")
VIEWS = f"""
CREATE TABLE facts AS
  SELECT entry, 'redemption' AS what, t.redemption_id AS name, t.code AS of, r.redemption_id IS NULL AS gone
  FROM answered_redemptions t LEFT JOIN redemptions r USING (redemption_id)
  UNION ALL SELECT entry, 'assignment', t.code, t.user_id, NOT EXISTS (SELECT * FROM codes c
    WHERE (c.code, c.user_id, c.assigned_at) = (t.code, t.user_id, t.assigned_at)) AND NOT EXISTS (
    SELECT * FROM taken_back c WHERE (c.code, c.user_id, c.assigned_at) = (t.code, t.user_id, t.assigned_at))
  FROM answered_assignments t WHERE (SELECT lists_taken_back FROM about)
    OR NOT EXISTS (SELECT * FROM rollback_requests WHERE name IN (t.order_id, t.code))
  UNION ALL SELECT t.entry, 'rollback', t.redemption_id, coalesce(r.code, ''), coalesce(r.rolled_back_at, '') = ''
    OR (r.rolled_back_at <> t.rolled_back_at AND a.durability IN (SELECT durability FROM may_lose))
  FROM answered_rollbacks t JOIN answers a USING (entry) LEFT JOIN redemptions r USING (redemption_id);
CREATE TABLE lost AS SELECT entry FROM facts JOIN answers USING (entry)
  WHERE buyer <> '' AND durability IN (SELECT durability FROM may_lose) GROUP BY entry HAVING min(gone) = 1;
CREATE TABLE answered AS SELECT max(book_id) AS book_id, {_FIELDS} FROM answered_redemptions
  WHERE entry NOT IN (SELECT entry FROM lost) GROUP BY {_FIELDS};
CREATE INDEX answered_id ON answered (redemption_id);
CREATE TABLE used AS
  SELECT book_id, redemption_id, code, user_id, order_id FROM redemptions
  WHERE rolled_back_at = '' OR redemption_id IN (SELECT name FROM rollback_requests WHERE NOT restore)
  UNION SELECT book_id, redemption_id, code, user_id, order_id FROM answered
  WHERE redemption_id NOT IN (SELECT redemption_id FROM redemptions);
CREATE INDEX used_code ON used (code);
CREATE INDEX used_book ON used (book_id, user_id);
CREATE TABLE of_cards AS SELECT book_id, used.code, CAST(round(sum(
    (SELECT max(discount) FROM (SELECT discount FROM redemptions r WHERE r.redemption_id = used.redemption_id
      UNION SELECT discount FROM answered a WHERE a.redemption_id = used.redemption_id))) * 100) AS INTEGER) AS cents
  FROM used JOIN books USING (book_id) WHERE kind = 'cards' GROUP BY book_id, used.code;
CREATE TABLE assigned AS SELECT DISTINCT book_id, code, user_id FROM answered_assignments t
  WHERE entry NOT IN (SELECT entry FROM lost)
  AND NOT EXISTS (SELECT * FROM rollback_requests WHERE name IN (t.order_id, t.code));
CREATE INDEX assigned_code ON assigned (code);
CREATE TABLE unknown AS SELECT user_id, count(*) AS many FROM answers WHERE final AND status IN (0, 503)
  GROUP BY user_id;
CREATE TABLE holds AS SELECT code, user_id, until_ms, until_ms - {HOLD_S * 1000} AS from_ms, sent_ms,
  answered_ms + {HOLD_S * 1000} AS over_ms FROM answers WHERE op = 'lock' AND status = 201 AND NOT replayed
  AND book_id IN (SELECT book_id FROM books WHERE kind = 'held') AND NOT (SELECT locks_end FROM about);
CREATE INDEX holds_code ON holds (code, sent_ms);
"""
"""Facts in responses, each recorded or gone; responses that were lost as they may be; what is used (by responses or
Postgres) and assigned; requests with an unknown outcome; and locks."""

LIMITS = {
    "a code over its limit": """SELECT code, count(*), 'of', per_code FROM used JOIN books USING (book_id)
        GROUP BY code HAVING count(*) > per_code""",
    "a user over the book's limit": """
        SELECT book_id, user_id, count(*), 'of', per_user FROM used JOIN books USING (book_id)
        GROUP BY book_id, user_id HAVING count(*) > per_user""",
    "a card over its amount": f"SELECT code, cents, 'of', {CARD * 100} FROM of_cards WHERE cents > {CARD * 100}",
    "a book over its total": """SELECT book_id, count(*), 'of', total FROM used JOIN books USING (book_id)
        GROUP BY book_id HAVING count(*) > total""",
    "a user with too many codes": """
        SELECT book_id, user_id, count(*), 'of', codes_per_user FROM codes JOIN books USING (book_id)
        WHERE user_id <> '' GROUP BY book_id, user_id HAVING count(*) > codes_per_user""",
    "an order with too many coupons": """SELECT order_id, count(*), 'of', coupons_per_order FROM used, about
        WHERE order_id <> '' GROUP BY order_id HAVING count(*) > coupons_per_order""",
}
"""Limits on what is used."""

RULES = {
    "unexpected response": """SELECT buyer, op, status, refusal, path, '×', count(*) FROM answers
        WHERE NOT wanted AND status BETWEEN 100 AND 499 GROUP BY 1, 2, 3, 4""",
    "server error": """SELECT buyer, op, status, refusal, '×', count(*) FROM answers
        WHERE status >= 500 AND status <> 503 GROUP BY 1, 2, 3, 4""",
    "Retry-After missing or too long": """
        SELECT buyer, op, status, refusal, 'Retry-After', quote(retry_after), '×', count(*) FROM answers
        WHERE (status IN (429, 503) AND CAST(retry_after AS INTEGER) < 1)
        OR (status = 503 AND CAST(retry_after AS INTEGER) > 5) GROUP BY 1, 2, 3, 4, retry_after""",
    "different responses under one Idempotency-Key": """
        SELECT min(path), key, group_concat(DISTINCT status), count(DISTINCT digest) FROM answers
        WHERE key <> '' AND status BETWEEN 200 AND 299 AND entry NOT IN (SELECT entry FROM lost)
        GROUP BY key HAVING count(DISTINCT digest) > 1""",
    "response not recorded": """SELECT what, name, of, durability, path FROM facts JOIN answers USING (entry)
        WHERE gone AND entry NOT IN (SELECT entry FROM lost)""",
    "repeat without Idempotency-Replayed": """SELECT path, key FROM answers
        WHERE op = 'again' AND status BETWEEN 200 AND 299 AND NOT replayed""",
    "lost response given again": """SELECT path, redemption_id FROM answered_redemptions JOIN answers USING (entry)
        WHERE op = 'anew' AND redemption_id IN (SELECT redemption_id FROM lost_before)""",
    "recorded differently from the response": f"""SELECT redemption_id, * FROM (
        SELECT * FROM answered WHERE redemption_id IN (SELECT redemption_id FROM redemptions)
        EXCEPT SELECT book_id, {_FIELDS} FROM redemptions)""",
    "rolled back differently from the response": """SELECT redemption_id, t.rolled_back_at, 'recorded', r.rolled_back_at
        FROM answered_rollbacks t JOIN redemptions r USING (redemption_id) WHERE r.rolled_back_at <> ''
        AND r.rolled_back_at <> t.rolled_back_at AND entry NOT IN (SELECT entry FROM lost)
        UNION ALL SELECT redemption_id, 'without a request', 'recorded', rolled_back_at FROM redemptions r
        WHERE rolled_back_at <> ''
        AND NOT EXISTS (SELECT * FROM rollback_requests WHERE name IN (redemption_id, order_id))""",
    "recorded twice": "SELECT redemption_id, count(*) FROM redemptions GROUP BY redemption_id HAVING count(*) > 1",
    "recorded without a response": """
        SELECT 'redemption', group_concat(redemption_id), group_concat(code), user_id FROM redemptions
        LEFT JOIN unknown USING (user_id) WHERE redemption_id NOT IN (SELECT redemption_id FROM answered_redemptions)
        GROUP BY user_id HAVING count(*) > coalesce(many, 0)
        UNION ALL SELECT 'assignment', c.code, c.user_id, '' FROM codes c
        WHERE c.user_id NOT IN (SELECT user_id FROM unknown UNION SELECT '') AND NOT EXISTS (
        SELECT * FROM answered_assignments t WHERE t.code = c.code AND t.user_id = c.user_id)""",
    **LIMITS,
    "limit not used up": f"""
        SELECT 'book', book_id, (SELECT count(*) FROM used WHERE used.book_id = b.book_id) AS many, 'of', total
        FROM books b WHERE kind IN {TOTALS} AND many <> total
        UNION ALL SELECT 'code', code, (SELECT count(*) FROM used WHERE used.code = c.code) AS many, 'of', per_code
        FROM codes c JOIN books USING (book_id) WHERE kind = 'shared' AND many <> per_code
        UNION ALL SELECT 'card', c.code, coalesce(cents, 0), 'of', {CARD * 100} FROM codes c JOIN books USING (book_id)
        LEFT JOIN of_cards o USING (code) WHERE kind = 'cards' AND coalesce(cents, 0) <> {CARD * 100}""",
    "more assigned than there are codes": """
        SELECT book_id, count(*), 'of', stock FROM assigned JOIN books USING (book_id)
        GROUP BY book_id HAVING count(*) > stock
        UNION ALL SELECT code, count(*), 'of', 1 FROM assigned GROUP BY code HAVING count(*) > 1""",
    "refused as used up below the limit": """
        WITH refusals AS (SELECT DISTINCT op, book_id, code, user_id, refusal FROM answers
          WHERE refusal <> '' AND NOT EXISTS (SELECT * FROM may_lose))
        SELECT 'book', b.book_id, total FROM refusals h JOIN books b USING (book_id)
        WHERE kind = 'total' AND refusal = 'out_of_stock'
        AND (SELECT count(*) FROM used u WHERE u.book_id = b.book_id) < total
        UNION SELECT 'book', b.book_id, 'without a total' FROM refusals h JOIN books b USING (book_id)
        WHERE op <> 'assign' AND refusal = 'out_of_stock' AND total IS NULL AND kind <> 'merchant'
        UNION SELECT 'stock', b.book_id, stock FROM refusals h JOIN books b USING (book_id)
        WHERE op = 'assign' AND refusal = 'out_of_stock'
        AND (SELECT count(*) FROM codes c WHERE c.book_id = b.book_id AND user_id <> '') < stock
        UNION SELECT 'code', h.code, per_code FROM refusals h JOIN books b USING (book_id)
        WHERE refusal IN ('coupon_exhausted', 'coupon_redeemed')
        AND (SELECT count(*) FROM used u WHERE u.code = h.code) < per_code
        UNION SELECT 'user', h.user_id, per_user FROM refusals h JOIN books b USING (book_id)
        WHERE refusal = 'user_redemption_limit'
        AND (SELECT count(*) FROM used u WHERE u.book_id = h.book_id AND u.user_id = h.user_id) < per_user""",
    "refused as not found, although nothing was lost": """
        SELECT path, refusal FROM answers WHERE refusal IN ('redemption_not_found', 'order_not_found')
        AND NOT EXISTS (SELECT * FROM lost)""",
    "locked by two users at a time": """SELECT code, user_id, 'until', until_ms, 'and another from', next_ms FROM (
        SELECT *, lead(from_ms) OVER (PARTITION BY code ORDER BY from_ms, until_ms) AS next_ms FROM holds)
        WHERE next_ms < until_ms""",
    "refused as locked without a lock": f"""SELECT code, user_id, sent_ms FROM answers a JOIN books b USING (book_id)
        WHERE b.kind = 'held' AND refusal = 'coupon_locked' AND NOT (SELECT locks_end FROM about)
        AND NOT EXISTS (SELECT * FROM holds h WHERE h.code = a.code
          AND h.sent_ms <= a.answered_ms + {CLOCK_MS} AND h.over_ms >= a.sent_ms - {CLOCK_MS})
        AND NOT EXISTS (SELECT * FROM answers u
          WHERE u.op = 'lock' AND u.code = a.code AND (u.status = 0 OR u.refusal = 'outcome_unknown'))""",
    "decided while the partition was closed": """
        WITH refused AS (SELECT begun_ms, api, min(answered_ms) AS first_ms FROM closed JOIN answers
          ON sent_ms > begun_ms AND answered_ms < ended_ms WHERE alone AND refusal = 'recovering' GROUP BY 1, 2)
        SELECT op, path, status, refusal FROM closed JOIN answers ON sent_ms > begun_ms AND answered_ms < ended_ms
        LEFT JOIN refused USING (begun_ms, api) WHERE sent_ms > coalesce(first_ms, 0)
        AND op IN ('redeem', 'assign', 'unassign', 'lock', 'unlock', 'checkout', 'rollback', 'order')
        AND status NOT IN (0, 503) AND refusal <> 'request_in_progress'""",
    "Redis and Postgres count differently": """SELECT book_id, name, redis, 'and', postgres FROM counts
        WHERE redis <> postgres""",
    "the service's own comparison reports differences": "SELECT class, many FROM drift WHERE many <> 0",
    "no redemption": "SELECT 'no answer has a redemption' WHERE NOT EXISTS (SELECT * FROM answered_redemptions)",
}
"""For each rule: its breach, and the query that selects it."""
