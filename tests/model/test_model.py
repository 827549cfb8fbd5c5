"""Whatever is asked in whatever order: every answer is the contract's, everything adds up, and events rebuild it.

`make test` walks the same short way each time; `make test SUITE=model STEPS=300000` a long one from seeds of its own,
which it prints. With SCRIP_MODEL_SEED in the environment one of them is walked again."""

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

SHORT = 12_000
LONG = os.environ.get("SCRIP_MODEL_STEPS")
EACH = SEED_STEPS if LONG else 1_000
"""Steps of a seed: what a walk likes to do differs by seed, so that the short one takes several."""


def seeds() -> Iterator[int]:
    """Where to start from, one after another."""
    if given := os.environ.get("SCRIP_MODEL_SEED"):
        return iter([int(given)])
    if LONG:
        return (random.SystemRandom().randrange(2**32) for _ in itertools.count())
    return itertools.count(1)


def test_service_and_model_answer_and_hold_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Thousands of random steps are answered as the contract says and lead where it says, every counter adds up, and a
    second Redis that is given configuration and events holds the same. All that can be refused was."""
    steps, tally = int(LONG or SHORT), Counter[str]()

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
