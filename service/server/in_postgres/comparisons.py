"""The record's side of a comparison with Redis: what Redis should hold after an event; turns; results. reconcile/ calls
this; so do comparison_runner.py, consistency.py and the doctor for turns and results, and tasks that move data. Turns,
Use and RecordedCode have the query's columns, in their order. Results are JSON by class, which the API and webhooks
show."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast

import asyncpg
import msgspec

from service.engine.formats.coupon_state import Class
from service.engine.formats.event_id import EventId
from service.engine.record import pool
from service.engine.record.pool import LONG, LONG_S, Connection, Database, open_cursor, set_locally
from service.engine.record.queries import query
from service.engine.record.stored_json import encode_json
from service.server.in_postgres.webhook_rows import notify_webhooks

PAGE_ROWS = 5000
# A whole pass sorts and joins all of a workspace, and holds one transaction while Redis is read.
PASS = LONG | {"idle_in_transaction_session_timeout": "300s", "work_mem": "64MB", "enable_nestloop": "off"}


class Removals(NamedTuple):
    """How often books began to leave a partition's Redis, and whether one is leaving."""

    begun: int
    are_running: bool


class Use(NamedTuple):
    """The expected value of a field of an orders' bucket (`o`) or a gifts' bucket (`g`)."""

    bucket: int
    kind: str
    field: str
    expected: str


class LastComparison(msgspec.Struct, frozen=True):
    """A workspace's last comparison: its cut, its time, and the remaining differences by class."""

    at: EventId
    when: datetime
    left: dict[str, int]


async def connect(database_url: str) -> asyncpg.Pool:
    """A pool for a comparison: for the pass, and the examinations beside it."""
    return await pool.connect(database_url, name="scrip-reconcile", max_size=6, command_timeout_s=LONG_S)


async def connect_replica(database_url: str) -> asyncpg.Pool:
    """A pool for the first pass. The replica may be away."""
    options: dict[str, Any] = {"min_size": 0, "max_size": 2, "command_timeout_s": LONG_S, "is_replica": True}
    return await pool.connect(database_url, name="scrip-reconcile-reads", **options)


async def stream(connection: Connection, name: str, *args: Any) -> AsyncGenerator[list[Any], None]:
    """Yield the rows of a whole pass in pages, and fetch the next page in the background. Close it."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await set_locally(connection, PASS)
        cursor = await open_cursor(connection, query(name), *args)
        fetching: asyncio.Task[list[Any]] = asyncio.ensure_future(cursor.fetch(PAGE_ROWS))
        try:
            while rows := await fetching:
                fetching = asyncio.ensure_future(cursor.fetch(PAGE_ROWS))
                yield rows
        finally:
            await asyncio.gather(fetching, return_exceptions=True)


async def codes_in_buckets(database: Database, workspace: int, buckets: Sequence[int]) -> list[str]:
    return [row[0] for row in await database.fetch(query("codes_in_buckets"), workspace, list(buckets))]


async def uses(
    database: Database,
    partition: int,
    workspace: int,
    at: EventId,
    orders: Sequence[str],
    users: Sequence[str],
    events: Sequence[EventId],
) -> list[Use]:
    """What the orders and users have used after an event. `events` are of redemptions that have places in the
    orders, but may lack a row in order_uses, by which orders are looked up."""
    epochs, seqs = [epoch for epoch, _ in events], [seq for _, seq in events]
    rows = await database.fetch(query("redemptions_of_orders"), partition, workspace, *at, list(orders), epochs, seqs)
    ids = [row[0] for row in rows]
    rows = await database.fetch(query("uses_in_order"), partition, workspace, *at, ids, list(users), list(orders))
    return [Use(*row) for row in rows]


async def users(
    database: Database, partition: int, workspace: int, at: EventId, names: Sequence[str]
) -> list[tuple[str, str, str, int]]:
    """(user, field, value, version) of these users after an event."""
    rows = await database.fetch(query("codes_of_users"), workspace, list(names))
    held = [row[0] for row in rows]
    rows = await database.fetch(query("users_in_order"), partition, workspace, *at, held, list(names))
    return [cast("Any", tuple(row)) for row in rows]


async def known_users(database: Database, workspace: int, names: Sequence[str]) -> set[str]:
    return {row[0] for row in await database.fetch(query("known_users"), workspace, list(names))}


async def counts(
    connection: Connection, partition: int, workspace: int, at: EventId, books: Sequence[int]
) -> dict[int, dict[str, int]]:
    """The books' counters after an event, without zeros."""
    streamed = stream(connection, "counts_of_books", partition, workspace, *at, list(books))
    return group_counts([row async for rows in streamed for row in rows])


