"""Events that the record can't take, kept as they were. Each is an alarm."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from service.formats.event_id import START, EventId
from service.record.pool import Database
from service.record.queries import query

_ASIDE = "lost with its Redis: never recorded"
_NOT_REDONE = "not redone: "
PAGE_EVENTS = 1000


class NotRedone(NamedTuple):
    """A recorded event that can't be applied to a Redis again, and why."""

    epoch: int
    seq: int
    why: str
    d: str


class Quarantined(msgspec.Struct, frozen=True):
    """One event, without what it says: that names a code."""

    epoch: int
    seq: int
    reason: str
    at: datetime


class Quarantine(msgspec.Struct, frozen=True):
    """How many events of a partition the record could not take, the newest of them, and how many were set aside."""

    refused: int
    aside: int
    newest: list[Quarantined]


async def set_aside(database: Database, partition: int, at: EventId, d: bytes, r: bytes) -> bool:
    """Keep an event of a closed epoch that was never recorded; once, however often it is asked. Whether it was new."""
    return await database.execute(query("set_aside"), partition, *at, _ASIDE, d, r) == "INSERT 0 1"


async def set_aside_recorded(database: Database, partition: int, events: Sequence[NotRedone]) -> set[EventId]:
    """Keep recorded events that can't be applied again; once, however often it is asked. Those that are new."""
    epochs, seqs, why, told = zip(*events, strict=True)
    reasons, decided = [_NOT_REDONE + one for one in why], [one.encode() for one in told]
    rows = await database.fetch(query("set_aside_recorded"), partition, epochs, seqs, reasons, decided)
    return {EventId(row["epoch"], row["seq"]) for row in rows}


async def page_live(
    database: Database, partition: int, after: EventId = START
) -> AsyncIterator[list[tuple[EventId, bytes]]]:
    """Pages of events after one that nobody has dealt with, each with what it says; but for those that were lost with
    their Redis."""
    while page := await database.fetch(query("page_live_quarantine"), partition, _ASIDE, *after, PAGE_EVENTS):
        events = [(EventId(row["epoch"], row["seq"]), row["d"]) for row in page]
        yield events
        after = events[-1][0]


async def is_quarantined(
    database: Database,
    partition: int,
    workspace: int,
    after: tuple[int, int],
    to: tuple[int, int],
    coupons: Sequence[tuple[str, str]],
) -> bool:
    """Whether an event of the workspace could not be recorded: one after an event up to another, or an older one about
    one of these codes and its user ('' for any)."""
    codes, users = [code for code, _ in coupons], [user for _, user in coupons]
    args = (partition, _ASIDE, _NOT_REDONE, workspace, *after, *to, codes, users)
    return bool(await database.fetchval(query("is_quarantined"), *args))


async def read_quarantine(database: Database, partition: int, newest: int) -> Quarantine:
    """What is kept of a partition, with so many of the newest."""
    counts = await database.fetchrow(query("count_quarantine"), partition, _ASIDE)
    rows = await database.fetch(query("newest_in_quarantine"), partition, _ASIDE, newest)
    refused, aside = counts or (0, 0)
    return Quarantine(refused, aside, [Quarantined(*row) for row in rows])
