"""A book's budgets and limits of uses as scripts read them, the periods that they name, and what is spent in these:
stored_settings.py writes the first, budget_counter.py and comparisons the others. In Lua: lua/includes/budgets.lua.

A period is `l` (a lifetime), `d<number of the local day since 1970>` or `m<number of the local month since year 0>`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from service.engine.domain.budgets import Bound, BudgetRow
from service.engine.formats.discount_sum import join_sum, split_into, sum_counters

ZONE_YEARS = 10
"""For so many years after a change of the book its settings have the changes of its zone's offset."""
_MINUTE_MS, _DAY_MS = 60_000, 86_400_000
_EPOCH = date(1970, 1, 1)


class Spent(NamedTuple):
    """What was spent in a period."""

    amount_e4: int
    uses: int


def encode_bounds(bounds: Sequence[Bound], generation: int, *, is_counted: bool, zone: str) -> str:
    """The part of a book's setting after `total`."""
    words = ",".join(_encode_bound(bound) for bound in bounds)
    return f"{generation}{'!' if is_counted else ''}/{zone}/{words}"


def _encode_bound(bound: Bound) -> str:
    unit, most = ("a", bound.amount_e4) if isinstance(bound, BudgetRow) else ("u", bound.uses)
    return f"{unit}:{bound.per[0]}:{bound.period[0]}:{most}"


@lru_cache(maxsize=1024)
def encode_zone(name: str, year: int) -> str:
    """A zone's offset at the beginning of a year, and its changes for ZONE_YEARS after it, in minutes."""
    zone, ends = ZoneInfo(name), datetime(year + ZONE_YEARS + 1, 1, 1, tzinfo=UTC)
    at = datetime(year, 1, 1, tzinfo=UTC)
    text = str(_offset(zone, at))
    while at < ends:
        after = at + timedelta(hours=12)
        if _offset(zone, at) != _offset(zone, after):
            changed = _find_change(zone, at, after)
            text += f",{int(changed.timestamp()) // 60}:{_offset(zone, after)}"
        at = after
    return text


def _offset(zone: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset()
    return 0 if offset is None else math.floor(offset / timedelta(minutes=1))


def _find_change(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The first minute with the offset of `after`."""
    while after - before > timedelta(minutes=1):
        middle = before + timedelta(minutes=(after - before) // timedelta(minutes=2))
        if _offset(zone, middle) == _offset(zone, after):
            after = middle
        else:
            before = middle
    return after


class Span(NamedTuple):
    """A period of a zone, and its times; `ends_ms` None for a lifetime."""

    name: str
    begins_ms: int
    ends_ms: int | None


def spans_at(zone: str, at_ms: int) -> tuple[Span, Span, Span]:
    """The lifetime, the day and the month of a time. A local date that a zone has twice is one day."""
    stretches = list(_stretches(zone))
    day = next((at_ms + offset) // _DAY_MS for offset, ends in stretches if at_ms < ends)
    local = _EPOCH + timedelta(days=day)
    month = local.year * 12 + local.month - 1
    first = (local.replace(day=1) - _EPOCH).days
    next_month = (local.replace(day=1) + timedelta(days=32)).replace(day=1)
    lifetime = Span("l", -(1 << 62), None)
    of_day = Span(f"d{day}", _begin_of(stretches, day), _begin_of(stretches, day + 1))
    of_month = Span(f"m{month}", _begin_of(stretches, first), _begin_of(stretches, (next_month - _EPOCH).days))
    return lifetime, of_day, of_month


def _stretches(zone: str) -> Iterator[tuple[int, float]]:
    """Each offset in ms, and when it ends."""
    first, *changes = zone.split(",")
    parts = [("", first), *((minute, offset) for minute, _, offset in (change.partition(":") for change in changes))]
    for (_, offset), (minute, _) in pairwise([*parts, ("", "")]):
        yield int(offset) * _MINUTE_MS, int(minute) * _MINUTE_MS if minute else math.inf


def _begin_of(stretches: Sequence[tuple[int, float]], day: int) -> int:
    """The first moment with this local date, or a later one."""
    since: float = -math.inf
    for offset, ends in stretches:
        begins = max(since, day * _DAY_MS - offset)
        if begins < ends:
            return int(begins)
        since = ends
    raise AssertionError("the last stretch has no end")


def counters_of(generation: int, period: str, spent: Spent) -> dict[str, int]:
    """What to add to a book's counters, to add this; without zeros."""
    name = f"{generation}:{period}"
    counters = split_into(name, spent.amount_e4) | {f"{name}Uses": spent.uses}
    return {counter: by for counter, by in counters.items() if by}


def counter_names(generation: int, period: str) -> tuple[str, str, str]:
    """The counters of a period."""
    name = f"{generation}:{period}"
    return *sum_counters(name), f"{name}Uses"


def read_counters(low: str | None, high: str | None, uses: str | None) -> Spent:
    return Spent(join_sum(int(low or 0), int(high or 0)), int(uses or 0))


def encode_spent(spent: Mapping[str, Spent]) -> str:
    """What a user has spent, by period, in the order in which scripts write it (lua/includes/budgets.lua)."""
    ordered = sorted(spent.items(), key=lambda item: (len(item[0]), item[0]), reverse=True)
    return " ".join(f"{period}:{some.amount_e4}:{some.uses}" for period, some in ordered)


def parse_spent(text: str | None, generation: int) -> dict[str, Spent]:
    """What a user's bucket has; nothing of another generation."""
    its, *words = (text or "").split(" ")
    if its != str(generation):
        return {}
    parts = (word.split(":") for word in words)
    return {period: Spent(int(amount), int(uses)) for period, amount, uses in parts}
