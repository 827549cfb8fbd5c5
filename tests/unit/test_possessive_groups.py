"""Regular expressions that every Python 3.11 matches alike."""

import re

import pytest

from tests.harness.trees import ROOT

_characters = re.compile(r"\[(?:\\.|[^\]\\])+\]")
_possessive_group = re.compile(r"\)(?:[*+?]|\{[^}]*\}+)\+")


@pytest.mark.parametrize("folder", ["client", "loadtests", "service"])
def test_no_group_is_possessive(folder: str) -> None:
    """Python before 3.11.5, as Debian 12 has it, matches a part too much where a repeated possessive group fails within
    a repeat. Single characters may be repeated possessively."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if _possessive_group.search(_characters.sub("c", line))
    ]
    assert not found
