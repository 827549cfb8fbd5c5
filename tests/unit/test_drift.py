"""The classes of differences between a coupon in Redis and Postgres."""

import pytest

from service.engine.formats.coupon_state import RecordedCode, differing_classes, entry_of

UNLOCKED = " - - - - - - -"
LOCKED = " token ann A-1 5 1800000000000 1700000000000 ."
IDLE = RecordedCode(7, "CODE-1", 3, 5, True, None, None, None, 0, None, None, None, 0, False)
USED = IDLE._replace(uses=1, max=1, last="2-9", stand=1)
OWNED = IDLE._replace(owner="ann", at_ms=1000, special=True)
SEVERAL = IDLE._replace(uses=2, max=3, last="2-9", standing="2-8 1000 2-9 1000", stand=2)
ENDING = IDLE._replace(special=True, expires_ms=9000)
OFF = IDLE._replace(special=True, active=False)
BACK = IDLE._replace(max=1)

WHOLE = {
    "idle": (IDLE, "3", None),
    "used up": (USED, "3!2-9", None),
    "owned": (OWNED, "3!", "5 ann 1000 0 - - - -" + UNLOCKED),
    "owned by an odd name": (OWNED._replace(owner="-"), "3!", "5 %- 1000 0 - - - -" + UNLOCKED),
    "used in part": (SEVERAL, "3+", "0 - - 2 3 - - 2-9" + UNLOCKED),
    "used without limit": (SEVERAL._replace(max=0), "3+", "0 - - 2 0 - - 2-9" + UNLOCKED),
    "with an end": (ENDING, "3!", "5 - - 0 - - 9000 -" + UNLOCKED),
    "switched off": (OFF, "3!", "5 - - 0 - 1 - -" + UNLOCKED),
    "used and given back": (BACK, "3+", "0 - - 0 1 - - -" + UNLOCKED),
    "used for nothing": (USED._replace(last=None, stand=0), "3!", "0 - - 1 1 - - -" + UNLOCKED),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_rebuilt_coupon(name: str) -> None:
    """The entry and record that a rebuild writes have no difference from Postgres."""
    expected, entry, record = WHOLE[name]
    assert entry_of(expected) == (entry, record)
    assert differing_classes(expected, entry, record, locked=False) == []


def test_locks_are_no_difference() -> None:
    """A lock takes a code out of the pool and leaves its limit; reactivation leaves a version."""
    assert differing_classes(IDLE, "3!", "0 - - 0 1 - - -" + LOCKED, locked=False) == []
    assert differing_classes(IDLE, "3!" + LOCKED.strip(), None, locked=False) == []
    assert differing_classes(IDLE, "3!", "0 - - 0 3 - - -" + UNLOCKED, locked=True) == []
    assert differing_classes(IDLE, "3+", "0 - - 0 1 - - -" + UNLOCKED, locked=False) == []
    assert differing_classes(IDLE, "3+", "5 - - 0 - - - -" + UNLOCKED, locked=False) == []


@pytest.mark.parametrize(
    ("expected", "entry", "record", "classes"),
    [
        (IDLE, "4", None, ["book"]),
        (IDLE, "", None, ["book"]),
        (IDLE, "3!", None, ["free_missing"]),
        (IDLE, "3", "0 - - 0 1 - - -" + UNLOCKED, ["state"]),
        (IDLE, "3+", None, ["state"]),
        (USED, "3!" + LOCKED.strip(), None, ["uses", "redemptions"]),
        (IDLE, "3!2-9", None, ["uses", "redemptions"]),
        (IDLE, "3+", "0 - - 1 1 - - -" + UNLOCKED, ["uses"]),
        (IDLE, "3+", "6 - - 0 - - - -" + UNLOCKED, ["configuration"]),
        (IDLE, "3+", "0 - - 0 -", ["state"]),
        (IDLE, "3+", "x - - 0 - - - -" + UNLOCKED, ["state"]),
        (USED, "3", None, ["uses", "redemptions", "free_surplus"]),
        (USED, "3!2-7", None, ["redemptions"]),
        (USED, "3!2-9", "0 - - 1 1 - - 2-9" + UNLOCKED, ["state"]),
        (OWNED, "3!", "5 bob 1000 0 - - - -" + UNLOCKED, ["assignee"]),
        (OWNED, "3!", "5 ann 1001 0 - - - -" + LOCKED, ["assignee"]),
        (OWNED, "3!", "4 ann 1000 0 - - - -" + UNLOCKED, ["configuration"]),
        (SEVERAL, "3+", "0 - - 2 4 - - 2-9" + UNLOCKED, ["uses"]),
        (SEVERAL, "3+", "0 - - 2 3 - - 2-7" + UNLOCKED, ["redemptions"]),
        (SEVERAL, "3+", "0 - - 2 3 - - 2-8" + UNLOCKED, ["redemptions"]),
        (ENDING, "3!", "5 - - 0 - - 9001 -" + UNLOCKED, ["state"]),
        (OFF, "3+", "5 - - 0 - - - -" + UNLOCKED, ["state", "free_surplus"]),
    ],
)
def test_each_difference_has_its_class(
    expected: RecordedCode, entry: str, record: str | None, classes: list[str]
) -> None:
    """A difference gets all of its classes and no other."""
    assert differing_classes(expected, entry, record, locked=False) == classes
