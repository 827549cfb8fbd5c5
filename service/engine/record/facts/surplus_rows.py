"""Queries about surplus: what Redis has and an older Postgres lacks (docs/internals/decisions/0077-recover.md).
surplus_survey.py, surplus_carrier.py, partition_opening.py and unrecorded_events.py call this. Structs have the query's
columns, in their order."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from service.engine.formats.event_id import EventId
from service.engine.record.pool import Connection, Database
from service.engine.record.queries import query


class NamedEvent(NamedTuple):
    """An event of a code; its time and its `d` if they are known."""

    at: EventId
    workspace: int
    code: str
    at_ms: int | None = None
    d: bytes | None = None


class PartitionBook(NamedTuple):
    """A book that is not archived: Redis must have its codes."""

    workspace: int
    book: int
    book_id: str
    code_count: int


async def find_known_events(database: Database, partition: int, events: Sequence[NamedEvent]) -> dict[EventId, bool]:
    """Which of these events are recorded (True) or only in quarantine (False), in any partition of their workspace."""
    if not events:
        return {}
    ids, *columns = zip(*events, strict=True)
    rows = await database.fetch(query("known_events"), partition, *zip(*ids, strict=True), *columns)
    return {EventId(row["epoch"], row["seq"]): row["is_recorded"] for row in rows}


async def read_partition_books(database: Database, partition: int) -> list[PartitionBook]:
    return [PartitionBook(*row) for row in await database.fetch(query("partitions_books"), partition)]


async def count_uses_by_user(
    database: Database, workspace: int, users: Collection[str]
) -> Mapping[tuple[str, int], int]:
    """How often users have redeemed of books, by user and book, without what was given back."""
    rows = await database.fetch(query("taken_by_users"), workspace, list(users))
    return {(row["user_id"], row["book"]): row["uses"] for row in rows}


async def switch_off_book(connection: Connection, workspace: int, book: int) -> str | None:
    """Take an active book out of sale, and return its id; None for another."""
    book_id = await connection.fetchval(query("switch_off_book"), workspace, book)
    return book_id and str(book_id)


async def draw_epoch(database: Database) -> int:
    """A new number of an epoch, for events that no Redis has numbered."""
    return int(await database.fetchval(query("draw_epoch")) or 0)
