"""Partitions: their leases, epochs, cursors and configuration versions. Every change is a compare-and-set."""

from datetime import datetime
from typing import ClassVar, Literal

import asyncpg
import msgspec

from service.domain.errors import Refusal
from service.formats.event_id import EventId
from service.record.pool import Connection, Database
from service.record.queries import query


class LeaseLost(Exception):
    """Another has taken the partition's lease, and this holder may write nothing more."""


class UnusableRecord(RuntimeError):
    """The settings and the database don't fit together; the message says what to do."""

    code: ClassVar[str]


class WrongPartitions(UnusableRecord):
    """The settings name another number of partitions than the database was made with."""

    code = "wrong_partitions"

    def __init__(self, recorded: int, wanted: int) -> None:
        super().__init__(
            f"the database was made with {recorded} partitions, and SCRIP_PARTITIONS is {wanted}. "
            f"The number is fixed when the database is made: set SCRIP_PARTITIONS={recorded}."
        )


class NotMigrated(UnusableRecord):
    """The database has none of the tables."""

    code = "not_migrated"

    def __init__(self) -> None:
        super().__init__("the database has no tables of Scrip's. Run `scrip migrate`.")


class Partition(msgspec.Struct, frozen=True):
    """One row. `epoch` is the newest; the cursor may still be in an older one while that is opened."""

    id: int
    epoch: int
    nonce: str
    state: Literal["closed", "open"]
    cursor_epoch: int
    cursor_seq: int
    cursor_digest: bytes | None
    recorded_at: datetime | None
    recorded_events: int
    fence: int
    lease_holder: str | None
    lease_live: bool | None
    config_version: int
    incarnation: str
    """Which Postgres this is: another after each of its starts."""
    confirmed: bool
    """Whether a worker has seen that Redis holds no configuration which this Postgres doesn't know."""

    @property
    def cursor(self) -> EventId:
        """Epoch and number of the last event that is recorded."""
        return EventId(self.cursor_epoch, self.cursor_seq)

    def unrecorded(self, tail: EventId) -> int:
        """How many events up to this one, the outbox's last, are not recorded."""
        epoch, seq = tail
        if epoch == self.cursor_epoch:
            return max(0, seq - self.cursor_seq)
        return seq + 1 if epoch > self.cursor_epoch else 0


async def ensure_partitions(database: Database, partitions: int) -> None:
    """Fix the number of partitions where it is not yet, and make the rows that are missing. Raises UnusableRecord."""
    await check_partitions(database, partitions)
    await database.execute(query("insert_settings"), partitions)
    await check_partitions(database, partitions)  # another process may have fixed it first
    await database.execute(query("insert_partitions"), partitions)


async def check_partitions(database: Database, partitions: int) -> None:
    """Change nothing. Raises WrongPartitions where the number isn't the recorded one, NotMigrated without tables."""
    try:
        recorded = await recorded_partitions(database)
    except asyncpg.UndefinedTableError:
        raise NotMigrated from None
    if recorded not in (None, partitions):
        raise WrongPartitions(recorded, partitions)


async def recorded_partitions(database: Database) -> int | None:
    """The number that the database was made with; None before a worker has been at it."""
    return await database.fetchval(query("read_settings"))


async def read_partitions(database: Database) -> list[Partition]:
    """All partitions, in order."""
    return [Partition(**row) for row in await database.fetch(query("read_partitions"))]


async def read_partition(database: Database, partition: int) -> Partition:
    """One partition. Raises IndexError where there is none of this number."""
    return (await read_partitions(database))[partition]


async def take_lease(database: Database, partition: int, holder: str, ttl_ms: int) -> int | None:
    """The fence to write under, or None while another holds the lease. A holder that asks again gets a new fence."""
    return await database.fetchval(query("take_lease"), partition, holder, ttl_ms)


async def renew_lease(database: Database, partition: int, fence: int, ttl_ms: int) -> bool:
    """Whether the lease was still ours, and is for so long from now."""
    return await database.fetchval(query("renew_lease"), partition, fence, ttl_ms) is not None


async def release_lease(database: Database, partition: int, fence: int) -> None:
    """Let others take the lease at once."""
    await database.execute(query("release_lease"), partition, fence)


async def begin_epoch(pool: asyncpg.Pool, partition: int, fence: int, nonce: str, above: int = 0) -> int:
    """A new epoch, above one that Redis has seen: Postgres may have been restored to an earlier time. The partition is
    closed until it is confirmed. Raises LeaseLost."""
    async with pool.acquire() as connection, connection.transaction():
        if above:
            await connection.execute(query("lock_epochs"))
            await connection.execute(query("raise_epochs"), above)
        epoch = await connection.fetchval(query("begin_epoch"), partition, fence, nonce)
    if epoch is None:
        raise LeaseLost(f"partition {partition}: fence {fence} may not begin an epoch")
    return epoch


async def enter_epoch(
    database: Database, partition: int, fence: int, cursor: EventId, epoch: int, digest: bytes, seq: int = 0
) -> bool:
    """Move the cursor to `<epoch>-<seq>`: after its predecessor's last event, or leaving behind what is lost.

    False where fence or cursor are no longer these.
    """
    return await database.fetchval(query("enter_epoch"), partition, fence, *cursor, epoch, digest, seq) is not None


async def confirm_open(database: Database, partition: int, fence: int, epoch: int, incarnation: str) -> bool:
    """Say that this epoch's Redis may decide, and was made whole from this Postgres; False where lease or epoch are
    another's, the cursor is not in it, or Postgres was started again."""
    return await database.fetchval(query("confirm_open"), partition, fence, epoch, incarnation) is not None


async def confirm_incarnation(database: Database, partition: int, fence: int, incarnation: str) -> None:
    """Say that Redis holds no configuration which this Postgres doesn't know; nothing where it was started again."""
    await database.execute(query("confirm_incarnation"), partition, fence, incarnation)


async def bump_config_version(connection: Connection, partition: int) -> int:
    """The next number of a configuration change, within the caller's transaction; others wait until it ends.

    Refusal `recovering` where Postgres was started a moment ago, and may have been restored: a worker looks first.
    """
    version = await connection.fetchval(query("bump_config_version"), partition)
    if version is None:
        raise Refusal.temporary("recovering")
    return version
