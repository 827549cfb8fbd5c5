"""Partitions: leases, epochs, cursors and configuration versions. Every change is a compare-and-set. The worker changes
leases, epochs and cursors; each change of configuration that Redis has calls `bump_config_version` before its
transaction's other changes. Partition has the names of the query's columns; overview.py copies some by name."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal

import asyncpg
import msgspec

from service.engine.domain.errors import Refusal
from service.engine.formats.event_id import EventId, count_after
from service.engine.formats.number import FORMAT_NUMBER
from service.engine.record.pool import Connection, Database
from service.engine.record.program_versions import UnusableRecord, check_number
from service.engine.record.queries import query

DEFAULT_PARTITIONS = 16
"""Of a new database: enough for a partition on each core of several Redis servers."""


class LeaseLost(Exception):
    """Another worker has the partition's lease. This one must not write."""


class NotMigrated(UnusableRecord):
    """The database has no tables, or no partitions."""

    code = "not_migrated"

    def __init__(self) -> None:
        super().__init__("the database has no tables or partitions of Scrip's. Run `scrip migrate`.")


class WrongPartitions(UnusableRecord):
    """The database has another number of partitions than a command is to give it."""

    code = "wrong_partitions"

    def __init__(self, recorded: int, wanted: int) -> None:
        super().__init__(
            f"the database has {recorded} partitions, not {wanted}. The first `scrip migrate` chose the number, and it "
            "never changes: leave --partitions out."
        )


class Partition(msgspec.Struct, frozen=True):
    """One row. `epoch` is the newest; the cursor may be in an older one during an opening."""

    id: int
    epoch: int
    nonce: str
    state: Literal["closed", "open"]
    since: datetime | None
    """Since when it is open or closed; None if that has not changed since this is stored."""
    opened_nonce: str
    """Of the last epoch that was open."""
    waits_until: datetime | None
    """Until when the partition stays closed, because processes without Postgres may still use that epoch."""
    lacks: str | None
    """What Redis has and this Postgres lacks, if the partition stays closed for that reason."""
    cursor_epoch: int
    cursor_seq: int
    cursor_digest: bytes | None
    recorded_at: datetime | None
    fence: int
    lease_holder: str | None
    lease_live: bool
    config_version: int
    incarnation: str
    """This Postgres, until its next start."""
    confirmed: bool
    """Whether a worker has checked that Redis has no configuration that this Postgres lacks."""

    @property
    def cursor(self) -> EventId:
        """The last recorded event."""
        return EventId(self.cursor_epoch, self.cursor_seq)

    def unrecorded(self, tail: EventId) -> int:
        """The number of unrecorded events, if this is the outbox's last."""
        return count_after(self.cursor, tail)


async def ensure_partitions(database: Database, wanted: int | None, default: int = DEFAULT_PARTITIONS) -> None:
    """Give a new database `wanted` partitions, or `default`. Raises UnusableRecord as check_partitions."""
    await database.execute(query("insert_settings"), wanted or default)
    partitions = await check_partitions(database, wanted)  # another process may have set it first
    await database.execute(query("insert_partitions"), partitions)


async def check_partitions(database: Database, wanted: int | None = None) -> int:
    """Return the number of partitions. Raises NotMigrated without tables or partitions, WrongPartitions if another
    number is wanted, WrongNumber if the version that migrated the database does not fit this one."""
    try:
        await check_number(database)
        recorded: int | None = await database.fetchval(query("read_settings"))
    except asyncpg.UndefinedTableError:
        raise NotMigrated from None
    if recorded is None:
        raise NotMigrated
    if wanted is not None and wanted != recorded:
        raise WrongPartitions(recorded, wanted)
    return recorded


async def read_partitions(database: Database) -> list[Partition]:
    return [Partition(**row) for row in await database.fetch(query("read_partitions"))]


async def count_workspaces(database: Database) -> dict[int, int]:
    """The number of workspaces by partition, without those that have none."""
    return dict(await database.fetch(query("count_workspaces")))


async def read_partition(database: Database, partition: int) -> Partition:
    """Raises IndexError if there is no such partition."""
    return (await read_partitions(database))[partition]


class LeaseRow(msgspec.Struct, frozen=True):
    """A partition's lease, which is free if no living worker is the holder."""

    fence: int
    holder: str | None
    config_version: int
    confirmed: bool
    """As in Partition."""
    due: frozenset[str] = frozenset()
    """If the lease is the reader's: the tasks of the worker for which Postgres has work."""


class Leases(msgspec.Struct, frozen=True):
    """All leases at one moment."""

    workers: dict[str, float]
    """The living workers, and for how many seconds each has lived without an interruption."""
    partitions: dict[int, LeaseRow]
    left_s: dict[str, float]
    """By worker, after how many seconds its row expires."""


