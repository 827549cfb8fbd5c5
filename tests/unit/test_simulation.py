"""The simulation of recovery, on a few of `make simulate`'s seeds, and on those that find what is planted."""

import pytest

from tests.simulation.planted import PLANTED
from tests.simulation.simulation import run

FOUND_BY = {
    "no nonce in the text": 103,
    "epoch numbered per partition": 572,
    "stream deleted instead of fenced": 3,
    "gate opened unconditionally": 15,
    "scripts loaded before the mend": 0,
    "worker not stopped by the lease": 1,
    "cursor compare without fence": 56,
    "no anchor check": 0,
    "redo of only the touched codes": 0,
    "configuration not re-applied": 7,
    "free pool refilled without asking the directory": 4,
    "a retry by the driver": 24,
    "used entries without their event": 0,
    "pool never left": 0,
    "no facts asked for": 0,
    "keys not restored": 0,
    "outbox trimmed before it is recorded": 48,
    "layout not asked": 27,
}


def test_no_invariant_breaks_on_thirty_seeds() -> None:
    """Whatever is killed, stopped, lost, restored or moved, what was answered stands, and everything opens again."""
    outcomes = [run(seed) for seed in range(30)]

    assert [outcome.broken for outcome in outcomes] == [""] * 30
    assert min(outcome.opens for outcome in outcomes) >= 2
    assert sum(outcome.answers for outcome in outcomes) > 1_000


def test_a_seed_walks_the_same_way_twice() -> None:
    """A seed that broke something can be walked again."""
    assert run(7) == run(7)


@pytest.mark.parametrize("planted", PLANTED)
def test_each_planted_mistake_is_found(planted: str) -> None:
    """Each change to the protocol is found by its seed; the protocol as it is walks that seed unharmed."""
    seed = FOUND_BY[planted]

    assert run(seed, planted=frozenset([planted])).broken
    assert not run(seed).broken
