"""Times: milliseconds since 1970 inside, RFC 3339 in UTC with ms in responses. All requests and views use it."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo

import msgspec

from service.engine.domain.errors import BadField

Timestamp = Annotated[
    str, msgspec.Meta(extra_json_schema={"format": "date-time"}, examples=["2026-11-20T09:14:00.123Z"])
]
"""A time in a response."""

Time = Annotated[
    datetime,
    msgspec.Meta(
        tz=True,
        description="RFC 3339, from 1970 to 9999.",
        examples=["2036-11-27T00:00:00Z"],
        extra_json_schema={"pattern": "^(?:19[7-9]|[2-9][0-9]{2})"},
    ),
]
"""A time in a request. The struct calls check_times, since msgspec has no bounds for times."""

_ZONE = "^(?![CEMW]ET$)[A-Z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z0-9_+-]{1,32}){0,2}$"
_is_zone = re.compile(_ZONE).match
ZoneName = Annotated[str, msgspec.Meta(examples=["Europe/Berlin"], extra_json_schema={"pattern": _ZONE})]
"""A time zone in a request. The struct calls find_zone. CET, EET, MET and WET are none: Postgres takes them for
abbreviations, which have no summer time, and Python for zones."""

LATEST_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z: the last time that datetime, Postgres and RFC 3339 all have."""

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


def check_time(field: str, time: datetime) -> None:
    """Raise BadField unless the time, in UTC, is from 1970 to 9999."""
    if not 0 <= to_ms(time) <= LATEST_MS:
        raise BadField(field, "must be from 1970 to 9999")


def check_times(request: msgspec.Struct, path: str = "") -> None:
    """check_time for each time among the fields of a request; `path` precedes their names."""
    for name, encoded in zip(request.__struct_fields__, request.__struct_encode_fields__, strict=True):
        time = getattr(request, name)
        if isinstance(time, datetime):
            check_time(path + encoded, time)


def find_zone(name: str | None) -> ZoneInfo | None:
    """The time zone of this name. Raises BadField if the IANA database has none, or Postgres takes it for another."""
    if name is None:
        return None
    try:
        if _is_zone(name):
            return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # no file of this name, a folder, or a file without a zone
        pass
    hint = ", and no abbreviation" if len(name) == 3 else ""
    raise BadField("timeZone", f"must be an IANA time zone such as Europe/Berlin{hint}")
