"""The texts of lua/fast/: a head names users, what the text reads and leaves; all settings and fields are known."""

import re
from functools import cache
from typing import Any
from uuid import UUID

import pytest

from service.engine.formats import stored_settings
from service.engine.formats.coupon_record import UNLOCKED, CouponRecord
from service.engine.formats.stored_settings import book_settings
from service.engine.hot.scripts import _expand
from tests.harness.stored_book import parse_settings
from tests.unit.test_books import make
from tests.unit.test_scripts import PARTS, SOURCES, globals_of

FUNCTIONS = [name for name in PARTS if name.startswith("includes/") and name != "includes/limits"]
JOINED = ["fast/usual", "fast/refusing"]
"""Functions of lua/run_requests.lua."""
STEPS = [name for name in PARTS if name.startswith("fast/") and name not in JOINED]
WORDS = (
    "KEYS ARGV OUT ARGS NONCE EPOCH OPEN REPLID ENTRY_BYTES HOLDER HOLDS MISSED WORK W redis error ipairs math next "
    "pairs pcall string table tonumber tostring type unpack"
)
GIVEN = {*WORDS.split()}
"""What every script has: from Lua, Redis, and service/engine/hot/scripts.py."""


def declared(text: str) -> set[str]:
    """The variables that a text declares at its margin."""
    lists: list[str] = re.findall(r"^local (?!function)((?:[\w, ]+,\n)*[\w, ]+?)(?: =|$)", _expand(text), re.MULTILINE)
    return {name for one in lists for name in re.findall(r"\w+", one)}


SHARED = {name for part in FUNCTIONS for name in re.findall(r"^local function (\w+)", PARTS[part], re.MULTILINE)}
SHARED |= {name for part in FUNCTIONS for name in declared(PARTS[part])}
SHARED |= {name for part in JOINED for name in re.findall(r"^local function (\w+)", PARTS[part], re.MULTILINE)}
"""What includes and functions of lua/run_requests.lua declare."""


