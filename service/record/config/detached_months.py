"""Refusals of what needs facts of detached months (docs/decisions/0053-detached-months.md). What a request shows of a
book's facts, a code's or a redemption's is read in the transaction of `whole_book`, `whole_code` or
`whole_redemption`, in which no month can be detached; a list over all books is checked before and after."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import date
from functools import partial
from typing import TypeVar
from uuid import UUID

from asyncpg import Pool

from service.domain.errors import Refusal
from service.domain.times import to_datetime
from service.domain.uuids import time_ms_of
from service.record.pool import Connection, Database
from service.record.queries import query

MAX_MONTHS = 24
"""Months that a refusal names."""

T = TypeVar("T")


async def check_book(database: Database, workspace: int, book: int) -> None:
    """Raises Refusal `month_detached` if facts of the book may be in detached months."""
    _refuse(await database.fetchval(query("detached_months_of_book"), workspace, book))


async def _check_code(database: Database, workspace: int, code: str) -> None:
    """As check_book, for the book of a code."""
    _refuse(await database.fetchval(query("detached_months_of_code"), workspace, code))


async def check_open(transaction: Connection, workspace: int, book: int) -> None:
    """As check_book, if the book has not ended: it would return to Redis. Until the end no month can be detached."""
    await transaction.execute(query("keep_months"))
    _refuse(await transaction.fetchval(query("detached_months_of_open_book"), workspace, book))


async def _check_redemption(database: Database, workspace: int, redemption_id: UUID) -> None:
    """Raises Refusal `month_detached` if an unknown redemption may be in a detached month, by the month in its id."""
    at_ms = time_ms_of(redemption_id)
    if at_ms is None:
        return
    month = to_datetime(at_ms).date().replace(day=1)
    if await database.fetchval(query("is_detached"), workspace, month):
        _refuse([month])


@asynccontextmanager
async def _whole(
    check: Callable[[Database, int, T], Awaitable[None]], pool: Pool, workspace: int, name: T
) -> AsyncIterator[Connection]:
    """A transaction for reads of the facts of a book, of a code's book, or of one redemption, during which no month can
    be detached. Raises Refusal `month_detached` if some facts may be in detached months."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(query("keep_months"))
        await check(connection, workspace, name)
        yield connection


whole_book, whole_code = partial(_whole, check_book), partial(_whole, _check_code)
whole_redemption = partial(_whole, _check_redemption)


async def read_detached_to(database: Database, workspace: int) -> str | None:
    """The newest detached month that may have facts of the workspace: lists over all books leave them out."""
    month = await database.fetchval(query("detached_to"), workspace)
    return month and _name_month(month)


async def with_detached_to(
    database: Database, workspace: int, read: Callable[[], Awaitable[T]]
) -> tuple[T, str | None]:
    """What this reads over all books, and the newest month that it may have left out. It misses a month that was
    detached and attached again between the two checks."""
    before = await read_detached_to(database, workspace)
    result = await read()
    after = await read_detached_to(database, workspace)
    return result, max(before or "", after or "") or None


def _refuse(months: Sequence[date] | None) -> None:
    if not months:
        return
    names = ", ".join(map(_name_month, months[:MAX_MONTHS]))
    more = f" and {len(months) - MAX_MONTHS} more" if len(months) > MAX_MONTHS else ""
    raise Refusal(
        "month_detached",
        f"This needs facts of months that are detached from Postgres: {names}{more}. An operator can attach them "
        "again: docs/restore.md says how.",
    )


def _name_month(month: date) -> str:
    return f"{month:%Y-%m}"
