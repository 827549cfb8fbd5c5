"""Parse UUIDs that clients send, and the times in UUIDs of version 7, whose first 48 bits are ms since 1970: for
controllers, operations, and queries of facts by time."""

from uuid import UUID

from service.engine.domain.times import LATEST_MS

LAST_ID = UUID(int=2**128 - 1)
"""The largest UUID."""
_VERSION, _TIME_BIT, _MAX_MS = 7, 80, (1 << 48) - 1


def parse_uuid(text: str) -> UUID | None:
    """The UUID, or None if the text is not one in its usual form with hyphens, or has a time after 9999. No id of ours
    has such a time, and datetime has no such time."""
    if len(text) != 36:
        return None
    try:
        value = UUID(text)
    except ValueError:
        return None
    if value.int >> _TIME_BIT > LATEST_MS and value.version == _VERSION:
        return None
    return value if str(value) == text.lower() else None


def time_ms_of(value: UUID) -> int | None:
    """The time in a UUID of version 7; None for other versions."""
    return value.int >> _TIME_BIT if value.version == _VERSION else None


def first_id(at_ms: int) -> UUID:
    """The smallest UUID of this time."""
    return UUID(int=min(max(at_ms, 0), _MAX_MS) << _TIME_BIT)


def last_id(at_ms: int) -> UUID:
    """The largest UUID of this time."""
    return UUID(int=(min(max(at_ms, 0), _MAX_MS) + 1 << _TIME_BIT) - 1)
