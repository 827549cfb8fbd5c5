"""A partition of opening_fixtures.py whose facts happened long ago, in a month that can be detached."""

from datetime import date
from typing import Any

import asyncpg
import pytest_asyncio

from tests.integration.histories.retiring_fixtures import end_book, move, where_is
from tests.integration.opening.opening_fixtures import Place

BOOKS = (1, 2, 3)
FACTS = ("assignments", "unassignments", "redemptions", "rollbacks", "stock_notices")
AGE = "interval '100 days'"
_OLDER = """
UPDATE {0} SET redemption_id =
  (lpad(to_hex(('x0000' || left(hex, 12))::bit(64)::bigint - 8640000000), 12, '0') || substr(hex, 13))::uuid
FROM (SELECT redemption_id AS id, replace(redemption_id::text, '-', '') AS hex FROM {0}) AS old
WHERE redemption_id = id"""
_WITH_IDS = ("redemptions", "rollbacks", "single_uses")
_TIMES = (
    ("assignments", "assigned_at"), ("unassignments", "unassigned_at"), ("unassignments", "assigned_at"),
    ("redemptions", "redeemed_at"), ("rollbacks", "rolled_back_at"), ("stock_notices", "noticed_at"),
    ("stock_notices", "recorded_at"), ("open_assignments", "assigned_at"), ("books", "created_at"),
)  # fmt: skip
_CREATE = """
CREATE TABLE {0}_{1:%Y_%m} (LIKE {0} INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS INCLUDING INDEXES)"""


async def make_old(place: Place) -> date:
    """Move all facts 100 days back, and forget the orders; return the facts' month. Redis is rebuilt from them."""
    async with place.pool.acquire() as connection, connection.transaction():
        month: Any = await connection.fetchval(f"SELECT date_trunc('month', (now() - {AGE}) AT TIME ZONE 'UTC')::date")
        for table in FACTS:
            await connection.execute(_CREATE.format(table, month))
        await connection.execute("INSERT INTO fact_months VALUES ($1)", month)
        await connection.execute("SELECT attach_month($1)", month)
        for table in _WITH_IDS:
            await connection.execute(_OLDER.format(table))
        for table, column in _TIMES:
            await connection.execute(f"UPDATE {table} SET {column} = {column} - {AGE}")
        await connection.execute("DELETE FROM order_uses; DELETE FROM idempotency_keys")
        await connection.execute("UPDATE open_assignments SET order_id = NULL")
        await connection.execute(f"UPDATE workspaces SET orders_since = date_trunc('hour', now() - {AGE} / 2)")
    await place.rebuild()
    return month


async def retire(place: Place, *books: int) -> None:
    for book in books or BOOKS:
        await end_book(place, 31, book)
        await move(place)
        assert await where_is(place, book) == "retired"


@pytest_asyncio.fixture
async def old_month(place: Place) -> date:
    """The month in which all facts happened; all books are still in use."""
    return await make_old(place)


@pytest_asyncio.fixture
async def retired_month(place: Place, old_month: date) -> date:
    """The same, with all books retired."""
    await retire(place)
    return old_month


async def detach(pool: asyncpg.Pool, month: date) -> None:
    """Detach a month, as docs/restore.md says; again while its tables are in use."""
    await _repeat(pool, "detach_month", month)


async def attach(pool: asyncpg.Pool, month: date) -> None:
    """Attach a month's tables again."""
    await _repeat(pool, "attach_month", month)


async def _repeat(pool: asyncpg.Pool, function: str, month: date) -> None:
    for _ in range(60):
        try:
            await pool.execute(f"SELECT {function}($1)", month)
            return
        except asyncpg.LockNotAvailableError:
            continue
    raise AssertionError("the month's tables are in use")


async def read_facts(pool: asyncpg.Pool) -> dict[str, list[str]]:
    """All facts, as text, in order."""
    return {table: [row[0] for row in await pool.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")] for table in FACTS}
