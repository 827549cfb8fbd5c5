"""What the record says that Redis should hold after an event; and who compares the two, and what came of it."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, cast
from uuid import UUID

import asyncpg
import msgspec

from service.formats.coupon_state import Class, Said
from service.formats.event_id import EventId
from service.record import pool
from service.record.config.webhook_rows import tell
from service.record.pool import Connection, Database
from service.record.queries import query

PAGE_ROWS = 5000
# A whole pass sorts and joins all that a workspace has, and holds one transaction as long as Redis is read beside it.
_PASS = {"work_mem": "64MB", "enable_nestloop": "off"}
_PATIENCE = {"idle_in_transaction_session_timeout": "300s", "statement_timeout": "600s"}


class LostTurn(Exception):
    """Another compares the partition now."""


class Use(NamedTuple):
    """A field of an orders' bucket (`o`) or a gifts' (`g`), and what it should say."""

    bucket: int
    kind: str
    field: str
    said: str


class Last(msgspec.Struct, frozen=True):
    """What a workspace's last comparison covers, when it was, and how much it left by class."""

    at: EventId
    when: datetime
    left: dict[str, int]


async def connect(database_url: str) -> asyncpg.Pool:
    """Connections for a comparison: for a whole pass, for what is looked at closely meanwhile, and for the turn."""
    return await pool.connect(
        database_url, name="scrip-reconcile", max_size=6, command_timeout_s=600.0, patience=_PATIENCE
    )


async def stream(connection: Connection, name: str, *args: Any) -> AsyncGenerator[list[Any], None]:
    """The rows of a whole pass, some thousand at a time; the next are read while these are worked on. Close it."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for setting, value in _PASS.items():
            await connection.execute(f"SET LOCAL {setting} = '{value}'")
        cursor = await connection.cursor(query(name), *args)
        coming: asyncio.Task[list[Any]] = asyncio.ensure_future(cursor.fetch(PAGE_ROWS))
        try:
            while rows := await coming:
                coming = asyncio.ensure_future(cursor.fetch(PAGE_ROWS))
                yield rows
        finally:
            await asyncio.gather(coming, return_exceptions=True)


async def codes(
    database: Database, partition: int, workspace: int, at: EventId, some: Sequence[str]
) -> dict[str, Said]:
    """Some codes after an event; those that there are."""
    rows = await database.fetch(query("codes_in_order"), partition, workspace, *at, list(some))
    return {row["code"]: Said(*row) for row in rows}


async def codes_in_buckets(database: Database, workspace: int, buckets: Sequence[int]) -> list[str]:
    """The codes in these buckets of the directory."""
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
    """What these orders have, and these users have used, after an event. `events` are those of redemptions that have
    places in the orders but may lack a row in order_uses, by which an order's are looked up."""
    told = [epoch for epoch, _ in events], [seq for _, seq in events]
    ids = await database.fetch(query("redemptions_of_orders"), partition, workspace, *at, list(orders), *told)
    found = [row[0] for row in ids]
    rows = await database.fetch(query("uses_in_order"), partition, workspace, *at, found, list(users), list(orders))
    return [Use(*row) for row in rows]


async def users(
    database: Database, partition: int, workspace: int, at: EventId, some: Sequence[str]
) -> list[tuple[str, str, str, int]]:
    """(user, field, text, version) of some users after an event."""
    rows = await database.fetch(query("codes_of_users"), workspace, list(some))
    held = [row[0] for row in rows]
    rows = await database.fetch(query("users_in_order"), partition, workspace, *at, held, list(some))
    return [cast("Any", tuple(row)) for row in rows]


async def known_users(database: Database, workspace: int, some: Sequence[str]) -> set[str]:
    """Those that were created, or have a coupon."""
    return {row[0] for row in await database.fetch(query("known_users"), workspace, list(some))}


async def counts(
    connection: Connection, partition: int, workspace: int, at: EventId, books: Sequence[int]
) -> dict[int, dict[str, int]]:
    """What books' counters say after an event, but for zeros."""
    found: dict[int, dict[str, int]] = {}
    async for rows in stream(connection, "counts_of_books", partition, workspace, *at, list(books)):
        for book, counter, said in rows:
            if said:
                found.setdefault(book, {})[counter] = said
    return found


