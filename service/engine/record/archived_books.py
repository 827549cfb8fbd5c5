"""Books that ended long ago leave Redis for good: `books.archived_at`. server/tasks/retention.py does it; openings and
comparisons leave archived books out, and changes of them are refused."""

import contextlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from asyncpg import Pool

from service.engine.domain.errors import Refusal
from service.engine.formats.event_id import START, EventId
from service.engine.record.audit_entries import write_audit
from service.engine.record.partitions.partition_rows import bump_config_version, under_lease
from service.engine.record.pool import LONG_S, Database
from service.engine.record.queries import query


class ArchivedBook(NamedTuple):
    """A book that leaves Redis, and the version of its row."""

    workspace: int
    book: int
    book_id: UUID
    version: int


class PastUse(NamedTuple):
    """A redemption of such a book."""

    redemption_id: UUID
    event: EventId
    user: str
    order: str | None


class HistoryStart(NamedTuple):
    """The event and the version after which Redis's facts and codes begin."""

    event: EventId
    version: int


class _Unchanged(Exception):
    """Undoes the transaction."""


async def check_here(database: Database, workspace: int, book: int) -> None:
    """Raises Refusal `book_archived`. In a transaction the book stays as it is until the end."""
    if await database.fetchval(query("lock_archived"), workspace, book):
        raise Refusal("book_archived")


async def find_archiving(database: Database, partition: int, limit: int) -> list[ArchivedBook]:
    """Archived books of which Redis may still have something."""
    return [ArchivedBook(*row) for row in await database.fetch(query("find_archiving_books"), partition, limit)]


async def find_ended(database: Database, partition: int, days: int, limit: int) -> list[ArchivedBook]:
    """The books that ended first, so many days ago or more, and have no running job."""
    return [ArchivedBook(*row) for row in await database.fetch(query("find_ended_books"), partition, days, limit)]


async def archive(
    pool: Pool, partition: int, fence: int, ended: ArchivedBook, days: int, counts: Sequence[int | str]
) -> bool:
    """Archive a book, with its last counts; return False if its end was moved, or a job has
    begun. Raises LeaseLost, and Refusal `recovering`."""
    book = ended.workspace, ended.book
    with contextlib.suppress(_Unchanged):
        async with under_lease(pool, partition, fence) as connection:
            version = await bump_config_version(connection, partition)
            if await connection.fetchval(query("archive_book"), *book, days, json.dumps(counts), version) is None:
                raise _Unchanged
            await connection.execute(query("note_removal"), partition)
            await write_audit(connection, ended.workspace, "book.archived", ended.book_id)
        return True
    return False


async def page_codes(database: Database, book: ArchivedBook, after: int, limit: int) -> tuple[int, list[str]]:
    """The next codes of a book after a position, and the last one's position."""
    rows = await database.fetch(query("page_archived_codes"), book.workspace, book.book, after, limit)
    return (rows[-1]["position"] if rows else after), [row["code"] for row in rows]


async def page_uses(database: Database, book: ArchivedBook, after: UUID, limit: int) -> list[PastUse]:
    """The next redemptions of a book after one."""
    rows = await database.fetch(query("page_archived_uses"), book.workspace, book.book, after, limit)
    return [PastUse(row[0], EventId(row[1], row[2]), row[3], row[4]) for row in rows]


async def free_orders(database: Database, book: ArchivedBook, uses: Sequence[PastUse]) -> None:
    """Remove the redemptions' places in orders."""
    placed = [use for use in uses if use.order is not None]
    args = [use.order for use in placed], [use.redemption_id for use in placed]
    await database.execute(query("free_archived_orders"), book.workspace, *args)


async def free_gifts(database: Database, book: ArchivedBook, codes: Sequence[str]) -> list[str]:
    """Let the orders whose gifts these codes are, or were, have others; return the orders."""
    return [row[0] for row in await database.fetch(query("free_archived_gifts"), book.workspace, list(codes))]


async def finish(pool: Pool, partition: int, fence: int, book: ArchivedBook) -> None:
    """Store that Redis has nothing of the book, under a new version: a Redis that has it has nothing of the book.
    Raises LeaseLost, and Refusal `recovering`."""
    async with under_lease(pool, partition, fence) as connection:
        version = await bump_config_version(connection, partition)
        await connection.execute(query("finish_archiving"), book.workspace, book.book, version)


async def archive_again(database: Database, partition: int, version: int) -> None:
    """Remove archived books again from a Redis that has this version of the configuration, but may have lost later
    writes."""
    await database.execute(query("archive_again"), partition, version)


async def read_last_counts(database: Database, book_id: UUID) -> list[int | str] | None:
    """An archived book's last counts, as the script book_stats returned them; None if the book is not archived."""
    counts = await database.fetchval(query("read_last_counts"), book_id)
    return counts and json.loads(counts)


async def drop_old_months(database: Database, days: int) -> list[str]:
    """Drop the oldest months of facts that are older than so many days and of archived books alone; their names. Some
    may be left for the next time."""
    return [row[0] for row in await database.fetch(query("drop_old_months"), days, timeout=LONG_S)]


async def read_facts_from(database: Database) -> datetime | None:
    """Facts of earlier times were dropped; None if none were."""
    return await database.fetchval(query("read_facts_from"))


async def read_history_start(database: Database, partition: int) -> HistoryStart:
    """Where the history of the books that are in Redis begins."""
    row = await database.fetchrow(query("history_start"), partition)
    return HistoryStart(EventId(row[0], row[1]), row[2]) if row else HistoryStart(START, 0)
