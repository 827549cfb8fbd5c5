"""What operators decide about quarantined events, and what a worker did with them. quarantine_commands.py and
quarantine.py order; quarantine_settler.py executes. Choices are stored, and words of the command and the API.
Quarantined has the query's columns, in their order."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from service.engine.formats.coupon_state import RecordedCode
from service.engine.formats.event_id import END, EventId
from service.engine.formats.events import parse_entry
from service.engine.formats.quarantined_event import read_names
from service.engine.record.facts.quarantined_events import Cause
from service.engine.record.pool import Connection, Database, count_changed
from service.engine.record.queries import query
from service.engine.record.recorded_codes import recorded_codes

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
    database: Database, partition: int | None, limit: int, *, ordered: bool = False
) -> list[Quarantined]:
    """The first unresolved events, of a partition or of all; with `ordered`, those for which something is ordered."""
    return [Quarantined(*row) for row in await database.fetch(query("list_quarantine"), partition, limit, ordered)]


async def find_quarantined(database: Database, at: EventId) -> list[Quarantined]:
    """The events of this id. There is more than one only after Postgres was restored."""
    return [Quarantined(*row) for row in await database.fetch(query("quarantined_named"), *at)]


async def order_resolution(connection: Connection, event: Quarantined, choice: Choice) -> None:
    """Order the choice from a worker, unless the event is resolved."""
    await connection.execute(query("order_resolution"), *event.key, choice)


async def order_resolutions(connection: Connection, partition: int | None, choice: Choice) -> dict[int, int]:
    """Order the choice for all unresolved events, of a partition or of all, for which it is possible and nothing is
    ordered. Return their number by workspace."""
    rows = await connection.fetch(query("order_resolutions"), partition, choice)
    return {row["workspace"]: row["events"] for row in rows}


async def count_ordered(database: Database, partition: int | None) -> int:
    """The number of events for which something is ordered."""
    return int(await database.fetchval(query("count_ordered"), partition) or 0)


async def resolve(connection: Connection, partition: int, events: Sequence[Quarantined]) -> int:
    """Store that what was ordered is done, and return of how many events; not of those whose order has changed."""
    epochs, seqs = [event.epoch for event in events], [event.seq for event in events]
    ordered = [event.ordered for event in events]
    return await count_changed(connection, query("resolve_quarantined"), partition, epochs, seqs, ordered)


async def reject(database: Database, event: Quarantined, failure: str) -> None:
    """Store why what was ordered failed."""
    await database.execute(query("reject_resolution"), *event.key, failure)


def choices_of(event: Quarantined) -> list[Choice]:
    """What can be ordered; the statement `order_resolutions` has the same rules. Nothing can be recorded of which too
    little is known, and what is recorded can't be dropped. An event that names no code can only be dropped."""
    if not read_names(event.d):
        return ["release"]
    if event.cause == "not_redone":
        return ["retry", "settle"]
    is_whole = parse_entry(event.id, event.d, b"{}") is not None
    return ["retry", "settle", "release"] if is_whole else ["settle", "release"]


async def page_of_workspace(
    database: Database, partition: int, workspace: int, before: EventId, limit: int
) -> list[Quarantined]:
    """A workspace's unresolved events before one, the newest first."""
    args = (partition, workspace, *before, limit)
    return [Quarantined(*row) for row in await database.fetch(query("quarantine_of_workspace"), *args)]


async def describe_recorded(database: Database, partition: int, workspace: int, names: Sequence[str]) -> dict[str, str]:
    """The state in Postgres of each of these codes, in words."""
    found = await recorded_codes(database, partition, workspace, END, names)
    return {
        name: _describe(found[name]) if name in found else "no such code, or its book is archived" for name in names
    }


def _describe(one: RecordedCode) -> str:
    uses = "unused" if one.max is None else f"{one.uses} of {one.max or 'any number of'} uses"
    parts = ["active" if one.active else "switched off", uses, one.owner and f"assigned to {one.owner}"]
    return ", ".join(part for part in (*parts, one.last and f"last redeemed by event {one.last}") if part)
