"""An event's id: the number of its epoch, and its own number within that."""

from typing import NamedTuple


class EventId(NamedTuple):
    """Ids sort by the order of events; as text one is `<epoch>-<seq>`, as the outbox names it."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    def __bytes__(self) -> bytes:
        return b"%d-%d" % self


NO_EVENT = EventId(0, 0)
"""The last event of an outbox that is empty."""
START = EventId(-1, -1)
"""Before all events."""


def parse_event_id(text: str) -> EventId:
    """The inverse of str. Raises ValueError."""
    epoch, seq = text.split("-")
    return EventId(int(epoch), int(seq))
