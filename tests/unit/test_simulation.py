"""The simulation of recovery, on a few of `make simulate`'s seeds, and on those that find what is planted."""

import pytest

from tests.simulation.planted import PLANTED
from tests.simulation.simulation import run

FOUND_BY = {
    "no nonce in the text": 158,
    "epoch numbered per partition": 38,
    "stream deleted instead of fenced": 4,
    "gate opened unconditionally": 12,
    "scripts loaded before the mend": 0,
    "worker not stopped by the lease": 20,
    "cursor compare without fence": 69,
    "no anchor check": 0,
    "redo of only the touched codes": 0,
    "configuration not re-applied": 7,
    "free pool refilled without asking the directory": 0,
    "a retry by the driver": 5,
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
    """Of twelve changes to the protocol, each is found by its seed; the protocol as it is walks that seed unharmed."""
    seed = FOUND_BY[planted]

    assert run(seed, planted=frozenset([planted])).broken
    assert not run(seed).broken
