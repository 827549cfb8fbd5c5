"""The machine finds what is wrong: each of these changes of a script, slight as it is, is a difference to the model."""

from pathlib import Path

import pytest
from hypothesis import Phase

from tests.model.running import play
from tests.model.stage import Stage, stage_on

PLANTS = {
    "a user's limit": ("if taken >= book.per_user and", "if taken > book.per_user and"),
    "the end of a window": ("now >= till", "now > till"),
    "the end of a lock": ("c.lock.deadline > now", "c.lock.deadline >= now"),
    "rounding": ("twice == full and q % 2 == 1", "twice == full"),
    "an order's places": (
        "local kept = restore and '' or",
        "local kept = '' or",
    ),
    "a used gift": ("if gift and gift.uses > 0 then gift = nil end", ""),
    "a lock's use of the total": (
        "enter(W .. 'lb:' .. book.number, l, now)",
        "enter(W .. 'lb:0', l, now)",
    ),
    "a notice of low stock": ("left + took >= low", "left + took > low"),
    "a rebuilt gift": ("order ~= '' and { order = order, bucket = order_bucket } or nil)", "nil)"),
    "a rollback of a code that was used again": ("return c.last == event end", "return c.last ~= nil end"),
    "a lock that its key's quota doesn't count": (".. '.' .. (HOLDER or '')", ".. '.'"),
    "a lock that its user's quota doesn't count": ("(book.per_user or of_user) and 'u'", "book.per_user and 'u'"),
    "a quota that isn't given back by unlock and redeem": (
        "if holder then redis.call('ZREM', W .. 'lk:' .. holder, l.token) end",
        "",
    ),
    "a quota that isn't given back by a lock's end": (
        "local function live(key) return redis.call('ZCOUNT', key, '(' .. whole(now), '+inf') end",
        "local function live(key) return redis.call('ZCARD', key) end",
    ),
    "a share that is passed by one": ("taken >= math.max(1, math.floor", "taken > math.max(1, math.floor"),
    "a miss that a validate doesn't count": ("MISSED = true", "MISSED = nil"),
    "a code used up, seen by the directory alone": ("last and 1 or 0, max = last and 1,", "0, max = last and 1,"),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_difference_is_found(name: str, tmp_path: Path) -> None:
    """Within some thousand steps, on the real server."""
    assert any(PLANTS[name][0] in path.read_text() for path in Path("lua").rglob("*.lua")), "nothing is changed by it"
    with stage_on(tmp_path, PLANTS[name]) as stage:
        assert _found(stage), name


def _found(stage: Stage) -> bool:
    try:
        for number in range(1, 4):
            play(stage, number, phases=[Phase.generate])
    except AssertionError:
        return True
    return False
