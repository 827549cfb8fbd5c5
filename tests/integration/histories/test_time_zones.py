"""Zones mean the same in Postgres, which makes reports, and in Python, which makes files and reads dates."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import asyncpg
import pytest

from service.engine.domain.errors import BadField
from service.engine.domain.times import find_zone

ABBREVIATED = ("CET", "EET", "MET", "WET")
TIMES = [datetime(year, month, 15, 12, tzinfo=UTC) for year in (2005, 2015, 2025) for month in (1, 4, 7, 10)]
"""In each season. The two databases of zones are not of one age, and laws change the years to come."""
_OFFSETS = """
SELECT zone, at, extract(epoch FROM (at AT TIME ZONE zone) - (at AT TIME ZONE 'UTC'))::int AS offset_s,
  date_trunc('day', at, zone) AS day
FROM unnest($1::text[]) AS zones (zone) CROSS JOIN unnest($2::timestamptz[]) AS times (at)
"""


def _is_accepted(name: str) -> bool:
    try:
        return find_zone(name) is not None
    except BadField:
        return False


async def test_zones_mean_the_same(pool: asyncpg.Pool) -> None:
    """Each zone that is accepted has the same offsets, and the same days, in Postgres and in Python."""
    of_postgres = {row[0] for row in await pool.fetch("SELECT name FROM pg_timezone_names")}
    zones = sorted(name for name in available_timezones() & of_postgres if _is_accepted(name))
    assert len(zones) > 400
    wrong: dict[str, Any] = {}
    for name, at, offset_s, day in await pool.fetch(_OFFSETS, zones, TIMES):
        local = at.astimezone(ZoneInfo(name))
        midnight = local.replace(hour=0, minute=0, second=0)
        if (local.utcoffset().total_seconds(), midnight.astimezone(UTC)) != (offset_s, day):
            wrong[name] = (at, offset_s)
    assert wrong == {}


@pytest.mark.parametrize("name", ABBREVIATED)
async def test_an_abbreviation_is_no_zone(pool: asyncpg.Pool, name: str) -> None:
    """What Postgres reads as an abbreviation, which has no summer time, is refused."""
    summer = datetime(2025, 7, 15, 12, tzinfo=UTC)
    (row,) = await pool.fetch(_OFFSETS, [name], [summer])
    assert row["offset_s"] != summer.astimezone(ZoneInfo(name)).utcoffset().total_seconds()  # type: ignore[union-attr]
    with pytest.raises(BadField, match="no abbreviation"):
        find_zone(name)
