"""A shop's past redemptions, written straight into Postgres as the worker would have recorded them."""

from typing import Any

import asyncpg

CODES_A_VERSION = 5_000
"""As in an upload."""
_EPOCH = 0
"""Of these events; before the service's first."""

# A code by its number, an id by a redemption's. Redemption n is of code n * 7919 % codes: distinct, in mixed order.
_FUNCTIONS = """
CREATE FUNCTION pg_temp.code(n bigint) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT upper(substr(md5(n::text), 1, 4) || '-' || substr(md5(n::text), 5, 4) || '-' || lpad(to_hex(n), 6, '0'))
$$;
CREATE FUNCTION pg_temp.redemption(n bigint, at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '70008' || lpad(to_hex(n), 15, '0'))::uuid
$$;
"""
_VERSIONS = "UPDATE config_versions SET version = version + $2 WHERE partition = $1 RETURNING version - $2"
_CODES = """
INSERT INTO codes (version, workspace, book, partition, code)
SELECT $2 + 1 + n / $5, $1, ($3::int[])[1 + n / $5 % cardinality($3::int[])], $6, pg_temp.code(n)
FROM generate_series(0, $4::bigint - 1) AS n
"""
_COUNTS = f"""
UPDATE books SET
  code_count = (SELECT count(*) FROM codes WHERE codes.workspace = $1 AND codes.book = books.book),
  after_epoch = {_EPOCH}, after_seq = $3
WHERE workspace = $1 AND book = ANY ($2::int[])
"""
_EVENTS = """
CREATE TEMP TABLE events AS
SELECT
  $5::bigint + n AS seq, code, 'user-' || n % ($2::bigint / 3 + 1) AS user_id, 'order-' || md5(n::text) AS order_id,
  pg_temp.redemption(n, at) AS redemption_id, at, book
FROM generate_series(1, $2::bigint) AS n
CROSS JOIN LATERAL (SELECT date_trunc('milliseconds', now()) - ($2 - n) * interval '1 ms' AS at) AS times
CROSS JOIN LATERAL (SELECT n * 7919 % $3::bigint AS i) AS numbers
CROSS JOIN LATERAL (SELECT pg_temp.code(i) AS code, ($1::int[])[1 + i / $4 % cardinality($1::int[])] AS book) AS codes
"""
_FACTS = (
    f"""
INSERT INTO redemptions (
  partition, epoch, seq, workspace, book, code, user_id, order_id, redemption_id, order_value, currency, digits,
  discount_amount, redeemed_at, slot, max_redemptions, ip, user_agent, metadata
)
SELECT
  $2::int, {_EPOCH}, seq, $1::int, book, code, user_id, order_id, redemption_id, 100, 'USD', 2, 20, at, 1, 1,
  '203.0.113.7', 'shop/1.0', '{{}}'
FROM events ORDER BY seq
""",
    """
INSERT INTO order_uses (workspace, order_id, slot, redemption_id)
SELECT $1::int, order_id, 1, redemption_id FROM events WHERE $2::int IS NOT NULL
""",
    """
INSERT INTO single_uses (workspace, code, redemption_id)
SELECT $1::int, code, redemption_id FROM events WHERE $2::int IS NOT NULL
""",
    f"""
INSERT INTO idempotency_keys (workspace, key, op, epoch, seq, at, entry)
SELECT $1::int, 'key-' || order_id, 'redeem', {_EPOCH}, seq, at, md5(code) || ' 0 @.'
FROM events WHERE seq % $3::int = 0 AND $2::int IS NOT NULL
""",
)
_TABLES = "codes, redemptions, order_uses, single_uses, idempotency_keys"


async def write_past(
    connection: asyncpg.Connection, workspace: int, partition: int, books: list[int], codes: int, redemptions: int,
    keyed: int, *, after: int = 0,
) -> None:  # fmt: skip
    """Write single-use codes, shared among the books, and redemptions of them, at most as many: each of another code,
    with user, order and value, and every `keyed`th under an Idempotency-Key; as the events after number `after`.
    Once for each connection."""
    if redemptions > codes or codes % 7919 == 0:
        raise ValueError("each redemption needs a code of its own")
    await connection.execute(_FUNCTIONS)
    async with connection.transaction():
        versions = -(-codes // CODES_A_VERSION)
        version = await connection.fetchval(_VERSIONS, partition, versions)
        await connection.execute(_CODES, workspace, version, books, codes, CODES_A_VERSION, partition)
        await connection.execute(_COUNTS, workspace, books, after)
        await connection.execute(_EVENTS, books, redemptions, codes, CODES_A_VERSION, after)
        for table in _FACTS:
            more: tuple[Any, ...] = (keyed,) if "$3" in table else ()
            await connection.execute(table, workspace, partition, *more)
    await connection.execute(f"VACUUM (ANALYZE) {_TABLES}")
    await connection.execute("CHECKPOINT")


async def some_of_past(connection: asyncpg.Connection, many: int) -> list[tuple[str, str]]:
    """Random redeemed codes with their users."""
    some = "SELECT code, user_id FROM redemptions WHERE epoch = $1 ORDER BY random() LIMIT $2"
    return [(row["code"], row["user_id"]) for row in await connection.fetch(some, _EPOCH, many)]
