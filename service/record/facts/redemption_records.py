"""Redemptions as scripts read them, of those that Redis keeps no more of than their events (lua/includes/facts.lua)."""

from collections.abc import Sequence
from uuid import UUID

from service.domain.field_types import decode_id
from service.formats.event_id import parse_event_id
from service.formats.events import Fact, Redeemed, parse, read_redemption_id
from service.formats.redemption_record import record_text
from service.record.facts.fact_reader import fact_of
from service.record.pool import Database
from service.record.queries import query

ORDER = "order:"
"""Before an order's id, where a script asks whether a redemption of the order was ever rolled back."""


async def records_of(database: Database, partition: int, workspace: int, names: Sequence[str]) -> list[tuple[str, str]]:
    """Each of the redemptions that there are with its record. A name is an event that Redis refers to, or a
    redemption's id: of an unknown id the record is ''. Or it is ORDER and an order: '1' where it was rolled back."""
    found: list[tuple[str, str]] = []
    for name in names:
        if name.startswith(ORDER):
            known = await _was_rolled_back(database, partition, workspace, name.removeprefix(ORDER))
            record = "1" if known else ""
        elif len(name) == len(str(UUID(int=0))):
            record = await _by_id(database, partition, workspace, UUID(name)) or ""
        else:
            record = await _by_event(database, partition, workspace, *parse_event_id(name))
        if record is not None:
            found.append((name, record))
    return found


async def _by_id(database: Database, partition: int, workspace: int, redemption: UUID) -> str | None:
    if row := await database.fetchrow(query("redemption_by_id"), redemption):
        return _record(fact_of(row), workspace)
    found = await _in_quarantine(database, partition, *read_redemption_id(redemption))
    return _record(found, workspace) if found and found.redemption_id == str(redemption) else None


async def _by_event(database: Database, partition: int, workspace: int, epoch: int, seq: int) -> str | None:
    row = await database.fetchrow(query("redemption_by_event"), partition, epoch, seq)
    return _record(fact_of(row) if row else await _in_quarantine(database, partition, epoch, seq), workspace)


async def _was_rolled_back(database: Database, partition: int, workspace: int, order: str) -> bool:
    about = (partition, workspace, decode_id(order), f"B {workspace} ".encode(), f" {order} ".encode())
    return bool(await database.fetchval(query("order_was_rolled_back"), *about))


async def _in_quarantine(database: Database, partition: int, epoch: int, seq: int) -> Redeemed | None:
    """What the record couldn't take stands in Redis all the same."""
    row = await database.fetchrow(query("quarantined_redemption"), partition, epoch, seq)
    try:
        event = row and parse(epoch, seq, row["d"], row["r"])
    except ValueError:
        return None
    return event if isinstance(event, Redeemed) else None


def _record(fact: Fact | None, workspace: int) -> str | None:
    return record_text(fact) if isinstance(fact, Redeemed) and fact.workspace == workspace else None
