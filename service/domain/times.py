"""Times: milliseconds since 1970 inside, RFC 3339 in UTC with milliseconds in responses."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated

import msgspec

Timestamp = Annotated[
    str, msgspec.Meta(extra_json_schema={"format": "date-time"}, examples=["2026-11-20T09:14:00.123Z"])
]
"""A time in a response."""

_START = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=256)
def from_ms(ms: int) -> str:
    """The time in RFC 3339: `2026-11-20T09:14:00.123Z`."""
    second, rest = divmod(ms, 1000)
    return f"{_second(second)}.{rest:03d}Z"


def to_ms(time: datetime) -> int:
    """Milliseconds since 1970, rounded down. The time must have an offset."""
    return (time - _START) // _MS


def to_datetime(ms: int) -> datetime:
    """The time in UTC."""
    second, rest = divmod(ms, 1000)
    return datetime.fromtimestamp(second, UTC).replace(microsecond=rest * 1000)
