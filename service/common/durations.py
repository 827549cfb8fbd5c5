"""Response times, counted in classes with fixed bounds, and quantiles of them: accounting.py counts,
request_metrics.py exports, charts.py draws. Postgres and /metrics keep counts by these bounds: change none of them."""

from bisect import bisect_left
from collections.abc import Mapping

_MS = (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700)
BOUNDS_US = tuple(round(ms * 1000) for ms in (*_MS, 1000, 1500, 2000, 3000, 5000, 7000, 10_000, 30_000))
"""The upper bounds of the classes. The last class also has what took longer."""


def find_bound(seconds: float) -> int:
    """The class of a duration, by its upper bound in µs."""
    return BOUNDS_US[min(bisect_left(BOUNDS_US, seconds * 1e6), len(BOUNDS_US) - 1)]


def quantile_ms(times: Mapping[int, int], share: float) -> float | None:
    """A quantile in ms of counts by bound in µs, spread evenly within each class; None without counts."""
    rank = share * sum(times.values())
    lower = 0
    for bound in BOUNDS_US:
        count = times.get(bound, 0)
        if count and rank <= count:
            return round((lower + (bound - lower) * rank / count) / 1000, 2)
        rank -= count
        lower = bound
    return None
