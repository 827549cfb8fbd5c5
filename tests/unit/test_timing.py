"""The comparison of times finds a small difference among much noise, and none where there is none."""

import random
from pathlib import Path

from loadtests.harness.trees import changed
from loadtests.own import ROOT
from loadtests.parts.timing import difference, slower


def _times(seed: int, more: float = 0.0) -> list[float]:
    rng = random.Random(seed)
    return [100 + rng.expovariate(0.1) + more + (5_000 if rng.random() < 0.01 else 0) for _ in range(4_000)]


def test_a_planted_difference_is_found() -> None:
    """Of 30 µs among noise of some 10, with outliers of 5,000: its size, and that it isn't chance."""
    told = difference(_times(1, more=30), _times(2))
    assert 28 < told.median < 32
    assert 25 < told.low <= told.median <= told.high < 35


def test_no_difference_is_none() -> None:
    """Of two of the same kind zero is between the bounds, for each of many."""
    found = [difference(_times(seed), _times(seed + 1000)) for seed in range(20)]
    assert sum(told.low <= 0 <= told.high for told in found) >= 18
    assert all(abs(told.median) < 2 for told in found)


def test_the_plant_is_of_this_tree(tmp_path: Path) -> None:
    """It fits where answers are made, and what comes of it can be read."""
    plant = slower(30)
    text = (changed([plant], ROOT, tmp_path / "tree") / plant.path).read_text()
    compile(text, plant.path, "exec")
    assert "perf_counter_ns() + 30000" in text