@cache
def free_names(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names that a text reads, and those that it sets, without declaring them."""
    read, written = globals_of(_expand(text))
    return frozenset(read - GIVEN), frozenset(written - GIVEN)


@cache
def used(step: str) -> frozenset[str]:
    """The variables of a step that the rest of its users, and of theirs, uses: without the step it lacks them."""
    line, names = re.compile(rf"^ *-- @(step|fast) {step.removeprefix('fast/')}$", re.MULTILINE), frozenset[str]()
    for user, text in (SOURCES | PARTS).items():
        if line.search(text):
            without, whole = free_names(line.sub("", text)), free_names(text)
            names |= (without[0] - whole[0]) | (without[1] - whole[1])
            names |= used(user) & declared(PARTS[step]) if user in STEPS else set()
    return names


def head(name: str) -> str:
    """The first comment of a part, in one line."""
    match = re.match(r"(?:-- (?!@).*\n)*", PARTS[name])
    return " ".join(match[0].replace("-- ", "").split()) if match else ""


def listed(name: str, word: str) -> set[str]:
    """The names after `Reads` or `Leaves`: `Reads a, b (a note), c; of some.lua: d, e.`"""
    without_notes = re.sub(r" \((?:[^()]|\([^()]*\))*\)", "", head(name))
    match = re.search(rf"\b{word} (.+?)\.(?: |$)", without_notes)
    return {one for group in match[1].split("; ") for one in group.rpartition(": ")[2].split(", ")} if match else set()


@pytest.mark.parametrize("name", STEPS)
def test_a_step_names_what_it_reads_and_leaves(name: str) -> None:
    """`Reads` has each variable that a step has from its users, `Leaves` each that they have from it; no others."""
    read, written = free_names(PARTS[name])
    reads, leaves = listed(name, "Reads"), listed(name, "Leaves")
    assert (read - written - SHARED - reads, reads - read - written) == (set(), set())
    assert ((written - read - SHARED | used(name)) - leaves, leaves - written - declared(PARTS[name])) == (set(), set())


@pytest.mark.parametrize("name", STEPS)
def test_a_step_names_its_users(name: str) -> None:
    """The files after `For` are all that paste it."""
    line = re.compile(rf"^ *-- @(step|fast) {name.removeprefix('fast/')}$", re.MULTILINE)
    assert _users_named(name) == {user for user, text in (SOURCES | PARTS).items() if line.search(text)}


def _users_named(step: str) -> set[str]:
    lists = re.findall(r"\bFor ((?:[\w/]+\.lua(?:, (?:and )?| and )?)+)", head(step))
    return {path.removeprefix("lua/") for some in lists for path in re.findall(r"([\w/]+)\.lua", some)}


NOT_OF = {
    "lock_end usual_lock": "book_id codes_per_user locked low for_redeem for_sold_out for_used_up".split(),
    "usual_redeem": "book_id codes_per_user lock_ms max_lock_ms terms low for_lock for_sold_out for_used_up".split(),
}
"""By the texts of lua/fast/, the settings of a book that can't change what it decides; each was reviewed."""


def test_the_usual_texts_read_every_place() -> None:
    """What a call of many reads of a book has each place of the stored settings."""
    texts = PARTS["fast/book_fields"] + PARTS["fast/terms"]
    named = [name for names in re.findall(r"\{book [\w ]+: ([^}]+)\}", texts) for name in names.split()]
    assert sorted(named) == sorted(["*discount", *(place.name for place in stored_settings._PLACES)])


def test_the_usual_texts_use_every_place() -> None:
    """Each place is used by the usual lock and by the usual redemption, or is reviewed in NOT_OF."""
    captured = declared(PARTS["fast/book_fields"]) | free_names(PARTS["fast/terms"])[1]
    known = {"is_usual": {"for_lock", "for_redeem"}, "discount_type": {"terms"}}
    for names, others in NOT_OF.items():
        used = {*re.findall(r"\w+", "".join(_code(PARTS[f"fast/{name}"]) for name in names.split()))}
        used |= {one for name, read in known.items() if name in used for one in read}
        assert captured - used - {"terms"} <= {*others}, names


USUAL_WORDS = [
    ({}, "lrxs"),
    ({"validFrom": "2030-01-01T00:00:00Z", "lowStockThreshold": 3, "requireLock": True}, "lrxs"),
    ({"status": "inactive"}, "----"),
    ({"maxRedemptionsPerCode": 2}, "--xs"),
    ({"maxRedemptions": 2}, "--xs"),
    ({"useLimits": [{"uses": 1, "per": "user", "period": "day"}]}, "--xs"),
    ({"requireAssignment": True}, "---s"),
    ({"limits": {"locksPerUser": 1}}, "-rxs"),
    ({"publicReasons": True, "giftBookId": str(UUID(int=8))}, "lrxs"),
    ({"maxRedemptions": 2, "requireAssignment": True}, "---s"),
]


@pytest.mark.parametrize(("rules", "word"), USUAL_WORDS)
def test_a_books_first_word_names_the_texts_that_may_decide(rules: dict[str, Any], word: str) -> None:
    """It has the letter of each usual text that no setting affects which this text does not read."""
    assert parse_settings(book_settings(make(**rules)))["usual"] == word


def test_a_setting_without_a_word_about_the_usual_texts_is_not_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """No usual text decides about a book with a new setting whose row names none of them."""
    row = make(tags=["new"])
    new = stored_settings._Named("new", lambda row: bool(row.tags), False, "")
    monkeypatch.setattr(stored_settings, "_NAMED", (*stored_settings._NAMED, new))
    assert parse_settings(book_settings(row)) | {"usual": "----", "new": "1"} == parse_settings(book_settings(row))
    assert parse_settings(book_settings(make()))["usual"] == "lrxs"


def test_the_fast_texts_read_every_field_of_a_record() -> None:
    """What the usual texts compare with a record has all its fields; with one more it is not usual."""
    before_lock = len(CouponRecord._fields) - 1
    heads = re.findall(r"'(0 - - 0 1 [- ]+)'", PARTS["fast/usual_lock"] + PARTS["fast/usual_redeem"])
    assert len(heads) == 2
    assert {len(head.split()) for head in heads} == {before_lock}
    (pattern,) = re.findall(r"'\^(%S\+ %- .*)\$'", PARTS["fast/usual_used_up"])
    assert len(pattern.split(" ")) == before_lock + len(UNLOCKED.split())


def _code(text: str) -> str:
    """A text without comments."""
    return re.sub(r"--.*", "", text)