def group_counts(rows: Sequence[Sequence[Any]]) -> dict[int, dict[str, int]]:
    """Rows of `counts_of_books` by book, without zeros."""
    counts_by_book: dict[int, dict[str, int]] = {}
    for book, counter, count in rows:
        if count:
            counts_by_book.setdefault(book, {})[counter] = int(count)
    return counts_by_book


async def recorded_keys(
    database: Database, workspace: int, at: EventId, keys: Sequence[str], max_age_min: int | None = None
) -> dict[str, tuple[str, int]]:
    """Entries of these idempotency keys and their lifetimes left in ms; if given, of those used in `max_age_min`."""
    rows = await database.fetch(query("recorded_keys"), workspace, *at, list(keys), max_age_min)
    return {key: (entry, ttl_ms) for key, entry, ttl_ms in rows}


async def books_numbers(database: Database, workspace: int) -> list[int]:
    return [row[0] for row in await database.fetch(query("books_numbers"), workspace)]


async def workspaces_of(database: Database, partition: int) -> list[int]:
    return [row[0] for row in await database.fetch(query("workspaces_of_partition"), partition)]


async def workspaces_to_retry(database: Database, partition: int) -> list[int]:
    """Those whose comparison failed, and is due again."""
    return [row[0] for row in await database.fetch(query("workspaces_to_retry"), partition)]


async def count_compared(database: Database, workspaces: Sequence[int]) -> dict[int, int]:
    """Roughly how many things there are to compare, by workspace."""
    return dict(cast("Any", await database.fetch(query("count_compared"), list(workspaces))))


async def read_removals(database: Database, partition: int) -> Removals:
    return Removals(*cast("Any", await database.fetchrow(query("read_removals"), partition)))


async def note_comparison(database: Database, partition: int) -> None:
    """Store that the whole partition was compared: the scheduled comparison is done."""
    await database.execute(query("note_comparison"), partition)


async def store_outcome(
    database: asyncpg.Pool,
    workspace: int,
    partition: int,
    at: EventId,
    found: Mapping[Class, int],
    left: Mapping[Class, int],
) -> None:
    """Store what a comparison found and left; if it found differences, notify the workspace's webhooks."""
    packed = (encode_json(dict(found)), encode_json(dict(left)))
    async with database.acquire() as connection, connection.transaction():
        await connection.execute(query("write_reconciled"), workspace, partition, *at, *packed)
        if found:
            drift = {"found": dict(found), "left": dict(left), "reconciledTo": str(at)}
            await notify_webhooks(connection, workspace, "reconcile.drift", drift)


async def read_last(database: Database, workspace: int) -> LastComparison | None:
    row = await database.fetchrow(query("read_reconciled"), workspace)
    return row and LastComparison(EventId(row["epoch"], row["seq"]), row["at"], msgspec.json.decode(row["left_over"]))


async def is_reconciling(database: Database, workspace: int) -> bool:
    """Whether a comparison job is running, or ordered."""
    return bool(await database.fetchval(query("count_unfinished_jobs"), workspace, "reconcile", 1))


async def read_served(database: Database, partition: int) -> list[int]:
    """Workspaces with a comparison job that waits, and an earlier one: the one whose turn was longest ago first."""
    return [row[0] for row in await database.fetch(query("served_workspaces"), partition)]


async def start_schedule(database: Database, partition: int) -> None:
    """From now on, a scheduled time that passes makes a turn due."""
    await database.execute(query("watch_reconciling"), partition)


class LastComparisons(NamedTuple):
    """What the last comparisons of a partition's workspaces left."""

    left_over: dict[str, int]
    """The differences by class."""
    oldest: datetime | None
    """The time of the oldest of these comparisons; None if there is none."""


async def read_last_comparisons(database: Database) -> dict[int, LastComparisons]:
    """By partition, without those that have no workspace."""
    rows = cast("Any", await database.fetch(query("read_last_comparisons")))
    return {row["partition"]: LastComparisons(msgspec.json.decode(row["left_over"]), row["oldest"]) for row in rows}


class ComparisonWork(NamedTuple):
    """Which comparisons of a partition are due."""

    job: bool
    """Whether a job waits."""
    turn: bool
    """Whether the scheduled turn is due."""
    retry: bool
    """Whether a workspace whose comparison failed is due again."""


async def read_work(database: Database, partition: int, turn: datetime | None) -> ComparisonWork:
    """`turn` is the last scheduled time, None without a schedule."""
    row = cast("Any", await database.fetchrow(query("reconcile_work"), partition, turn))
    return ComparisonWork(row["job"], row["turn"], row["retry"])
