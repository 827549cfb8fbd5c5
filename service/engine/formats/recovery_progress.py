"""Parse how far a recovery has come, `{pN}:mend`, for partition_opening.py: `whole` during a rebuild, else the last
event that was applied again; then `<event>:<why>` of each skipped event. lua/apply_events.lua and
record_progress.lua write it."""

from collections.abc import Sequence
from typing import NamedTuple

from service.engine.formats.event_id import EventId, parse_event_id

WHOLE = "whole"


class RecoveryProgress(NamedTuple):
    """The progress of a recovery; without `reached` only a rebuild can continue it."""

    reached: EventId | None = None
    skipped: Sequence[tuple[EventId, str]] = ()
    """Skipped events, each with the reason."""


def parse_recovery_progress(text: str) -> RecoveryProgress:
    """Parse the text of `{pN}:mend`; without `reached` for '', WHOLE, or if a part is invalid."""
    reached, *names = text.split(" ")
    parts = [name.partition(":") for name in names]
    try:
        return RecoveryProgress(parse_event_id(reached), [(parse_event_id(event), why) for event, _, why in parts])
    except ValueError:
        return RecoveryProgress()
