"""Lifetimes, days and months of a time zone, by the standard library."""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

Period = tuple[int, ...]
"""A lifetime is (), a month (year, month), a day (year, month, day)."""


@lru_cache(maxsize=4096)
def period_of(kind: str, zone: str, ms: int) -> Period:
    """The period of this kind, `lifetime`, `month` or `day`, to which a time belongs."""
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).astimezone(ZoneInfo(zone))
    return {"lifetime": (), "month": (local.year, local.month), "day": (local.year, local.month, local.day)}[kind]


@lru_cache(maxsize=4096)
def renews_at(kind: str, zone: str, ms: int) -> int | None:
    """When the next period begins after a time; None for a lifetime."""
    period = period_of(kind, zone, ms)
    if not period:
        return None
    following = date(*period) + timedelta(days=1) if kind == "day" else _month_after(*period)
    return int(datetime(following.year, following.month, following.day, tzinfo=ZoneInfo(zone)).timestamp()) * 1000


def _month_after(year: int, month: int) -> date:
    return date(year + month // 12, month % 12 + 1, 1)
