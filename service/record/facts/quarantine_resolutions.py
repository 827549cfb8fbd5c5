"""What operators decide about quarantined events, and what a worker did with them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from service.formats.event_id import START, EventId
from service.record.facts.quarantine import Cause
from service.record.pool import Connection, Database
from service.record.queries import query

Choice = Literal["retry", "settle", "release"]
"""Record the event as it was decided; keep its codes out of sale; give its codes the state that Postgres has."""


class Quarantined(msgspec.Struct, frozen=True):
    """An event in quarantine, with its content."""

    partition: int
    epoch: int
    seq: int
    cause: Cause
    reason: str
    d: bytes
    r: bytes
    at: datetime
    ordered: Choice | None
    failure: str | None
    """Why the last order failed."""
    resolution: Choice | None
    resolved_at: datetime | None

    @property
    def id(self) -> EventId:
        return EventId(self.epoch, self.seq)

    @property
    def key(self) -> tuple[int, int, int]:
        return self.partition, self.epoch, self.seq


async def list_quarantine(
    database: Database, partition: int | None, limit: int, after: EventId = START
) -> list[Quarantined]:
    """The first unresolved events after one, of a partition or of all."""
    return [Quarantined(*row) for row in await database.fetch(query("list_quarantine"), partition, *after, limit)]


async def find_quarantined(database: Database, at: EventId) -> list[Quarantined]:
    """The events of this id. There is more than one only after Postgres was restored."""
    return [Quarantined(*row) for row in await database.fetch(query("quarantined_named"), *at)]


async def order_resolution(connection: Connection, event: Quarantined, choice: Choice) -> bool:
    """Order it from a worker. False if the event is resolved."""
    return await connection.fetchval(query("order_resolution"), *event.key, choice) is not None


async def ordered_resolutions(database: Database, partition: int, limit: int) -> list[Quarantined]:
    """The partition's first events for which something is ordered."""
    return [Quarantined(*row) for row in await database.fetch(query("ordered_resolutions"), partition, limit)]


async def order_resolutions(connection: Connection, partition: int | None, choice: Choice) -> dict[int, int]:
    """Order it for all unresolved events, of a partition or of all, for which it is possible. Return their number by
    workspace."""
    rows = await connection.fetch(query("order_resolutions"), partition, choice)
    return {row["workspace"]: row["events"] for row in rows}


async def count_ordered(database: Database, partition: int | None) -> int:
    """The number of events for which something is ordered."""
    return int(await database.fetchval(query("count_ordered"), partition) or 0)


async def resolve(connection: Connection, partition: int, events: Sequence[Quarantined]) -> int:
    """Store that what was ordered is done, and return of how many events; not of those whose order has changed."""
    epochs, seqs = [event.epoch for event in events], [event.seq for event in events]
    ordered = [event.ordered for event in events]
    done = await connection.execute(query("resolve_quarantined"), partition, epochs, seqs, ordered)
    return int(done.split()[1])


async def reject(database: Database, event: Quarantined, failure: str) -> None:
    """Store why what was ordered failed."""
    await database.execute(query("reject_resolution"), *event.key, failure)
