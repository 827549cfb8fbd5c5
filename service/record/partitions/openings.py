"""What openings had to mend, and what operators ordered."""

from datetime import datetime
from typing import Literal

import msgspec

from service.formats.event_id import EventId
from service.record.pool import Database
from service.record.queries import query

Kind = Literal["tail", "whole"]


class Recovery(msgspec.Struct, frozen=True):
    """How an epoch's Redis was made whole: `done` of about `total` facts and codes."""

    epoch: int
    kind: Kind
    reason: str
    total: int
    done: int
    started_at: datetime
    finished_at: datetime | None


class RebuildOrder(msgspec.Struct, frozen=True):
    """Why a partition shall be rebuilt whole; and whether also where events are missing that were never recorded."""

    reason: str
    accept_loss: bool


async def begin_recovery(
    database: Database,
    partition: int,
    epoch: int,
    nonce: str,
    kind: Kind,
    reason: str,
    after: EventId,
    version: int,
) -> None:
    """An opening begins to mend: facts after an event, codes after a configuration version."""
    await database.execute(query("begin_recovery"), partition, epoch, kind, reason, *after, version, nonce)


async def advance_recovery(database: Database, partition: int, epoch: int, done: int) -> None:
    """So much is done."""
    await database.execute(query("advance_recovery"), partition, epoch, done)


async def finish_recovery(database: Database, partition: int, epoch: int) -> None:
    """Redis is whole, and what was ordered before is done."""
    await database.execute(query("finish_recovery"), partition, epoch)


async def mended_in(database: Database, partition: int, epoch: int, nonce: str) -> bool:
    """Whether the opening of this epoch mended under this nonce."""
    return bool(await database.fetchval(query("mended_in"), partition, epoch, nonce))


async def read_recoveries(database: Database, partition: int, limit: int) -> list[Recovery]:
    """The last ones, newest first."""
    return [Recovery(*row) for row in await database.fetch(query("read_recoveries"), partition, limit)]


async def order_rebuild(database: Database, partition: int, reason: str, accept_loss: bool = False) -> None:
    """The worker shall rebuild the partition whole; `accept_loss` also where events are missing."""
    await database.execute(query("order_rebuild"), partition, reason, accept_loss)


async def cancel_rebuild(database: Database, partition: int) -> None:
    """Take the order back."""
    await database.execute(query("cancel_rebuild"), partition)


async def rebuild_order(database: Database, partition: int) -> RebuildOrder | None:
    """What is ordered."""
    row = await database.fetchrow(query("read_rebuild_order"), partition)
    return row and RebuildOrder(*row)


async def rebuilt_for(database: Database, partition: int, reason: str) -> bool:
    """Whether that was ordered for this reason before, and is done."""
    return bool(await database.fetchval(query("rebuilt_for"), partition, reason))


async def erased_after(database: Database, partition: int, at: EventId) -> bool:
    """Whether users are being deleted, or were after an event: what Redis then did is in no fact."""
    return bool(await database.fetchval(query("erased_after"), partition, *at))
