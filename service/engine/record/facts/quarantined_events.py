"""Events in quarantine, as they were decided. Each is an alarm. Openings and recoveries store them here
(event_writer.py stores what Postgres refuses); comparisons, the doctor, metrics and waits read them. Causes are stored,
and in metrics and the API. `d` and `r` stay byte for byte what the script wrote."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from service.engine.formats.event_id import START, EventId
from service.engine.formats.events import Redeemed, RolledBack, parse, parse_entry
from service.engine.record.pool import Database, count_changed
from service.engine.record.queries import query

PAGE_EVENTS = 1000

Cause = Literal["refused", "not_redone", "unrecorded"]
"""Postgres refused it; recorded, but Redis could not apply it again; Redis was rebuilt before it was recorded."""


class SkippedEvent(NamedTuple):
    """A recorded event that can't be applied to Redis again, and why."""

    epoch: int
    seq: int
    why: str
    d: str


class UnrecordedEvent(NamedTuple):
    """An event that was not recorded before Redis was rebuilt, as it is in the outbox; or as far as it is known."""

    at: EventId
    d: bytes
    r: bytes = b""


class QuarantinedEvent(msgspec.Struct, frozen=True):
    """One event, without its content, which names a code."""

    epoch: int
    seq: int
    cause: Cause
    reason: str
    at: datetime


class Quarantine(msgspec.Struct, frozen=True):
    """How many events of a partition are in quarantine, by cause, and the newest of them."""

    counts: dict[Cause, int]
    newest: list[QuarantinedEvent]


async def quarantine_unrecorded(
    database: Database, partition: int, reason: str, events: Sequence[UnrecordedEvent], is_dropped: bool = False
) -> int:
    """Store events that were not recorded before Redis was rebuilt for this reason, each once; return how many are new.
    Those that an operator has dropped block nothing."""
    if not events:
        return 0
    epochs, seqs = [event.at.epoch for event in events], [event.at.seq for event in events]
    entries = [event.d for event in events], [event.r for event in events]
    values = (partition, reason, is_dropped, epochs, seqs, *entries)
    return await count_changed(database, query("quarantine_unrecorded"), *values)


async def quarantine_recorded(database: Database, partition: int, events: Sequence[SkippedEvent]) -> set[EventId]:
    """Store recorded events that can't be applied again, each once; return the new ones."""
    epochs, seqs, reasons, entries = zip(*events, strict=True)
    encoded = [entry.encode() for entry in entries]
    rows = await database.fetch(query("quarantine_recorded"), partition, epochs, seqs, reasons, encoded)
    return {EventId(row["epoch"], row["seq"]) for row in rows}


async def page_quarantine(
    database: Database, partition: int, after: EventId = START
) -> AsyncIterator[list[tuple[EventId, bytes]]]:
    """Pages of the events after one with their content."""
    while page := await database.fetch(query("page_quarantine"), partition, *after, PAGE_EVENTS):
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
    args = (partition, workspace, *after, *to, codes, users)
    return bool(await database.fetchval(query("is_quarantined"), *args))


async def refused_redemption(database: Database, partition: int, event: EventId) -> Redeemed | None:
    """A redemption that the record refused: it still stands in Redis, unless that was rebuilt."""
    row = await database.fetchrow(query("refused_redemption"), partition, *event)
    try:
        redeemed = row and parse(*event, row["d"], row["r"])
    except ValueError:
        return None
    return redeemed if isinstance(redeemed, Redeemed) else None


async def refused_rollback(database: Database, partition: int, workspace: int, redemption_id: str) -> int | None:
    """The time, in ms, of a rollback that the record refused; None if there is none that can be read."""
    about = (partition, f"B {workspace} ".encode(), f" {redemption_id} ".encode())
    row = await database.fetchrow(query("refused_rollback"), *about)
    event = parse_entry(EventId(row["epoch"], row["seq"]), row["d"], row["r"]) if row else None
    return event.at_ms if isinstance(event, RolledBack) else None


async def count_quarantines(database: Database) -> dict[tuple[int, Cause], int]:
    """The number of events by partition and cause."""
    rows = await database.fetch(query("count_quarantines"))
    return {(row["partition"], row["cause"]): row["count"] for row in rows}


async def count_blocked(database: Database) -> dict[int, int]:
    """By partition, the codes of quarantined events: Redis blocks them from its next rebuild, nothing compares them."""
    return {row["partition"]: row["blocked"] for row in await database.fetch(query("count_blocked"))}


async def read_quarantine(database: Database, partition: int, newest: int) -> Quarantine:
    """The partition's counts, and so many of the newest events."""
    counts = await count_quarantines(database)
    rows = await database.fetch(query("newest_in_quarantine"), partition, newest)
    counts_by_cause: dict[Cause, int] = {cause: count for (of, cause), count in counts.items() if of == partition}
    return Quarantine(counts_by_cause, [QuarantinedEvent(*row) for row in rows])
