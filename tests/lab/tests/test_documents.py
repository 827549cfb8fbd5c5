"""What the documents say of the laboratory is so."""

import re

import pytest

from tests.harness.trees import ROOT
from tests.lab.attacks import attack
from tests.lab.drifts.rounds import KINDS
from tests.lab.faults.scenarios import PLANTS, SCENARIOS


def read(path: str) -> str:
    return (ROOT / path).read_text("utf-8")


def default_of(module: str, option: str) -> float:
    """The default of an option, as its program's source has it."""
    text = read(module)
    found = re.search(rf'"{option}",.*?default=([\d_.]+)', text)
    assert found, (module, option)
    return float(found[1])


@pytest.mark.parametrize(
    ("document", "pattern", "value"),
    [
        ("CONTRIBUTING.md", r"(\d+) faults of processes", len(SCENARIOS)),
        ("CONTRIBUTING.md", r"for each limit (\d+) requests", default_of("tests/lab/attacks/races.py", "--at-once")),
        ("CONTRIBUTING.md", r"requests at once, (\d+) times", default_of("tests/lab/attacks/races.py", "--rounds")),
        ("CONTRIBUTING.md", r"([\d,]+) stalled", default_of("tests/lab/hostile/stalled.py", "--connections")),
        ("CONTRIBUTING.md", r"([\d,]+) codes sought", default_of("tests/lab/hostile/canaries.py", "--codes")),
        ("CONTRIBUTING.md", r"([\d,]+) names like", default_of("tests/lab/hostile/poison.py", "--names")),
        ("docs/reliability.md", r"each of (\d+) kinds", len(KINDS)),
    ],
)
def test_a_figure_is_that_of_the_code(document: str, pattern: str, value: float) -> None:
    """Each figure stands once in its document, and is the code's."""
    (found,) = re.findall(pattern, " ".join(read(document).split()))
    assert float(found.replace(",", "")) == value


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