async def renew_leases(
    database: Database, holder: str, ttl_ms: int, version: str, released: Sequence[int] = ()
) -> Leases:
    """Store that a worker of this version runs, which renews its leases but for those that it releases, and read those
    of all. The worker itself is missing if it was not alive before."""
    workers, partitions, left_s = {}, {}, {}
    for row in await database.fetch(query("renew_leases"), holder, ttl_ms, version, FORMAT_NUMBER, released):
        if row["id"] is None:
            workers[row["holder"]], left_s[row["holder"]] = row["alive_s"], row["left_s"]
        else:
            partitions[row["id"]] = LeaseRow(
                row["fence"], row["holder"], row["config_version"], row["confirmed"], frozenset(row["due"])
            )
    return Leases(workers, partitions, left_s)


async def fetch_fenced(database: Database, name: str, partition: int, fence: int, *values: Any) -> Any:
    """Run the named statement and return its value. Raises LeaseLost if it returns no row: the fence has changed."""
    value = await database.fetchval(query(name), partition, fence, *values)
    if value is None:
        raise LeaseLost(f"partition {partition}: another worker has it ({name})")
    return value


async def keep_lease(database: Database, partition: int, fence: int) -> None:
    """Keep the lease until the transaction ends. Raises LeaseLost."""
    await fetch_fenced(database, "lock_fence", partition, fence)


@asynccontextmanager
async def under_lease(pool: asyncpg.Pool, partition: int, fence: int) -> AsyncIterator[Connection]:
    """A transaction that keeps the lease until its end. Raises LeaseLost."""
    async with pool.acquire() as connection, connection.transaction():
        await keep_lease(connection, partition, fence)
        yield connection


async def take_lease(database: Database, partition: int, holder: str) -> int | None:
    """Return the fence to write under, another one at each call; None while a living worker has the lease."""
    return await database.fetchval(query("take_lease"), partition, holder)


async def release_lease(database: Database, partition: int, fence: int, successor: str | None = None) -> None:
    """Give the lease to a successor, or free it; no effect if the fence has changed."""
    await database.execute(query("release_lease"), partition, fence, successor)


async def begin_epoch(pool: asyncpg.Pool, partition: int, fence: int, nonce: str, above: int = 0) -> int:
    """Draw a new epoch and close the partition. The epoch is above the one that Redis has seen, because Postgres may
    have been restored to an earlier time. Raises LeaseLost."""
    async with pool.acquire() as connection, connection.transaction():
        if above:
            await connection.execute(query("lock_epochs"))
            await connection.execute(query("raise_epochs"), above)
        return await fetch_fenced(connection, "begin_epoch", partition, fence, nonce)


async def close_partition(database: Database, partition: int, fence: int, lacks: str | None = None) -> None:
    """Close the partition before its next epoch is drawn; `lacks` as in Partition. Raises LeaseLost."""
    await fetch_fenced(database, "close_partition", partition, fence, lacks)


async def close_for_wait(database: Database, partition: int, fence: int, seconds: float) -> float:
    """Close the partition for so long, unless it waits already; return the seconds that are left. Raises LeaseLost."""
    return await fetch_fenced(database, "close_for_wait", partition, fence, seconds)


async def enter_epoch(
    database: Database, partition: int, fence: int, cursor: EventId, epoch: int, digest: bytes, seq: int = 0
) -> bool:
    """Move the cursor to `<epoch>-<seq>`; later events of the old epoch are lost. False if fence or cursor changed."""
    return await database.fetchval(query("enter_epoch"), partition, fence, *cursor, epoch, digest, seq) is not None


async def confirm_open(database: Database, partition: int, fence: int, epoch: int, incarnation: str) -> bool:
    """Mark the epoch as open, after Redis was verified with this Postgres. False if lease or epoch have changed, the
    cursor is in another epoch, or Postgres has restarted."""
    return await database.fetchval(query("confirm_open"), partition, fence, epoch, incarnation) is not None


async def confirm_incarnation(database: Database, partition: int, fence: int, incarnation: str) -> None:
    """Store that Redis has no configuration that Postgres lacks, unless the fence changed or Postgres restarted."""
    await database.execute(query("confirm_incarnation"), partition, fence, incarnation)


async def bump_config_version(connection: Connection, partition: int) -> int:
    """The next configuration version, in the caller's transaction; other callers wait for its end. After a restart of
    Postgres, which may have been restored, raises Refusal `recovering` until a worker has compared it with Redis."""
    version = await connection.fetchval(query("bump_config_version"), partition)
    if version is None:
        raise Refusal.temporary("recovering")
    return version
