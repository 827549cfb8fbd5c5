"""The operators and the list of equivalents fit the tree."""

from collections import Counter
from pathlib import Path

import pytest

from tests.harness.lua_syntax import files, marked, parse
from tests.lab.mutants.operators import OPERATORS, all_mutants, edits_of, equivalents

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("operator", "source", "changed"),
    [
        ("comparison", "local a = b < 2", {"local a = b <= 2"}),
        ("comparison", "local a = b == 2", {"local a = b ~= 2"}),
        ("comparison", "if b == 2 then c() end", set()),
        ("comparison", "f(k, '(' .. whole(now))", {"f(k, whole(now))"}),
        ("boundary", "local a = b < 2", {"local a = b < 1"}),
        ("boundary", "local a = b > 2", {"local a = b > 3"}),
        ("boundary", "local a = KEYS[2]", set()),
        ("boundary", "f(true)", {"f(false)"}),
        ("boundary", "local a = string.find(b, 'u', 1, true)", {"local a = string.find(b, 'u', 2, true)"}),
        ("arithmetic", "local a = b + c", {"local a = b - c"}),
        ("arithmetic", "f(-1)", {"f(1)"}),
        ("arithmetic", "local a = math.floor(b)", {"local a = math.ceil(b)"}),
        ("logic", "local a = b and c", {"local a = b", "local a = c"}),
        ("logic", "local a = b or nil", {"local a = nil"}),
        ("logic", "local a = not b", {"local a = b"}),
        ("logic", "local a = math.max(b, c)", {"local a = math.max(b)", "local a = math.max(c)"}),
        ("statement", "f(1)", {""}),
        ("statement", "local a = f(1)", set()),
        ("statement", "redis.call('SET', k, v)", set()),
        ("write", "redis.call('SET', k, v)", {""}),
        ("write", "local a = redis.call('INCR', k)", {"local a = nil"}),
        ("write", "redis.call('GET', k)", set()),
        ("write", "commit()", {""}),
        ("write", "local e = append(k, v)", {"local e = EPOCH .. '-1'"}),
        ("condition", "if a then b() end", {"if true then b() end", "if false then b() end"}),
        ("condition", "if a and c then b() end", {"if false then b() end"}),
        ("outcome", "return { OUT.expired }", {"return { OUT.recovering }"}),
        ("outcome", "return { OUT.REPEATED }", {"return { OUT.OK }"}),
        (
            "order",
            "if a then b() end\nlocal c = 1\nif c then d() end",
            {"local c = 1\nif c then d() end\nif a then b() end"},
        ),
    ],
)
def test_changes_of_an_operator(operator: str, source: str, changed: set[str]) -> None:
    """Each operator makes the changes that its sentence names, and no others."""
    edits = edits_of(parse(source.encode(), "a text"), operator)
    assert {source[: edit.start] + edit.text + source[edit.end :] for edit in edits} == changed


def test_every_operator_reaches_the_scripts() -> None:
    """Each operator and each file, but functions of one step and a match, has a mutant; each is Lua and differs."""
    mutants = all_mutants()
    assert {mutant.operator for mutant in mutants} == set(OPERATORS)
    without = set(files()) - {mutant.file for mutant in mutants} - {"fast/book_fields.lua"}
    assert all("-- @step" in (ROOT / "lua" / file).read_text() for file in without), without
    for mutant in mutants:
        assert parse(mutant.mutated(), str(mutant)).text != (ROOT / "lua" / mutant.file).read_bytes(), mutant


def test_every_mutant_is_reached_through_a_marker_of_its_own_file() -> None:
    """A file with markers is Lua, and each mutant's marker is in its file's marked text."""
    texts = {file: marked(file).decode() for file in files()}
    for file, text in texts.items():
        parse(text.encode(), file)
    assert all(f"({mutant.marker});" in texts[mutant.file] for mutant in all_mutants())


def test_the_equivalents_are_of_this_tree() -> None:
    """Each row of the equivalents names, once and with a reason, a mutant that the operators still make."""
    made = {mutant.row for mutant in all_mutants()}
    assert [row for row, reason in equivalents() if row not in made or not reason] == []
    assert [row for row, count in Counter(row for row, _ in equivalents()).items() if count > 1] == []
