"""The rules that must hold after a load, each a query over its tables that finds what breaks it."""

from loadtests.plan import HOLD_S

CLOCK_MS = 2
"""What two times of one machine may be out by."""
TABLES = """
CREATE TABLE redemptions (book_id, redemption_id, code, user_id, order_id, amount, discount_e4, rolled_back);
CREATE TABLE codes (book_id, code, user_id, status, redemptions);
CREATE TABLE books (book_id, kind, per_code, per_user, total, stock);
CREATE TABLE counts (book_id, name, redis, postgres);
CREATE TABLE drift (class, many);
CREATE TABLE workspace (coupons_per_order);
CREATE INDEX redemptions_id ON redemptions (redemption_id);
CREATE INDEX redemptions_book ON redemptions (book_id);
CREATE INDEX codes_code ON codes (code);
CREATE INDEX codes_book ON codes (book_id);
"""
"""What the service says; `answers` is the ledger's."""

VIEWS = f"""
CREATE TABLE told AS SELECT redemption_id, max(book_id) AS book_id, max(got) AS code, max(user_id) AS user_id,
  max(order_id) AS order_id, max(amount) AS amount FROM answers
  WHERE redemption_id <> '' AND status BETWEEN 200 AND 299 GROUP BY redemption_id;
CREATE INDEX told_id ON told (redemption_id);
CREATE TABLE used AS
  SELECT book_id, redemption_id, code, user_id, order_id FROM redemptions WHERE NOT rolled_back
  UNION SELECT book_id, redemption_id, code, user_id, order_id FROM told
  WHERE redemption_id NOT IN (SELECT redemption_id FROM redemptions);
CREATE INDEX used_code ON used (code);
CREATE INDEX used_book ON used (book_id, user_id);
CREATE TABLE given AS
  SELECT DISTINCT book_id, got AS code, user_id FROM answers
  WHERE op = 'assign' AND got <> '' AND status BETWEEN 200 AND 299
  UNION SELECT '', gift, user_id FROM answers WHERE gift <> '' AND status BETWEEN 200 AND 299;
CREATE INDEX given_code ON given (code);
CREATE TABLE unknown AS SELECT DISTINCT key, user_id, order_id FROM answers
  WHERE status = 0 OR refusal = 'outcome_unknown';
CREATE TABLE holds AS SELECT got AS code, user_id, until_ms, until_ms - {HOLD_S * 1000} AS from_ms,
  sent_ms, sent_ms + took_ms + {HOLD_S * 1000} AS over_ms FROM answers
  WHERE op = 'lock' AND status = 201 AND NOT replayed AND book_id IN (SELECT book_id FROM books WHERE kind = 'held');
CREATE INDEX holds_code ON holds (code, sent_ms);
"""
"""What is told, used (by what was answered or recorded), given, unknown and held."""

