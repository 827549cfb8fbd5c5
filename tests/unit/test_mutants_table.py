"""The table of mutants says what is in the tree; `make mutants` runs it."""

from pathlib import Path

import pytest

from service.domain.errors import Refusal
from tests.mutants.mutant import Mutant
from tests.mutants.run import selections
from tests.mutants.table import MUTANTS
from tests.mutants.witness import is_answer

ROOT = Path(__file__).parents[2]


def test_there_are_enough() -> None:
    """Each is another one, and there are at least 75."""
    assert len(MUTANTS) >= 75
    assert len({(mutant.path, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)
    assert len({mutant.rule for mutant in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule)
def test_each_is_of_this_tree(mutant: Mutant) -> None:
    """What it changes is there exactly once, and so are the tests that must turn red."""
    text = (ROOT / mutant.path).read_text()
    assert mutant.mutated(text) != text
    for file in mutant.files:
        assert (ROOT / file).is_file(), file


def test_a_change_that_fits_nowhere_or_twice_is_refused() -> None:
    """The table can't rot silently."""
    mutant = Mutant("a rule", "a.lua", "now > till", "now >= till", "tests/lua/test_lock.py")
    assert mutant.mutated("if now > till then") == "if now >= till then"
    for text in ("if now < till then", "now > till or now > till"):
        with pytest.raises(ValueError, match="not once"):
            mutant.mutated(text)


def test_scripts_are_tested_on_fakeredis_alone() -> None:
    """Tests of scripts run on three kinds of server, of which one is enough."""
    lua = Mutant("a rule", "a.lua", "a", "b", "tests/lua/test_lock.py tests/lua/test_redeem.py")
    assert (lua.files, lua.only) == (["tests/lua/test_lock.py", "tests/lua/test_redeem.py"], "fakeredis")
    assert lua._replace(tests="tests/lua/test_lock.py -k 'a or b'").only == "fakeredis and (a or b)"
    assert lua._replace(tests="tests/unit/test_words.py").only == ""
    assert lua._replace(tests="tests/unit/test_words.py -k code").only == "code"


def test_tests_are_joined_into_few_runs() -> None:
    """The tests that must be green before are those of all mutants, and a whole file goes before a part of it."""
    mutants = [
        Mutant("a rule", "a.lua", "a", "b", tests)
        for tests in ("tests/lua/test_lock.py", "tests/lua/test_redeem.py", "tests/unit/a.py -k x", "tests/unit/a.py")
    ]
    assert selections(mutants[:3]) == [
        (["tests/lua/test_lock.py", "tests/lua/test_redeem.py"], "(fakeredis)"),
        (["tests/unit/a.py"], "(x)"),
    ]
    assert selections(mutants[2:]) == [(["tests/unit/a.py"], "")]


@pytest.mark.parametrize(
    ("error", "caught"),
    [
        (AssertionError(), True),
        (pytest.fail.Exception("DID NOT RAISE"), True),
        (Refusal("expired"), True),
        (Refusal("outcome_unknown"), False),
        (KeyError("code"), False),
        (SyntaxError(), False),
    ],
)
def test_what_proves_that_a_rule_is_tested(error: BaseException, caught: bool) -> None:
    """A failed assertion or a refusal that should not be; not what merely broke."""
    assert is_answer(error) == caught
