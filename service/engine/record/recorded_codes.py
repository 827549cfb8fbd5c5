"""Codes as they are recorded after an event: for openings and comparisons."""

from collections.abc import Sequence

from service.engine.formats.coupon_state import RecordedCode
from service.engine.formats.event_id import EventId
from service.engine.record.pool import Database
from service.engine.record.queries import query


async def recorded_codes(
    database: Database, partition: int, workspace: int, at: EventId, names: Sequence[str]
) -> dict[str, RecordedCode]:
    """Those of these codes that exist, after an event; without archived books."""
    rows = await database.fetch(query("codes_in_order"), partition, workspace, *at, list(names))
    return {row["code"]: RecordedCode(*row) for row in rows}
