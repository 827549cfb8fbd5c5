"""Times in milliseconds: exact to both ends."""

from datetime import datetime

import pytest

from service.engine.domain.times import from_ms, to_datetime, to_ms

_LAST_MS = 253_402_300_799_999


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.000999Z", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1969-12-31T23:59:59Z", -1000),
        ("2026-11-20T10:14:00.123999+01:00", 1_795_166_040_123),
        ("9999-12-31T23:59:59.999999Z", _LAST_MS),
        ("9999-12-31T23:59:59.999999-01:00", _LAST_MS + 3_600_000),
        ("0001-01-01T00:00:00+01:00", -62_135_600_400_000),
    ],
)
def test_a_time_is_rounded_down(text: str, ms: int):
    """A time becomes the millisecond that contains it, before 1970 and at the end of 9999 too."""
    assert to_ms(datetime.fromisoformat(text)) == ms


@pytest.mark.parametrize("ms", [0, 1, 999, 1_795_166_040_123, _LAST_MS])
def test_milliseconds_come_back(ms: int):
    """Milliseconds become the same milliseconds again."""
    assert to_ms(datetime.fromisoformat(from_ms(ms))) == ms == to_ms(to_datetime(ms))
