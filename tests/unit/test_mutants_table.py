"""The operators, the list of equivalents and the hand-written mutants fit the tree; `make mutants` runs them."""

from collections import Counter
from pathlib import Path

import pytest

from service.domain.errors import Refusal
from tests.mutants.copies import selections
from tests.mutants.equivalents import Equivalent, equivalents
from tests.mutants.equivalents import parse_list as parse_equivalents
from tests.mutants.operators import OPERATORS, all_mutants, edits_of
from tests.mutants.syntax import files, marked, parse
from tests.mutants.witness import is_answer
from tests.mutants.written import Written, written
from tests.mutants.written import parse_list as parse_written

ROOT = Path(__file__).parents[2]


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
def test_what_an_operator_makes(operator: str, source: str, changed: set[str]) -> None:
    """Each operator makes the changes that its sentence says, and no other."""
    edits = edits_of(parse(source.encode(), "a text"), operator)
    assert {source[: edit.start] + edit.text + source[edit.end :] for edit in edits} == changed


def test_every_operator_reaches_the_scripts() -> None:
    """No operator is left without a mutant, and each mutant differs from its file and is Lua."""
    mutants = all_mutants()
    assert {mutant.operator for mutant in mutants} == set(OPERATORS)
    assert {mutant.file for mutant in mutants} == set(files())
    for mutant in mutants:
        assert parse(mutant.mutated(), str(mutant)).text != (ROOT / "lua" / mutant.file).read_bytes(), mutant


def test_every_mutant_is_reached_through_a_marker_of_its_own_file() -> None:
    """Markers leave a file Lua, and the one of each mutant is in its file's marked text."""
    texts = {file: marked(file).decode() for file in files()}
    for file, text in texts.items():
        parse(text.encode(), file)
    assert all(f"({mutant.marker});" in texts[mutant.file] for mutant in all_mutants())


def test_the_equivalents_are_of_this_tree() -> None:
    """Each row names a mutant that is still made, with a reason, once: else the list has rotted."""
    assert [row for row in equivalents() if not is_made(row) or not row.reason] == []
    assert [row for row, count in Counter(row[:4] for row in equivalents()).items() if count > 1] == []


def is_made(row: Equivalent) -> bool:
    """Whether some mutant is of this row."""
    return any(row.is_of(mutant) for mutant in all_mutants() if mutant.file == row.file)


def test_a_row_that_names_no_mutant_is_noticed() -> None:
    """The line of the source is part of a row: where it changes, the row has to be reviewed again."""
    mutant = all_mutants()[0]
    row = Equivalent(mutant.file, mutant.operator, mutant.change, mutant.source_line, "a reason")
    assert is_made(row)
    assert not is_made(row._replace(line=row.line + " -- changed"))


def test_a_reason_is_of_all_rows_below_it() -> None:
    """A reason may have several lines, and ends where the next begins."""
    rows = parse_equivalents(
        "# A reason\n# of two lines.\na ¦ b ¦ c → d ¦ e\nf ¦ b ¦ c → d ¦ e\n\n# Another.\ng ¦ b ¦ c ¦ e\n"
    )
    assert [(row.file, row.reason) for row in rows] == [
        ("a", "A reason of two lines."),
        ("f", "A reason of two lines."),
        ("g", "Another."),
    ]


def test_the_written_differ() -> None:
    """Each is another one, by its change and by its rule."""
    assert len({(mutant.path, mutant.old, mutant.new) for mutant in written()}) == len(written())
    assert len({mutant.rule for mutant in written()}) == len(written())


@pytest.mark.parametrize("mutant", written(), ids=lambda mutant: mutant.rule)
def test_each_written_is_of_this_tree(mutant: Written) -> None:
    """What it changes is there exactly once, and so are the tests that must turn red."""
    text = (ROOT / mutant.path).read_text()
    assert mutant.mutated(text) != text
    for file in mutant.files:
        assert (ROOT / file).is_file(), file


def test_how_the_written_are_read() -> None:
    """A file and its tests, then rules with their old and new lines; an empty line is a `-` or `+` alone."""
    text = "= a.py : tests/a.py -k x\n# one\n- a\n-\n+ b\n# two\n-   c\n= b.py : tests/b.py\n# three\n- d\n+ # e\n"
    assert parse_written(text) == (
        Written("one", "a.py", "tests/a.py -k x", "a\n", "b"),
        Written("two", "a.py", "tests/a.py -k x", "  c", ""),
        Written("three", "b.py", "tests/b.py", "d", "# e"),
    )


def test_a_change_that_fits_nowhere_or_twice_is_refused() -> None:
    """The list can't rot silently."""
    mutant = Written("a rule", "a.lua", "tests/lua/test_lock.py", "now > till", "now >= till")
    assert mutant.mutated("if now > till then") == "if now >= till then"
    for text in ("if now < till then", "now > till or now > till"):
        with pytest.raises(ValueError, match="not once"):
            mutant.mutated(text)


def test_scripts_are_tested_on_fakeredis_alone() -> None:
    """Tests of scripts run on three kinds of server, of which one is enough."""
    lua = Written("a rule", "a.lua", "tests/lua/test_lock.py tests/lua/test_redeem.py", "a", "b")
    assert (lua.files, lua.only) == (["tests/lua/test_lock.py", "tests/lua/test_redeem.py"], "fakeredis")
    assert lua._replace(tests="tests/lua/test_lock.py -k 'a or b'").only == "fakeredis and (a or b)"
    assert lua._replace(tests="tests/unit/test_words.py").only == ""
    assert lua._replace(tests="tests/unit/test_words.py -k code").only == "code"


def test_tests_are_joined_into_few_runs() -> None:
    """The tests that must be green before are those of all mutants, and a whole file goes before a part of it."""
    mutants = [
        Written("a rule", "a.lua", tests, "a", "b")
        for tests in ("tests/lua/test_lock.py", "tests/lua/test_redeem.py", "tests/unit/a.py -k x", "tests/unit/a.py")
    ]
    assert selections(mutants[:3]) == [
        (["tests/lua/test_lock.py", "tests/lua/test_redeem.py"], "(fakeredis)"),
        (["tests/unit/a.py"], "(x)"),
    ]
    assert selections(mutants[2:]) == [(["tests/unit/a.py"], "")]


@pytest.mark.parametrize(
    ("error", "is_proof"),
    [
        (AssertionError(), True),
        (pytest.fail.Exception("DID NOT RAISE"), True),
        (Refusal("expired"), True),
        (Refusal("outcome_unknown"), False),
        (KeyError("code"), False),
        (SyntaxError(), False),
    ],
)
def test_what_proves_that_a_rule_is_tested(error: BaseException, is_proof: bool) -> None:
    """A failed assertion or a refusal that should not be; not what merely broke."""
    assert is_answer(error) == is_proof
