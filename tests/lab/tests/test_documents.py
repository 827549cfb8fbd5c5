"""What the documents say of the laboratory is so."""

import re

from tests.harness.trees import ROOT
from tests.lab.attacks import attack
from tests.lab.drifts.rounds import KINDS
from tests.lab.faults.scenarios import SCENARIOS


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def test_the_kinds_of_drifts() -> None:
    """docs/reliability.md has as many kinds as `make lab PART=drifts` makes."""
    assert f"each of {len(KINDS)} kinds" in " ".join(read("docs/reliability.md").split())


def test_the_guesses_of_an_attack() -> None:
    """docs/security.md has as many guesses as `make lab PART=attack` makes."""
    assert f"{attack.GUESSES:,}" in read("docs/security.md")


def test_the_faults_are_named() -> None:
    """docs/reliability.md names each fault of `make lab PART=faults`, once, and no other."""
    section = read("docs/reliability.md").partition("## The faults")[2].partition("\nLast runs")[0]
    groups = re.findall(r"^- \*\*[^*]+\*\* \([^)]+\): (.+?)(?=\n- |\n*\Z)", section, re.MULTILINE | re.DOTALL)
    named = [" ".join(fault.split()) for group in groups for fault in group.split(";")]
    assert sorted(named) == sorted(SCENARIOS)