async def kept_keys(database: Database, workspace: int, at: EventId, some: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Of some idempotency keys, what is kept and for how many ms."""
    rows = await database.fetch(query("kept_keys"), workspace, *at, list(some))
    return {key: (entry, ttl_ms) for key, entry, ttl_ms in rows}


async def recorded_keys(
    database: Database, workspace: int, at: EventId, some: Sequence[str]
) -> dict[str, tuple[str, int]]:
    """As kept_keys, of all that are to be kept still, however long ago they were used."""
    rows = await database.fetch(query("recorded_keys"), workspace, *at, list(some))
    return {key: (entry, ttl_ms) for key, entry, ttl_ms in rows}


async def books_numbers(database: Database, workspace: int) -> list[int]:
    """A workspace's books."""
    return [row[0] for row in await database.fetch(query("books_numbers"), workspace)]


async def workspaces_of(database: Database, partition: int) -> list[int]:
    """A partition's workspaces."""
    return [row[0] for row in await database.fetch(query("workspaces_of_partition"), partition)]


async def count_compared(database: Database, workspaces: Sequence[int]) -> dict[int, int]:
    """About how much there is to compare, by workspace."""
    return dict(cast("Any", await database.fetch(query("count_compared"), list(workspaces))))


async def begin(database: Database, partition: int, token: UUID, ttl_ms: int) -> bool:
    """Whether the partition is ours to compare."""
    return await database.fetchval(query("begin_reconciling"), partition, token, ttl_ms) is not None


async def advance(database: Database, partition: int, token: UUID, ttl_ms: int, done: int, total: int) -> None:
    """So much is done, and we live. Raises LostTurn."""
    if await database.fetchval(query("advance_reconciling"), partition, token, ttl_ms, done, total) is None:
        raise LostTurn(f"partition {partition}")


async def end(database: Database, partition: int, token: UUID, whole: bool) -> None:
    """Let another begin; `whole` where the partition's turn by the clock is done."""
    await database.execute(query("end_reconciling"), partition, token, whole)


async def keep(
    database: asyncpg.Pool,
    workspace: int,
    partition: int,
    at: EventId,
    found: Mapping[Class, int],
    left: Mapping[Class, int],
) -> None:
    """Keep what a comparison found, and what of it is left; where it found anything, tell the workspace's webhooks."""
    packed = (msgspec.json.encode(dict(found)).decode(), msgspec.json.encode(dict(left)).decode())
    async with database.acquire() as connection, connection.transaction():
        await connection.execute(query("write_reconciled"), workspace, partition, *at, *packed)
        if found:
            drift = {"found": dict(found), "left": dict(left), "reconciledTo": str(at)}
            await tell(connection, workspace, "reconcile.drift", drift)


async def last(database: Database, workspace: int) -> Last | None:
    """What a workspace's last comparison came to."""
    row = await database.fetchrow(query("read_reconciled"), workspace)
    return row and Last(EventId(row["epoch"], row["seq"]), row["at"], msgspec.json.decode(row["left_over"]))


async def drift_of(database: Database, partition: int) -> tuple[dict[str, int], datetime | None]:
    """By class what a partition's last comparisons left, and when the oldest of these was."""
    left, oldest = cast("Any", await database.fetchrow(query("sum_reconciled"), partition))
    return msgspec.json.decode(left), oldest


async def is_reconciling(database: Database, workspace: int) -> bool:
    """Whether a comparison is under way, or ordered."""
    return bool(await database.fetchval(query("is_reconciling"), workspace))


async def watch(database: Database, partition: int) -> None:
    """From now on turns by the clock count."""
    await database.execute(query("watch_reconciling"), partition)


async def work(database: Database, partition: int, turn: datetime | None) -> tuple[bool, bool]:
    """Whether a job waits, and whether the turn by the clock is still to come."""
    return cast("Any", tuple(cast("Any", await database.fetchrow(query("reconcile_work"), partition, turn))))
