"""Books with budgets or limits of uses, and what was redeemed of them: budget_counter.py counts that in Redis, where
comparisons expect it."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

import asyncpg

from service.engine.domain.configuration import BookRow
from service.engine.formats.bounds import Span, Spent
from service.engine.formats.event_id import EventId
from service.engine.record.configuration_rows import book_row
from service.engine.record.partitions.partition_rows import bump_config_version
from service.engine.record.pool import LONG, Database, open_cursor, set_locally
from service.engine.record.queries import query
from service.server.in_postgres.book_rows import read_book

USERS_A_PAGE = 400


class BudgetedBook(NamedTuple):
    """A book with budgets or limits of uses, and the offset of its workspace's clock."""

    row: BookRow
    offset_ms: int


class SpentByUser(NamedTuple):
    """What a user has spent of a book, by period."""

    user_id: str
    spent: dict[str, Spent]


async def budgeted_books(database: Database, partition: int, workspace: int | None = None) -> list[BudgetedBook]:
    """Those of the partition, or of one workspace, that are not archived for good."""
    records = await database.fetch(query("budgeted_books"), partition, workspace)
    return [BudgetedBook(book_row(record), record["clock_offset_ms"]) for record in records]


async def is_counted(database: Database, workspace: int, book: int, counted_from: int) -> bool:
    """Whether Redis has counted what was redeemed before the book had budgets; False for another generation."""
    return bool(await database.fetchval(query("is_counted"), workspace, book, counted_from))


async def note_counted(pool: asyncpg.Pool, row: BookRow) -> BookRow | None:
    """Store that Redis has counted all under this generation; None if the book has another by now."""
    async with pool.acquire() as connection, connection.transaction():
        version = await bump_config_version(connection, row.partition)
        values = (row.workspace, row.book, row.counted_from, version)
        if await connection.fetchval(query("note_counted"), *values) is None:
            return None
        return await read_book(connection, row.workspace, row.book_id)


async def spent_of_book(database: Database, row: BookRow, at: EventId, spans: Sequence[Span]) -> dict[str, Spent]:
    """What was redeemed of the book up to an event and not given back, by period: lifetime, day, month."""
    values = await database.fetchrow(query("spent_of_book"), *_about(row, at, spans))
    return _by_period(values, spans)


async def spent_of_users(
    pool: asyncpg.Pool, row: BookRow, at: EventId, spans: Sequence[Span], after: str = ""
) -> AsyncGenerator[list[SpentByUser], None]:
    """Pages of the same by users, in their order, after one; the last page is shorter. Close it."""
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await set_locally(connection, LONG)
        cursor = await open_cursor(connection, query("spent_of_users"), *_about(row, at, spans), after, None)
        while True:
            page = await cursor.fetch(USERS_A_PAGE)
            yield _of_users(page, spans)
            if len(page) < USERS_A_PAGE:
                return


async def spent_of_these(
    database: Database, row: BookRow, at: EventId, spans: Sequence[Span], users: Sequence[str]
) -> list[SpentByUser]:
    """The same of these users."""
    rows = await database.fetch(query("spent_of_users"), *_about(row, at, spans), "", list(users))
    return _of_users(rows, spans)


def _about(row: BookRow, at: EventId, spans: Sequence[Span]) -> tuple[Any, ...]:
    _, day, month = spans
    return (row.partition, row.workspace, *at, row.book, *day[1:], *month[1:])


def _of_users(rows: Sequence[Any], spans: Sequence[Span]) -> list[SpentByUser]:
    return [SpentByUser(row["user_id"], _by_period(tuple(row)[1:], spans)) for row in rows]


def _by_period(values: Any, spans: Sequence[Span]) -> dict[str, Spent]:
    """Without periods in which nothing was spent."""
    numbers = list(map(int, values))
    pairs = zip(spans, numbers[::2], numbers[1::2], strict=True)
    return {span.name: Spent(amount_e4, uses) for span, amount_e4, uses in pairs if uses}
