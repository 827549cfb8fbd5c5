"""The machine detects slight mistakes of scripts, each in another part of what it compares."""

from pathlib import Path

import pytest
from hypothesis import Phase

from tests.model.databases import Databases, databases_on
from tests.model.running import play

PLANTS = {
    "answer": ("now >= ends_at", "now > ends_at"),
    "what is left of a limit": ("MISSED = MISSED or refused ==", "MISSED = MISSED or i > 2 and refused =="),
    "counters": ("count_in(W .. 'lb:' .. book.number)", "count_in(W .. 'lb:0')"),
    "events": ("left + took >= low", "left + took > low"),
    "a card's held at expiry": ("held = expired <= MOST and held - sum or sum", "held = held"),
    "the amount asked of a card": (
        "return math.min(ask.left, value, ask.amount or value)",
        "return math.min(ask.left, value)",
    ),
    "what a card is given back": (
        "change_account(c, book, 'spent', -e.discount)",
        "change_account(c, book, 'spent', 0)",
    ),
    "what a budget's locks hold": ("taken = spent[i] + held[i] -", "taken = spent[i] -"),
    "a budget after a rollback": (
        "e.discount, tonumber(e.counted_at), '-')",
        "e.discount, tonumber(e.counted_at), '')",
    ),
    "the end of a month": ("letter == 'd' and day + 1 or", "day + 1 or"),
    "rebuilt Redis": ("order ~= '' and { order = order, bucket = order_bucket } or nil)", "nil)"),
}


@pytest.mark.parametrize("part", PLANTS)
def test_a_planted_mistake_is_a_difference(part: str, tmp_path: Path) -> None:
    """The machine stops within some thousand steps on a real server."""
    assert any(PLANTS[part][0] in path.read_text() for path in Path("lua").rglob("*.lua")), "nothing is changed by it"
    with databases_on(tmp_path, PLANTS[part]) as databases, pytest.raises(AssertionError):
        walk(databases)


def walk(databases: Databases) -> None:
    """Take some thousand steps from each of eight seeds, until a difference."""
    for number in range(1, 9):
        play(databases, number, phases=[Phase.generate])
