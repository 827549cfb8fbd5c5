"""QuarantinedEvent events, as they were decided. Each is an alarm."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from service.formats.event_id import START, EventId
from service.formats.events import Redeemed, parse
from service.record.pool import Database
from service.record.queries import query

_LOST = "lost with its Redis: never recorded"
_NOT_REDONE = "not redone: "
PAGE_EVENTS = 1000


class SkippedEvent(NamedTuple):
    """A recorded event that can't be applied to Redis again, and why."""

    epoch: int
    seq: int
    why: str
    d: str


class QuarantinedEvent(msgspec.Struct, frozen=True):
    """One event, without its content, which names a code."""

    epoch: int
    seq: int
    reason: str
    at: datetime


class Quarantine(msgspec.Struct, frozen=True):
    """How many events of a partition the record refused, the newest of these, and how many were lost with their
    Redis."""

    refused: int
    aside: int
    newest: list[QuarantinedEvent]


async def quarantine_lost_event(database: Database, partition: int, at: EventId, d: bytes, r: bytes) -> bool:
    """Store an unrecorded event of a closed epoch once; return whether it is new."""
    return await database.execute(query("quarantine_lost"), partition, *at, _LOST, d, r) == "INSERT 0 1"


async def quarantine_recorded(database: Database, partition: int, events: Sequence[SkippedEvent]) -> set[EventId]:
    """Store recorded events that can't be applied again, each once; return the new ones."""
    epochs, seqs, reasons, entries = zip(*events, strict=True)
    prefixed, encoded = [_NOT_REDONE + reason for reason in reasons], [entry.encode() for entry in entries]
    rows = await database.fetch(query("quarantine_recorded"), partition, epochs, seqs, prefixed, encoded)
    return {EventId(row["epoch"], row["seq"]) for row in rows}


async def page_live(
    database: Database, partition: int, after: EventId = START
) -> AsyncIterator[list[tuple[EventId, bytes]]]:
    """Pages of the events after one with their content, without those that were lost with their Redis."""
    while page := await database.fetch(query("page_live_quarantine"), partition, _LOST, *after, PAGE_EVENTS):
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
    """Whether an event of the workspace was refused: any after an event up to another, or an older one about one of
    these codes and its user ('' for any)."""
    codes, users = [code for code, _ in coupons], [user for _, user in coupons]
    args = (partition, _LOST, _NOT_REDONE, workspace, *after, *to, codes, users)
    return bool(await database.fetchval(query("is_quarantined"), *args))


async def refused_redemption(database: Database, partition: int, event: EventId) -> Redeemed | None:
    """A redemption that the record refused: it still stands in Redis, unless it was lost with its Redis."""
    row = await database.fetchrow(query("refused_redemption"), partition, *event, _LOST)
    try:
        redeemed = row and parse(*event, row["d"], row["r"])
    except ValueError:
        return None
    return redeemed if isinstance(redeemed, Redeemed) else None


async def read_quarantine(database: Database, partition: int, newest: int) -> Quarantine:
    """The partition's counts, and so many of the newest events."""
    counts = await database.fetchrow(query("count_quarantine"), partition, _LOST)
    rows = await database.fetch(query("newest_in_quarantine"), partition, _LOST, newest)
    refused, aside = counts or (0, 0)
    return Quarantine(refused, aside, [QuarantinedEvent(*row) for row in rows])
