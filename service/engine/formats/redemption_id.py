"""Convert an event to its redemption's id and back: events are recorded, and responses rendered, with it.

lua/includes/events.lua makes the same id (`id_of`); Postgres and clients keep ids, so their bits must not change.
"""

from functools import lru_cache
from uuid import UUID

from service.engine.formats.event_id import EventId, parse_event_id


def id_from_numbers(epoch: int, seq: int, at_ms: int) -> str:
    """The redemption's id: a UUIDv7 whose random part is the epoch and number of its event."""
    return "%s-%012x" % (_first_parts(epoch, at_ms), seq)  # noqa: UP031, half the time


@lru_cache(maxsize=256)
def _first_parts(epoch: int | str, at_ms: int | str) -> str:
    """What the ids of an epoch's redemptions of the same millisecond begin with."""
    epoch, at_ms = int(epoch), int(at_ms)
    return f"{at_ms >> 16:08x}-{at_ms & 0xFFFF:04x}-7{epoch >> 14:03x}-{0x8000 | (epoch & 0x3FFF):04x}"


def event_id_of(redemption: UUID) -> EventId:
    """The event in a redemption's id; an arbitrary one for other ids."""
    return parse_event_id(event_text_of(redemption))


def event_text_of(redemption: UUID) -> str:
    """As event_id_of, as text, in half the time."""
    number = redemption.int
    return f"{(number >> 64 & 0xFFF) << 14 | (number >> 48 & 0x3FFF)}-{number & 0xFFFF_FFFF_FFFF}"


def id_from_event(event: str, at_ms: str) -> str:
    """As id_from_numbers, from the event's id as text."""
    epoch, _, seq = event.partition("-")
    return f"{_first_parts(epoch, at_ms)}-{int(seq):012x}"
