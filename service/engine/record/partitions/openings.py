"""Recoveries of openings, and rebuilds that are ordered. partition_opening.py and restorer.py store recoveries;
rebuild.py, recover.py and tasks of the worker order rebuilds; the doctor reads both. Kinds and choices are stored.
Structs have the query's columns, in their order."""

from datetime import datetime
from typing import Literal

import msgspec

from service.engine.formats.event_id import EventId
from service.engine.record.pool import Database, count_changed
from service.engine.record.queries import query

Kind = Literal["tail", "whole"]
"""The opening wrote what Redis lacked, or everything."""

SurplusChoice = Literal["apply", "discard"]
"""Carry over into Postgres what only Redis has, or drop it."""


class Recovery(msgspec.Struct, frozen=True):
    """How an epoch's Redis was restored: `done` of roughly `total` facts and codes."""

    epoch: int
    kind: Kind
    reason: str
    total: int
    done: int
    finished_at: datetime | None


class RebuildOrder(msgspec.Struct, frozen=True):
    """Why a partition must be rebuilt."""

    reason: str
    surplus: SurplusChoice | None
    """What becomes of what Redis has and Postgres lacks. Without it, such a Redis is not rebuilt."""
    old_is_off: bool
    """Whether an operator says that the server of the last open epoch no longer runs."""


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
    """Store the start of a recovery: facts after an event, codes after a configuration version."""
    await database.execute(query("begin_recovery"), partition, epoch, kind, reason, *after, version, nonce)


async def advance_recovery(database: Database, partition: int, epoch: int, done: int) -> None:
    await database.execute(query("advance_recovery"), partition, epoch, done)


async def finish_recovery(database: Database, partition: int, epoch: int) -> None:
    """Mark the recovery as done, and delete orders from before it."""
    await database.execute(query("finish_recovery"), partition, epoch)


async def was_recovered(database: Database, partition: int, epoch: int, nonce: str) -> bool:
    """Whether the opening of this epoch restored Redis under this nonce."""
    return bool(await database.fetchval(query("was_recovered"), partition, epoch, nonce))


async def read_recovery(database: Database, partition: int) -> Recovery | None:
    """The newest."""
    row = await database.fetchrow(query("read_recovery"), partition)
    return row and Recovery(*row)


async def order_rebuild(
    database: Database,
    partition: int,
    reason: str,
    surplus: SurplusChoice | None = None,
    old_is_off: bool = False,
) -> None:
    """Order a rebuild of the partition; the options are those of RebuildOrder."""
    await database.execute(query("order_rebuild"), partition, reason, surplus, old_is_off)


async def cancel_rebuild(database: Database, partition: int) -> bool:
    """Withdraw the order. Return whether there was one."""
    return bool(await count_changed(database, query("cancel_rebuild"), partition))


async def rebuild_order(database: Database, partition: int) -> RebuildOrder | None:
    row = await database.fetchrow(query("read_rebuild_order"), partition)
    return row and RebuildOrder(*row)


async def was_rebuilt_for(database: Database, partition: int, reason: str) -> bool:
    """Whether a rebuild for this reason is done."""
    return bool(await database.fetchval(query("was_rebuilt_for"), partition, reason))


async def has_deletions_after(database: Database, partition: int, at: EventId, workspace: int | None = None) -> bool:
    """Whether users, of one workspace or any, are being deleted, or were after an event. No fact tells what Redis did
    for that."""
    return bool(await database.fetchval(query("has_deletions_after"), partition, *at, workspace))
