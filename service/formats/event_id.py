"""An event's id: epoch and number."""

from typing import NamedTuple


class EventId(NamedTuple):
    """Sorts by the order of events. As text `<epoch>-<seq>`, the entry's id in the outbox."""

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    def __bytes__(self) -> bytes:
        return b"%d-%d" % self


NO_EVENT = EventId(0, 0)
"""The last event of an empty outbox."""
START = EventId(-1, -1)
"""Before all events."""
END = EventId(2**62, 0)
"""Later than every event."""


def parse_event_id(text: str) -> EventId:
    """The inverse of str. Raises ValueError."""
    epoch, seq = text.split("-")
    return EventId(int(epoch), int(seq))


def count_after(cursor: EventId, tail: EventId) -> int:
    """The number of events after the last recorded one, if `tail` is the outbox's last."""
    if tail.epoch == cursor.epoch:
        return max(0, tail.seq - cursor.seq)
    return tail.seq + 1 if tail.epoch > cursor.epoch else 0
