"""Times: milliseconds since 1970 within, RFC 3339 in UTC with milliseconds in answers."""

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=4096)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def from_ms(ms: int) -> str:
    """`2026-11-20T09:14:00.123Z`."""
    second, rest = divmod(ms, 1000)
    return f"{_second(second)}.{rest:03d}Z"


def to_ms(time: datetime) -> int:
    """Milliseconds since 1970, cut, of a time with an offset."""
    return int(time.timestamp()) * 1000 + time.microsecond // 1000


def to_datetime(ms: int) -> datetime:
    """The time in UTC."""
    second, rest = divmod(ms, 1000)
    return datetime.fromtimestamp(second, UTC).replace(microsecond=rest * 1000)
