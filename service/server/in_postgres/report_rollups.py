"""Compare the roll-ups of reports with the facts, and correct them (docs/internals/decisions/0092-reports.md).
report_comparison.py calls this, and the doctor for a quick look. A new count runs event_writer.py's statements, in a
transaction whose tables are empty copies."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from service.engine.record.pool import BY_INDEX, LONG, Connection, open_cursor, set_locally
from service.engine.record.queries import query

EVENTS_AT_ONCE = 20_000
ROWS_AT_ONCE = 1000
NEWEST, NEWEST_HOURS, MOST_OF_HOUR = 5000, 10, 5000
"""Of so many redemptions a quick comparison takes at most so many hours of books, with at most so many redemptions."""
_COUNTING = LONG | BY_INDEX | {"jit": "off", "idle_in_transaction_session_timeout": "300s", "work_mem": "64MB"}
_FIRST, _LAST = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"


async def compare_rollups(pool: asyncpg.Pool, partition: int, repair: bool, progress: Callable[[int], None]) -> int:
    """The number of hours, by book and currency, and of days of cards, that differ from the facts of a partition's
    workspaces, as of the beginning. With `repair` the differences are added to the roll-ups, while workers add
    others. Raises PostgreSQL's errors."""
    async with _own_rollups(pool, partition) as own:
        await own.execute(query("report_issued_codes"), partition)
        epoch, seq, counted = 0, -1, 0
        while event := await own.fetchrow(query("next_fact"), partition, epoch, seq):
            epoch, first = event
            seq = first + EVENTS_AT_ONCE - 1
            events = (partition, epoch, first, seq)
            await own.execute(query("report_redemptions"), *events, _FIRST, _LAST)
            await own.execute(query("report_assignments"), *events, "-infinity", "infinity")
            await own.execute(query("report_cards"), *events)
            back = await own.fetchval(query("rolled_back_by"), *events)
            await own.execute(query("report_rollbacks"), back)
            await own.execute(query("report_returned"), back)
            counted += 1
            progress(counted)
        async with pool.acquire() as stored:
            if repair:
                async for users in _pages(own, "unknown_report_users"):
                    await stored.executemany(query("store_report_user"), users)
            differing = 0
            async for hours in _pages(own, "rollup_differences", partition):
                differing += len(hours)
                if repair:
                    await stored.executemany(query("add_to_rollups"), hours)
            async for days in _pages(own, "card_differences", partition):
                differing += len(days)
                if repair:
                    await stored.executemany(query("add_to_card_sums"), days)
        return differing


async def compare_newest_hours(connection: Connection, partition: int, timeout_s: float) -> tuple[int, int]:
    """How many hours of books were compared, of those with the partition's newest redemptions, and how many of them
    differ from the facts. Raises TimeoutError, and PostgreSQL's errors."""
    bounds = (NEWEST, NEWEST_HOURS, MOST_OF_HOUR)
    row: Any = await connection.fetchrow(query("compare_newest_hours"), partition, *bounds, timeout=timeout_s)
    return row[0], row[1]


@asynccontextmanager
async def _own_rollups(pool: asyncpg.Pool, partition: int) -> AsyncIterator[Connection]:
    """A transaction that reads the facts as they are now, and counts into empty roll-ups of its own."""
    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
        await set_locally(connection, _COUNTING)
        await connection.execute(query("hide_rollups"))
        yield connection


async def _pages(connection: Connection, name: str, *args: Any) -> AsyncIterator[list[Any]]:
    rows = await open_cursor(connection, query(name), *args)
    while page := await rows.fetch(ROWS_AT_ONCE):
        yield [tuple(row) for row in page]
