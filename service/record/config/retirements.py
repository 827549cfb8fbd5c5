"""Books whose codes leave Redis, or return to it (docs/decisions/0048). book_retirer.py does the steps; openings,
comparisons and reads of codes ask for the state, and whatever needs a book's codes in Redis orders a return. A step's
number is in Redis, too: Redis changes first, then Postgres stores the step. Names in `counts` are those of Redis's
counters, stored as JSON."""

import asyncio
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from service.domain.errors import Refusal
from service.formats.coupon_state import entry_of
from service.formats.event_id import END, START, EventId
from service.record.config import detached_months
from service.record.config.stored_json import encode_json
from service.record.facts.forgotten_orders import free_orders
from service.record.partitions import comparisons
from service.record.partitions.partition_rows import fetch_fenced, under_lease
from service.record.pool import Database
from service.record.queries import query

Book = tuple[int, int]
"""A book's workspace and number."""

RETURN_S, POLL_S = 2.0, 0.25
"""So long a change of configuration waits for a book to return: a worker notices the order within half a second, and a
code takes up to 0.3 ms. Hot requests don't wait: there may be thousands a second."""
_RETURNING = (
    "The book ended long ago, and its codes are returning to Redis. Nothing was changed; repeat the request after "
    "`Retry-After` seconds."
)


class MovingBook(NamedTuple):
    """A book that is leaving Redis, or returning."""

    workspace: int
    book: int
    retirement: Literal["leaving", "returning"]


class RetiredBook(NamedTuple):
    """A book that Redis has no codes of, with its counters."""

    workspace: int
    book: int
    counts: dict[str, str]


class HistoryStart(NamedTuple):
    """What Redis holds came after this event, its codes after this version."""

    event: EventId
    version: int


class PastUse(NamedTuple):
    """A redemption of a book that moves."""

    redemption_id: UUID
    event: EventId
    user: str
    order: str | None


async def bring_back(pool: asyncpg.Pool, workspace: int, book: int, *, wait_s: float) -> None:
    """Order a book's return, and wait for it. Raises Refusal `unavailable` if Redis may lack its codes even then,
    `month_detached` if it can't return."""
    deadline = time.monotonic() + wait_s
    async with detached_months.whole_book(pool, workspace, book) as connection:
        is_away = await connection.fetchval(query("order_return"), workspace, book) is not None
    while is_away:
        if time.monotonic() >= deadline:
            raise Refusal.temporary("unavailable", _RETURNING)
        await asyncio.sleep(POLL_S)
        is_away = await pool.fetchval(query("lock_retirement"), workspace, book) is not None


async def retired_state(database: Database, partition: int, workspace: int, code: str) -> str:
    """A code's directory entry and record for lua/includes/retired.lua; '' if its book is in Redis, or unknown."""
    if await database.fetchval(query("retirement_of_code"), workspace, code) is None:
        return ""
    recorded = await comparisons.codes(database, partition, workspace, END, [code], retired=True)
    entry, record = entry_of(recorded[code])
    return f"{entry} {record or ''}"


async def next_moving_book(database: Database, partition: int, days: int) -> MovingBook | None:
    """A book that is moving; else the next that ended so many days ago (0: none), which leaves from now on."""
    row = await database.fetchrow(query("next_moving_book"), partition)
    if row is None and days:
        row = await database.fetchrow(query("retire_ended_book"), partition, days)
    return row and MovingBook(*row)


async def is_leaving(database: Database, moved: MovingBook) -> bool:
    return await database.fetchval(query("lock_retirement"), moved.workspace, moved.book) == "leaving"


async def order_return(database: Database, workspace: int, book: int) -> None:
    await database.execute(query("order_return"), workspace, book)


async def returning_books(database: Database, partition: int) -> list[Book]:
    return [(row[0], row[1]) for row in await database.fetch(query("returning_books"), partition)]


def to_arrays(books: Sequence[Book]) -> tuple[list[int], list[int]]:
    """The books' workspaces and numbers, as queries take them."""
    return [workspace for workspace, _ in books], [book for _, book in books]


async def read_step(database: Database, partition: int) -> tuple[int, bool]:
    """The number of the last step that is complete, and whether a book is moving: Redis may be a step further then."""
    row = await database.fetchrow(query("retirement_step"), partition)
    return (row["retirements"], row["is_moving"]) if row else (0, False)


async def finish_step(
    pool: asyncpg.Pool, partition: int, fence: int, step: int, moved: MovingBook, counts: dict[str, str] | None
) -> None:
    """Store that a book has left, unless it is to return by now; with None, that it has returned. Raises LeaseLost."""
    async with pool.acquire() as connection, connection.transaction():
        await fetch_fenced(connection, "finish_retirement_step", partition, fence, step)
        if counts is None:
            await connection.execute(query("mark_returned"), moved.workspace, moved.book)
        else:
            await connection.execute(query("mark_retired"), moved.workspace, moved.book, encode_json(counts))


async def page_retired_books(
    database: Database, partition: int, after: Book, limit: int, returning: Sequence[Book]
) -> list[RetiredBook]:
    """The next retired books after one. One whose return was ordered is still retired, unless it is in `returning`."""
    rows = await database.fetch(query("page_retired_books"), partition, *after, limit, *to_arrays(returning))
    return [RetiredBook(row["workspace"], row["book"], msgspec.json.decode(row["retired_counts"])) for row in rows]


async def read_history_start(database: Database, partition: int) -> HistoryStart:
    """Where the history of the books that are not retired begins."""
    row = await database.fetchrow(query("history_start"), partition)
    return HistoryStart(EventId(row[0], row[1]), row[2]) if row else HistoryStart(START, 0)


async def page_codes(database: Database, moved: MovingBook, after: int, limit: int) -> tuple[int, list[str]]:
    """The next codes of a book after a position, and the last one's position."""
    rows = await database.fetch(query("page_retiring_codes"), moved.workspace, moved.book, after, limit)
    return (rows[-1]["position"] if rows else after), [row["code"] for row in rows]


async def page_uses(database: Database, moved: MovingBook, after: UUID, limit: int) -> list[PastUse]:
    """The next redemptions of a book after one."""
    rows = await database.fetch(query("page_retiring_redemptions"), moved.workspace, moved.book, after, limit)
    return [PastUse(row[0], EventId(row[1], row[2]), row[3], row[4]) for row in rows]


async def page_standing(
    database: Database, partition: int, workspace: int, code: str, after: EventId, limit: int
) -> list[EventId]:
    """The next standing redemptions of a code after one."""
    rows = await database.fetch(query("page_standing_redemptions"), partition, workspace, code, *after, limit)
    return [EventId(*row) for row in rows]


async def forget_orders(
    pool: asyncpg.Pool, partition: int, fence: int, moved: MovingBook, uses: Sequence[PastUse]
) -> None:
    """Delete the places that these redemptions have in orders. Raises LeaseLost."""
    places = [(moved.workspace, use.order, use.redemption_id) for use in uses if use.order is not None]
    async with under_lease(pool, partition, fence) as connection:
        await free_orders(connection, places)


async def remember_orders(pool: asyncpg.Pool, partition: int, fence: int, uses: Sequence[PastUse]) -> None:
    """Insert these places again, where the order was not used again meanwhile. Raises LeaseLost."""
    async with under_lease(pool, partition, fence) as connection:
        await connection.execute(query("remember_orders"), [use.redemption_id for use in uses])


async def has_gifts(database: Database, workspace: int, codes: Sequence[str]) -> bool:
    """Whether one of these codes is a remembered order's gift."""
    return bool(await database.fetch(query("gifts_of_codes"), workspace, list(codes)))
