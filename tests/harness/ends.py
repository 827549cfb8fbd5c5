"""Ids, times and numbers at the ends of their types, and beyond them: what a store or a datetime can't hold."""

IDS = (
    "00000000-0000-0000-0000-000000000000",
    "00000000-0000-7000-8000-000000000000",
    "e677d21f-dbff-7fff-bfff-ffffffffffff",  # the last ms of 9999
    "e677d21f-dc00-7000-8000-000000000001",  # the year 10000
    "ffffffff-ffff-7000-8000-000000000001",
    "ffffffff-ffff-7fff-bfff-ffffffffffff",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
)
FAR_IDS = IDS[3:6]
"""With a time after 9999, which no id of ours has."""
EVENTS = ("0-0", f"{2**62 - 1}-{2**62}", f"{2**63}-1", f"1-{2**63 - 1}", f"1-{2**63}", f"{10**30}-1", "1-1-1", "-1-1")
TIMES = (
    "1970-01-01T00:00:00Z 1970-01-01T23:59:00+23:59 9999-12-31T23:59:59.999999Z 9999-12-31T23:59:59.999999+23:59 "
    "9999-12-31T00:00:59.999999-23:59"
).split()
"""The first and the last ones that the API accepts."""
TOO_EARLY = (
    "0001-01-01T00:00:00Z 0001-01-01T00:00:00+23:59 0001-01-01T00:00:00-23:59 1969-12-31T23:59:59.999Z "
    "1970-01-01T00:00:00+00:01 1970-01-01T23:58:59.999+23:59"
).split()
TOO_LATE = ("9999-12-31T23:59:59.999999-00:01", "9999-12-31T23:59:59.999999-23:59", "9999-12-31T00:01:00-23:59")
NO_TIMES = (
    "10000-01-01T00:00:00Z +10000-01-01T00:00:00Z 0000-01-01T00:00:00Z -0001-01-01T00:00:00Z "
    "9999-12-31T23:59:59.9999999Z 9999-12-31T24:00:00Z 2026-01-01T00:00:00+24:00 253402300800000 " + "9" * 400
).split()
NUMBERS = (2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, 10**400, -1, -(2**63), -(2**64))
"""Beyond all whole numbers of the API."""
