"""The head of a step or an include names its users, and the variables that it reads, leaves or needs."""

import re
from collections import defaultdict
from functools import cache

import pytest

from service.engine.hot.scripts import _expand
from tests.unit.test_scripts import PARTS, SOURCES, globals_of

STEPS = [name for name in PARTS if name.startswith("steps/")]
INCLUDES = [name for name in PARTS if name.startswith("includes/") and name != "includes/limits"]
WORDS = (
    "KEYS ARGV OUT ARGS NONCE EPOCH OPEN REPLID ENTRY_BYTES HOLDER HOLDS MISSED W redis error ipairs math next pairs "
    "pcall string table tonumber tostring type unpack"
)
GIVEN = {*WORDS.split()}
"""What every script has: from Lua, Redis, and service/engine/hot/scripts.py."""


def declared(text: str) -> set[str]:
    """The variables that a text declares at its margin."""
    lists: list[str] = re.findall(r"^local (?!function)([\w, ]+?)(?: =|$)", _expand(text), re.MULTILINE)
    return {name for one in lists for name in one.split(", ")}


SHARED = defaultdict[str, set[str]](set)
"""By name, the includes that declare it, for `Needs`. The variables of usual.lua are those of lua/many.lua alone."""
for _name in INCLUDES:
    for _shared in {*re.findall(r"^local function (\w+)", PARTS[_name], re.MULTILINE), *declared(PARTS[_name])}:
        SHARED[_shared].add(_name.removeprefix("includes/"))


@cache
def free_names(text: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names that a text reads, and those that it sets, without declaring them."""
    read, written = globals_of(_expand(text))
    return frozenset(read - GIVEN), frozenset(written - GIVEN)


@cache
def used(step: str) -> frozenset[str]:
    """The variables of a step that the rest of its users, and of theirs, uses: without the step it lacks them."""
    line, names = re.compile(rf"^ *-- @step {step.removeprefix('steps/')}$", re.MULTILINE), frozenset[str]()
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
    """The names after `Reads`, `Leaves` or `Needs`: `Reads a, b (a note), c; of some.lua: d, e.`"""
    without_notes = re.sub(r" \((?:[^()]|\([^()]*\))*\)", "", head(name))
    match = re.search(rf"\b{word} (.+?)\.(?: |$)", without_notes)
    return {one for group in match[1].split("; ") for one in group.rpartition(": ")[2].split(", ")} if match else set()


@pytest.mark.parametrize("name", STEPS)
def test_a_step_names_what_it_reads_and_leaves(name: str) -> None:
    """`Reads` has each variable that a step has from its users, `Leaves` each that they have from it; no others."""
    read, written = free_names(PARTS[name])
    shared = SHARED.keys() - declared(PARTS["includes/usual"])
    reads, leaves = listed(name, "Reads"), listed(name, "Leaves")
    assert (read - written - shared - reads, reads - read - written) == (set(), set())
    assert ((written - read - shared | used(name)) - leaves, leaves - written - declared(PARTS[name])) == (set(), set())


@pytest.mark.parametrize("name", INCLUDES)
def test_an_include_names_the_includes_that_it_needs(name: str) -> None:
    """`Needs` has the includes that declare what an include uses; no others."""
    free = frozenset[str]().union(*free_names(PARTS[name])) - {"named"}  # which scripts set
    needs, sources = listed(name, "Needs"), [SHARED.get(one, set[str]()) for one in free]
    assert needs <= set[str]().union(*sources)
    assert [one for one, source in zip(free, sources, strict=True) if not source & needs] == []


def test_heads_of_parts_name_their_users() -> None:
    """Where the head of an include or a step says `For` and names files, these are all that have it."""
    users = defaultdict[str, set[str]](set)
    for name, text in (SOURCES | PARTS).items():
        for kind, names in re.findall(r"^ *-- @(include|step) (.+)$", text, re.MULTILINE):
            for part in names.split(" "):
                users[f"{kind}s/{part}"].add(name)
    named = {part: _users_named(part) for part in PARTS}
    assert {part: names for part, names in named.items() if names and names != users[part]} == {}
    assert len([names for names in named.values() if names]) > 20


def _users_named(part: str) -> set[str]:
    """The files that the head of an include or a step names after `For`."""
    lists = re.findall(r"\bFor ((?:[\w/]+\.lua(?:, (?:and )?| and )?)+)", head(part))
    return {path.removeprefix("lua/") for some in lists for path in re.findall(r"([\w/]+)\.lua", some)}
