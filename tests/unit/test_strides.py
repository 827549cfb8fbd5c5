"""`make test` and `make check` run each test once between them."""

from pathlib import Path

import pytest

from tests.harness.plugin import CHOSEN, MIXED, QUICK, TESTS, is_quick


def test_the_files_that_are_named_exist() -> None:
    """Each file that the tables of tests/harness/plugin.py name is there."""
    named = [(folder, name) for table in (QUICK, CHOSEN) for folder, names in table.items() for name in names.split()]
    assert [one for one in named if not (TESTS / one[0] / f"test_{one[1]}.py").is_file()] == []


def test_marks_are_where_both_look() -> None:
    """`make check` finds tests with the mark `check` only in the folders of MIXED."""
    mark = "mark." + "check"
    marked = {path.parent.name for path in TESTS.rglob("*.py") if mark in path.read_text("utf-8")}
    assert marked == {*MIXED}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("unit/test_new.py", True),
        ("unit/test_server.py", False),
        ("integration/access/test_keys.py", True),
        ("integration/access/test_new.py", False),
        ("browser/test_console.py", False),
        ("../loadtests/tests/test_judge.py", False),
    ],
)
def test_a_file_has_its_stride(file: str, expected: bool) -> None:
    """A new file of a quick folder is in `make test`; one of another folder, or elsewhere, in `make check`."""
    assert is_quick(Path(TESTS, file)) is expected
