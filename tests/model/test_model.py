"""Whatever is asked in whatever order: every answer is the contract's, everything adds up, and events rebuild it.

`make test` and `make check` walk the same ways each time; `make test SUITE=model STEPS=300000` a long one from seeds of
its own, which it prints. With SCRIP_MODEL_SEED in the environment one of them is walked again."""

import itertools
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.databases import databases_on
from tests.model.refusals import REFUSALS
from tests.model.running import SEED_STEPS, play

LONG = os.environ.get("SCRIP_MODEL_STEPS")
WALKS = [int(LONG)] if LONG else [3_000, pytest.param(12_000, marks=pytest.mark.check)]
EACH = SEED_STEPS if LONG else 1_000
"""Steps of a seed: what a walk likes to do differs by seed, so that a short one takes several."""


def seeds() -> Iterator[int]:
    """Where to start from, one after another."""
    if given := os.environ.get("SCRIP_MODEL_SEED"):
        return iter([int(given)])
    if LONG:
        return (random.SystemRandom().randrange(2**32) for _ in itertools.count())
    return itertools.count(1)


@pytest.mark.parametrize("steps", WALKS)
def test_service_and_model_answer_and_hold_the_same(
    steps: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Thousands of random steps are answered as the contract says and lead where it says, every counter adds up, and a
    second Redis that is given configuration and events holds the same. All that can be refused was."""
    tally = Counter[str]()

    def say(what: str) -> None:
        with capsys.disabled():
            print(f"\n{tally['steps']:,} of {steps:,} steps{what}", end="", flush=True)

    with databases_on(tmp_path) as databases:
        for number in seeds():
            if LONG:
                say(f"; now seed {number}")
            tally += play(databases, number, min(steps - tally["steps"], EACH))
            if tally["steps"] >= steps:
                break
    say("; no difference")
    if tally["steps"] >= steps > SEED_STEPS:
        assert {words.split()[1] for words in tally if " " in words} >= REFUSALS
