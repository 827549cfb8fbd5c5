"""Events that the record can't take, kept as they were. Each is an alarm."""

from datetime import datetime

import msgspec

from service.record.pool import Database
from service.record.queries import query

_ASIDE = "lost with its Redis: never recorded"


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


async def set_aside(database: Database, partition: int, at: tuple[int, int], d: bytes, r: bytes) -> bool:
    """Keep an event of a closed epoch that was never recorded; once, however often it is asked. Whether it was new."""
    return await database.execute(query("set_aside"), partition, *at, _ASIDE, d, r) == "INSERT 0 1"


async def read_quarantine(database: Database, partition: int, newest: int) -> Quarantine:
    """What is kept of a partition, with so many of the newest."""
    counts = await database.fetchrow(query("count_quarantine"), partition, _ASIDE)
    rows = await database.fetch(query("newest_in_quarantine"), partition, _ASIDE, newest)
    refused, aside = counts or (0, 0)
    return Quarantine(refused, aside, [Quarantined(*row) for row in rows])
