"""What the documents say of the laboratory is so."""

import re

from tests.harness.trees import ROOT
from tests.lab.attacks import attack
from tests.lab.drifts.rounds import KINDS
from tests.lab.faults.scenarios import PLANTS, SCENARIOS


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def test_the_kinds_of_drifts() -> None:
    """docs/reliability.md has as many kinds as `make lab PART=drifts` makes."""
    assert f"each of {len(KINDS)} kinds" in " ".join(read("docs/reliability.md").split())


def test_the_guesses_of_an_attack() -> None:
    """docs/security.md has as many guesses as `make lab PART=attack` makes."""
    assert f"{attack.GUESSES:,}" in read("docs/security.md")


def test_the_faults_have_results() -> None:
    """The rows of docs/reliability.md's results are of faults, and each planted mistake has its fault."""
    text = read("docs/reliability.md")
    results = text.partition("## Results")[2].partition("\n## ")[0]
    faults = re.findall(r"^\| ([^|]+) \| \d+ \| [\d.–]+ \|", results, re.MULTILINE)
    assert faults
    assert {*faults} <= {*SCENARIOS}
    found = re.findall(r"^\| ([^|]+) \| ([^|]+) \| \d \|", text.partition("## Planted mistakes")[2], re.MULTILINE)
    assert found
    assert [(name, fault) for name, fault in found if PLANTS[name].found_by != fault] == []
