"""The mistakes that the faults must find are of this tree."""

from pathlib import Path

import pytest

from tests.harness.trees import ROOT, Change, Mistake, changed, read_mistakes
from tests.lab.faults.scenarios import PLANTS, SCENARIOS


def test_there_are_enough() -> None:
    """Each is another one."""
    listed = read_mistakes(ROOT / "tests" / "lab" / "faults" / "plants.txt")
    assert len({tuple(plant.changes) for plant in listed}) == len(listed) == len(PLANTS) >= 15


@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
def test_each_is_of_this_tree(plant: Mistake, tmp_path: Path) -> None:
    """What it changes is there exactly once, and what comes of it can be read; so is the fault that must find it."""
    assert plant.found_by in SCENARIOS
    tree = changed([*SCENARIOS[plant.found_by].changes, *plant.changes], tmp_path / "tree")
    for change in plant.changes:
        text = (tree / change.path).read_text()
        assert text != (ROOT / change.path).read_text()
        if change.path.endswith(".py"):
            compile(text, change.path, "exec")


def test_a_change_that_fits_nowhere_or_twice_is_refused() -> None:
    """The table can't rot silently."""
    change = Change("a.lua", "now > till", "now >= till")
    assert change.made("if now > till then") == "if now >= till then"
    for text in ("if now < till then", "now > till or now > till"):
        with pytest.raises(ValueError, match="not once"):
            change.made(text)
