"""Redemptions as scripts read them, if Redis stores only their events (lua/includes/facts.lua). recall.py calls this.
Prefixes and records are those that the scripts ask for and parse."""

from collections.abc import Sequence
from typing import cast
from uuid import UUID

from asyncpg import Pool

from service.engine.domain.field_types import decode_id
from service.engine.formats.event_id import EventId, parse_event_id
from service.engine.formats.events import Fact, Redeemed, record_text
from service.engine.formats.redemption_id import event_id_of
from service.engine.record.facts.fact_reader import fact_of
from service.engine.record.facts.quarantined_events import refused_redemption, refused_rollback
from service.engine.record.pool import Database
from service.engine.record.queries import query

ORDER = "order:"
"""The prefix of an order's id, if a script asks whether a redemption of the order was ever rolled back."""
ROLLED_BACK = "rolled:"
"""The prefix of a redemption's id, or of a gift (`<code>/<assigned at>`), if a script asks when it was rolled back."""
OF_ROLLBACKS = (ORDER, ROLLED_BACK)
"""Prefixes of what is known only once everything that was decided before is recorded."""


async def records_of(pool: Pool, partition: int, workspace: int, names: Sequence[str]) -> list[tuple[str, str]]:
    """The existing redemptions with their records. A name is an event or a redemption's id; an unknown id has the
    record ''. With ORDER before an order's id, the record is '1' if one of its redemptions was rolled back, else ''.
    With ROLLED_BACK it is the time of the rollback in ms, '' if there was none.
    """
    records: list[tuple[str, str]] = []
    for name in names:
        if name.startswith(ORDER):
            was_rolled_back = await _was_rolled_back(pool, partition, workspace, name.removeprefix(ORDER))
            record = "1" if was_rolled_back else ""
        elif name.startswith(ROLLED_BACK):
            at_ms = await _rolled_back_ms(pool, partition, workspace, name.removeprefix(ROLLED_BACK))
            record = "" if at_ms is None else str(at_ms)
        elif len(name) == len(str(UUID(int=0))):
            record = await _by_id(pool, partition, workspace, UUID(name)) or ""
        else:
            record = _record(await _redemption_at(pool, partition, parse_event_id(name)), workspace)
        if record is not None:
            records.append((name, record))
    return records


async def _by_id(database: Database, partition: int, workspace: int, redemption: UUID) -> str | None:
    fact = await _redemption_at(database, partition, event_id_of(redemption))
    is_same = isinstance(fact, Redeemed) and fact.redemption_id == str(redemption)
    return _record(fact, workspace) if is_same else None


async def _redemption_at(database: Database, partition: int, event: EventId) -> Fact | None:
    row = await database.fetchrow(query("redemption_by_event"), partition, *event)
    return fact_of(row) if row else await refused_redemption(database, partition, event)


async def _was_rolled_back(database: Database, partition: int, workspace: int, order: str) -> bool:
    about = (partition, workspace, decode_id(order), f"B {workspace} ".encode(), f" {order} ".encode())
    return bool(await database.fetchval(query("order_was_rolled_back"), *about))


async def _rolled_back_ms(database: Database, partition: int, workspace: int, thing: str) -> int | None:
    """When the redemption or gift was rolled back; a redemption's rollback may be in quarantine."""
    code, slash, assigned_ms = thing.partition("/")
    if slash:
        return cast("int | None", await database.fetchval(query("gift_rolled_back"), workspace, code, int(assigned_ms)))
    at_ms: int | None = await database.fetchval(query("redemption_rolled_back"), UUID(thing))
    return await refused_rollback(database, partition, workspace, thing) if at_ms is None else at_ms


def _record(fact: Fact | None, workspace: int) -> str | None:
    return record_text(fact) if isinstance(fact, Redeemed) and fact.workspace == workspace else None
