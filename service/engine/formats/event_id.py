"""An event's id, `<epoch>-<number>`, for all that reads the outbox, compares cursors or takes an id from an operator.

Redis orders the outbox by it, records and answers contain it: neither the text nor the order of the fields may change.
"""

import re
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

_MAX_SEQ = 2**62
_is_sent = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII).fullmatch


def parse_event_id(text: str) -> EventId:
    """The inverse of str. Raises ValueError."""
    epoch, seq = text.split("-")
    return EventId(int(epoch), int(seq))


def parse_sent_id(text: str) -> EventId | None:
    """The event id that a client or operator sent; None if it can't be an event's."""
    match = _is_sent(text)
    if match is None:
        return None
    event = EventId(int(match[1]), int(match[2]))
    return event if event < END and event.seq <= _MAX_SEQ else None


def count_after(cursor: EventId, tail: EventId) -> int:
    """The number of events after the last recorded one, if `tail` is the outbox's last."""
    if tail.epoch == cursor.epoch:
        return max(0, tail.seq - cursor.seq)
    return tail.seq + 1 if tail.epoch > cursor.epoch else 0
