"""How far a mending is, `{pN}:mend`: `whole` while everything is rebuilt, else the last event that was applied again;
then `<event>:<why>` of each that was left out. lua/redo.lua and mark.lua write it."""

from collections.abc import Sequence
from typing import NamedTuple

from service.formats.event_id import EventId, parse_event_id

WHOLE = "whole"


class MendingMark(NamedTuple):
    """Where a mending that was begun goes on; without an event where only a rebuild does."""

    reached: EventId | None = None
    left_out: Sequence[tuple[EventId, str]] = ()
    """Events, each with why it could not be applied again."""


def parse_mending_mark(text: str) -> MendingMark:
    """A mark's parts; none of it where a part can't be read."""
    reached, *names = text.split(" ")
    parts = [name.partition(":") for name in names]
    try:
        return MendingMark(parse_event_id(reached), [(parse_event_id(event), why) for event, _, why in parts])
    except ValueError:
        return MendingMark()
