"""A partition of opening_fixtures.py whose facts happened long ago, in a month that can be archived."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest_asyncio

from service.formats.month_archive import month_name
from service.hot.connection import Broken
from service.record.facts.month_archiver import Kept, MonthArchiver
from service.record.facts.month_restorer import MonthRestorer
from tests.integration.opening_fixtures import Life, Place
from tests.integration.retiring_fixtures import end_book, move, where_is

BOOKS = (1, 2, 3)
TABLES = ("assignments", "unassignments", "redemptions", "rollbacks", "stock_notices")
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
    ("stock_notices", "recorded_at"), ("open_assignments", "assigned_at"),
)  # fmt: skip
_COMPARED = (
    "assignments", "unassignments", "redemptions", "rollbacks", "stock_notices", "open_assignments", "single_uses",
    "order_uses", "books", "codes", "users", "archived_codes", "archived_months",
)  # fmt: skip


async def make_old(place: Place) -> date:
    """Move all facts 100 days back, and forget the orders; return the facts' month. Redis is rebuilt from them."""
    async with place.pool.acquire() as connection, connection.transaction():
        month: Any = await connection.fetchval(f"SELECT date_trunc('month', (now() - {AGE}) AT TIME ZONE 'UTC')::date")
        for function in ("create_month", "attach_month"):
            await connection.execute(f"SELECT {function}($1)", month)
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
async def retired_month(place: Place, old_month: date) -> str:
    """Its name, with all books retired."""
    await retire(place)
    return month_name(old_month)


class DyingConnection(asyncpg.Connection):
    """A connection that breaks before its n-th command; also those of transactions, as BEGIN and COMMIT."""

    life = Life()

    async def execute(self, *args: Any, **options: Any) -> Any:
        self._step()
        return await super().execute(*args, **options)

    async def _execute(self, *args: Any, **options: Any) -> Any:
        self._step()
        return await super()._execute(*args, **options)

    async def _copy_out(self, *args: Any, **options: Any) -> Any:
        self._step()
        return await super()._copy_out(*args, **options)

    async def _copy_in(self, *args: Any, **options: Any) -> Any:
        self._step()
        return await super()._copy_in(*args, **options)

    def _step(self) -> None:
        try:
            self.life.step()
        except Broken:
            self.terminate()
            raise


@asynccontextmanager
async def _connect(url: str, dies_after: int) -> AsyncIterator[asyncpg.Connection]:
    DyingConnection.life = Life(dies_after)
    connection = await asyncpg.connect(url, connection_class=DyingConnection)
    try:
        yield connection
    finally:
        connection.terminate()


async def archive(url: str, folder: Path, dies_after: int = -1) -> dict[str, str]:
    """Archive what can be; return each month with the reason why it stays, or ''. Raises Broken."""
    async with _connect(url, dies_after) as connection:
        archiver = MonthArchiver(connection, folder)
        done = {month_name(month): "" for month in (await archiver.finish_earlier())[0]}
        for month in await archiver.months_before(datetime.now(UTC).date().replace(day=1)):
            try:
                await archiver.move(month, _ignore)
                done[month_name(month.month)] = ""
            except Kept as reason:
                done[month_name(month.month)] = str(reason)
        return done


async def restore(url: str, folder: Path, dies_after: int = -1) -> list[str]:
    """Restore the months of a directory; return those that were absent. Raises Broken, Kept, DamagedArchive."""
    async with _connect(url, dies_after) as connection:
        await MonthArchiver(connection, folder).finish_earlier()
        restorer = MonthRestorer(connection)
        months = [month for month in await restorer.read_months(folder) if month.is_archived]
        restorer.check(months, _ignore)
        for month in months:
            await restorer.restore(month, _ignore)
        return [month_name(month.month) for month in months]


async def read_tables(pool: asyncpg.Pool) -> dict[str, list[str]]:
    """All rows, as text, in order."""
    return {
        table: [row[0] for row in await pool.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")] for table in _COMPARED
    }


def _ignore(_done: int) -> None:
    """Progress that nobody sees."""
