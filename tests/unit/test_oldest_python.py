"""The service means the same to Python 3.11.2, that of Debian 12, as to newer ones."""

import re

import pytest

from tests.harness.trees import ROOT

_characters = re.compile(r"\[(?:\\.|[^\]\\])+\]")
_possessive_group = re.compile(r"\)(?:[*+?]|\{[^}]*\}+)\+")
_star = re.compile(r"\bexcept\*")


@pytest.mark.parametrize("folder", ["client", "loadtests", "service"])
def test_no_group_is_possessive(folder: str) -> None:
    """Before 3.11.5 a repeated possessive group matches a part too much where it fails within a repeat (gh-106052).
    Single characters may be repeated possessively."""
    assert _find(_possessive_group, folder) == []


@pytest.mark.parametrize("folder", ["client", "loadtests", "service"])
def test_no_group_of_errors_is_caught_by_a_star(folder: str) -> None:
    """What `except*` raises is in 3.11.2 a group again, which nothing catches by its type."""
    assert _find(_star, folder) == []


def _find(pattern: "re.Pattern[str]", folder: str) -> list[str]:
    """Files and lines, but for sets of characters."""
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(_characters.sub("c", line))
    ]