RULES = (
    (
        "answered as it may not be",
        """SELECT kind, op, status, refusal, '×', count(*) FROM answers
        WHERE NOT wanted AND status BETWEEN 100 AND 499 GROUP BY 1, 2, 3, 4""",
    ),
    (
        "a server's error",
        """SELECT kind, op, status, refusal, '×', count(*) FROM answers
        WHERE status >= 500 AND status <> 503 GROUP BY 1, 2, 3, 4""",
    ),
    (
        "told to come again, and not when",
        """SELECT kind, op, status, refusal, 'Retry-After', quote(retry_after), '×', count(*) FROM answers
        WHERE status IN (429, 503) AND CAST(retry_after AS INTEGER) < 1 GROUP BY 1, 2, 3, 4, retry_after""",
    ),
    (
        "one Idempotency-Key, several answers",
        """SELECT op, key, group_concat(DISTINCT status), count(DISTINCT digest) FROM answers
        WHERE key <> '' AND status BETWEEN 200 AND 299 GROUP BY op, key HAVING count(DISTINCT digest) > 1""",
    ),
    (
        "answered, and not recorded",
        """SELECT 'redemption', redemption_id, code FROM told
        WHERE redemption_id NOT IN (SELECT redemption_id FROM redemptions)
        UNION ALL SELECT 'assignment', code, g.user_id FROM given g LEFT JOIN codes c USING (code)
        WHERE c.user_id IS NOT g.user_id""",
    ),
    (
        "recorded otherwise than answered",
        """SELECT redemption_id, t.book_id, t.code, t.user_id, t.order_id, t.amount, 'recorded as',
        r.book_id, r.code, r.user_id, r.order_id, r.amount
        FROM told t JOIN redemptions r USING (redemption_id)
        WHERE (r.book_id, r.code, r.user_id, r.order_id, r.amount, r.rolled_back)
        <> (t.book_id, t.code, t.user_id, t.order_id, t.amount, 0)""",
    ),
    (
        "recorded twice",
        "SELECT redemption_id, count(*) FROM redemptions GROUP BY redemption_id HAVING count(*) > 1",
    ),
    (
        "recorded, and answered to nobody",
        """SELECT 'redemption', redemption_id, code, user_id FROM redemptions
        WHERE redemption_id NOT IN (SELECT redemption_id FROM told)
        AND order_id NOT IN (SELECT order_id FROM unknown)
        UNION ALL SELECT 'assignment', c.code, c.user_id, '' FROM codes c LEFT JOIN given g USING (code)
        WHERE c.user_id <> '' AND g.code IS NULL AND c.user_id NOT IN (SELECT user_id FROM unknown)""",
    ),
    (
        "a code over its limit",
        """SELECT code, count(*), 'of', per_code FROM used JOIN books USING (book_id)
        GROUP BY code HAVING count(*) > per_code""",
    ),
    (
        "a user over the book's limit",
        """SELECT book_id, user_id, count(*), 'of', per_user FROM used JOIN books USING (book_id)
        GROUP BY book_id, user_id HAVING count(*) > per_user""",
    ),
    (
        "a book over its total",
        """SELECT book_id, count(*), 'of', total FROM used JOIN books USING (book_id)
        GROUP BY book_id HAVING count(*) > total""",
    ),
    (
        "more given than there is",
        """SELECT book_id, count(*), 'of', stock FROM given JOIN books USING (book_id)
        GROUP BY book_id HAVING count(*) > stock
        UNION ALL SELECT code, count(*), 'of', 1 FROM given GROUP BY code HAVING count(*) > 1""",
    ),
    (
        "an order with too many coupons",
        """SELECT order_id, count(*), 'of', coupons_per_order FROM used, workspace
        GROUP BY order_id HAVING count(*) > coupons_per_order""",
    ),
    (
        "said to be used up, and was not",
        """WITH heard AS (SELECT DISTINCT op, book_id, code, user_id, refusal FROM answers WHERE refusal <> '')
        SELECT 'book', b.book_id, total FROM heard h JOIN books b USING (book_id)
        WHERE kind = 'total' AND refusal = 'out_of_stock'
        AND (SELECT count(*) FROM used u WHERE u.book_id = b.book_id) < total
        UNION SELECT 'book', b.book_id, 'without a total' FROM heard h JOIN books b USING (book_id)
        WHERE op <> 'assign' AND refusal = 'out_of_stock' AND total IS NULL
        UNION SELECT 'stock', b.book_id, stock FROM heard h JOIN books b USING (book_id)
        WHERE op = 'assign' AND refusal = 'out_of_stock'
        AND (SELECT count(*) FROM codes c WHERE c.book_id = b.book_id AND user_id <> '') < stock
        UNION SELECT 'code', h.code, per_code FROM heard h JOIN books b USING (book_id)
        WHERE refusal IN ('coupon_exhausted', 'coupon_redeemed')
        AND (SELECT count(*) FROM used u WHERE u.code = h.code) < per_code
        UNION SELECT 'user', h.user_id, per_user FROM heard h JOIN books b USING (book_id)
        WHERE refusal = 'user_redemption_limit'
        AND (SELECT count(*) FROM used u WHERE u.book_id = h.book_id AND u.user_id = h.user_id) < per_user""",
    ),
    (
        "held by two at a time",
        """SELECT code, user_id, 'until', until_ms, 'and another from', next_ms FROM (
        SELECT *, lead(from_ms) OVER (PARTITION BY code ORDER BY from_ms, until_ms) AS next_ms FROM holds)
        WHERE next_ms < until_ms""",
    ),
    (
        "said to be locked, and nobody held it",
        f"""SELECT code, user_id, sent_ms FROM answers a JOIN books b USING (book_id)
        WHERE b.kind = 'held' AND refusal = 'coupon_locked' AND NOT EXISTS (SELECT * FROM holds h WHERE h.code = a.code
          AND h.sent_ms <= a.sent_ms + a.took_ms + {CLOCK_MS} AND h.over_ms >= a.sent_ms - {CLOCK_MS})
        AND NOT EXISTS (SELECT * FROM answers u
          WHERE u.op = 'lock' AND u.code = a.code AND (u.status = 0 OR u.refusal = 'outcome_unknown'))""",
    ),
    (
        "Redis counts otherwise than Postgres",
        "SELECT book_id, name, redis, 'and', postgres FROM counts WHERE redis <> postgres",
    ),
    (
        "the service's own comparison finds drift",
        "SELECT class, many FROM drift WHERE many <> 0",
    ),
    (
        "nothing was bought",
        "SELECT 'no answer has a redemption' WHERE NOT EXISTS (SELECT * FROM told)",
    ),
)
"""Each rule's breach in words, and the query that finds it: a row for each."""
