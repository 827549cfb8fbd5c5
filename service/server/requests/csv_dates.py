"""Dates and times as spreadsheets write them (`31.12.2026`, `12/31/2026 11:59 PM`), for csv_layout.py and
code_requests.py. Nothing is guessed: a column has one order of day and month, and the client names the zone."""

import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from service.engine.domain.errors import BadField, FieldError
from service.engine.domain.field_types import Answer
from service.engine.domain.times import Time, Timestamp, check_time, find_zone, from_ms, to_ms

Order = Literal["dmy", "mdy", "ymd"]
_ORDERS: dict[Order, str] = {"dmy": "day, month, year", "mdy": "month, day, year", "ymd": "year, month, day"}
SEPARATORS = "-./"
_BUDDHIST = range(2500, 2700)
"""Years that a spreadsheet in Thai writes for 1957 to 2156."""

_match = re.compile(
    r"([0-9]{1,4})\s?([-./])\s?([0-9]{1,2})\s?\2\s?([0-9]{1,4})\.?"
    r"(?:[T,\s]\s?([0-9]{1,2})[:.]([0-9]{2})(?:[:.]([0-9]{2})(?:[.,]([0-9]{1,6}))?)?(?:\s?([AaPp])\.?\s?[Mm]\.?)?)?"
).fullmatch
"""Groups: first, separator, second and third number of the date; hour, minute, second, fraction, A or P."""


class Dates(Answer, kw_only=True):
    """How dates and times without an offset are read."""

    order: Annotated[Order | None, msgspec.Meta(description="Null if `dates` is needed.")]
    separators: Annotated[
        str,
        msgspec.Meta(
            description="The order is that of dates with these separators. A later date with another one is invalid."
        ),
    ]
    time_zone: Annotated[str | None, msgspec.Meta(description="Null if `timeZone` is needed.")]
    example: Annotated[str, msgspec.Meta(description="The first value of the file.")]
    read_as: Annotated[
        Timestamp | None, msgspec.Meta(description="The example, as it is read; null if it can't be read.")
    ]


class Reading(NamedTuple):
    """How to read the times of a column."""

    order: Order | None = None
    separators: str = ""
    """The order is that of dates with these."""
    zone: ZoneInfo | None = None
    has_short_years: bool = False
    """Whether a year may have two digits: only if the client has sent the order."""


def detect_dates(
    texts: Iterable[str], sent: Order | None, time_zone: str | None
) -> tuple[Dates | None, FieldError | None]:
    """How to read the dates among a column's first values, or None if there are none; and the option that the client
    must send for that. A date shows the order of those with the same separator alone."""
    found: dict[Order | None, str] = {}
    forms: dict[str, dict[Order | None, str]] = {}
    for text in texts:
        if match := _match(text):
            order = _find_order(match)
            found.setdefault(order, text)
            if order != "ymd":
                forms.setdefault(match[2], {}).setdefault(order, text)
    if not found:
        return None, None
    orders: list[Order] = [order for order in found if order in ("dmy", "mdy")]
    open_form = next((form for form in forms.values() if form.keys() == {None}), None)
    order = sent or (orders[0] if len(orders) == 1 and not open_form else None if forms else "ymd")
    separators = SEPARATORS if sent else "".join(sorted(forms))
    example = next(iter(found.values()))
    read_as = problem = None
    if order is None:
        both = f'"{found["dmy"]}" begins with a day, "{found["mdy"]}" with a month' if len(orders) > 1 else ""
        example = open_form[None] if open_form else example
        why = both or f'"{example}" can be read in several ways'
        also = "" if time_zone else ", and `timeZone`"
        problem = FieldError("dates", f"is needed: {why}; send `dates=dmy` or `dates=mdy`{also}")
    elif time_zone is None:
        problem = FieldError(
            "timeZone", f'is needed: "{example}" has no offset; send one such as `timeZone=Europe/Berlin`'
        )
    else:
        with suppress(BadField):
            reading = Reading(order, separators, find_zone(time_zone), sent is not None)
            read_as = from_ms(parse_time(example, reading))
    return Dates(order=order, separators=separators, time_zone=time_zone, example=example, read_as=read_as), problem


def _find_order(match: re.Match[str]) -> Order | None:
    """The only order in which a date can be read; None if there are several, or none."""
    first, _, second, third = match.groups()[:4]
    if len(first) > 2:
        return "ymd"
    if len(third) == 4 and int(first) <= 12 < int(second) <= 31:
        return "mdy"
    return "dmy" if len(third) == 4 and int(second) <= 12 < int(first) <= 31 else None


@lru_cache(maxsize=4096)
def parse_time(text: str, reading: Reading) -> int:
    """Milliseconds since 1970 of an RFC 3339 time, or of a date as spreadsheets write it. Raises BadField."""
    if match := _match(text):
        time = _parse_local(match, reading)
    else:
        try:
            time = msgspec.convert(text, Time)
        except msgspec.ValidationError:
            raise BadField("expiresAt", "must be an RFC 3339 time, or a date such as 31.12.2026") from None
    check_time("expiresAt", time)
    return to_ms(time)


def _parse_local(match: re.Match[str], reading: Reading) -> datetime:
    first, separator, second, third, hour, minute, seconds, fraction, half = match.groups()
    order = "ymd" if len(first) > 2 else reading.order if separator in reading.separators else None
    if order is None or reading.zone is None:
        missing = " and ".join(
            name for name, is_known in (("`dates`", order), ("`timeZone`", reading.zone)) if not is_known
        )
        raise BadField("expiresAt", f"has no offset: send {missing}, or add one")
    parts = dict(zip(order, (first, second, third), strict=True))
    year = parts["y"]
    if len(year) == 2 and reading.has_short_years:
        year = f"20{year}"
    if len(year) != 4 and len(third) == 2:
        raise BadField("expiresAt", "must have a year of four digits, unless `dates` is sent")
    try:
        date = datetime(int(year), int(parts["m"]), int(parts["d"]), tzinfo=reading.zone)
    except ValueError:
        raise BadField("expiresAt", f"must be a date that exists, in the order {_ORDERS[order]}") from None
    if date.year in _BUDDHIST:
        raise BadField("expiresAt", "must have a year of the Gregorian calendar")
    if hour is None:
        return date.replace(hour=23, minute=59, second=59, microsecond=999_000, fold=1)
    hours = int(hour)
    if half:
        hours = hours % 12 + 12 * (half in "Pp") if 1 <= hours <= 12 else 24
    micros = int((fraction or "0").ljust(6, "0"))
    try:
        time = date.replace(hour=hours, minute=int(minute), second=int(seconds or 0), microsecond=micros)
    except ValueError:
        raise BadField("expiresAt", "must have a time from 00:00 to 23:59:59") from None
    if time.utcoffset() != time.replace(fold=1).utcoffset():
        raise BadField(
            "expiresAt", f"is when clocks change in {reading.zone.key}; write it as RFC 3339, with an offset"
        )
    return time
