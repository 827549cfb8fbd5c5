"""`python -m tests.simulation`: walk many seeds; `--plant NAME` plants a mistake, `--seed N` walks one alone."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.planted import HOLES, PLANTED
from tests.simulation.simulation import STEPS, Outcome, run

SEEDS, LEAST_STEPS = 2000, 1_000_000
SEEDS_FOR_A_PLANT = 600


def main() -> int:
    """Print what was walked; 1 where an invariant broke, or a planted mistake was not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many seeds")
    parser.add_argument("--steps", type=int, default=LEAST_STEPS, help="how many steps in all, at least")
    parser.add_argument("--seed", type=int, help="walk this one alone")
    parser.add_argument(
        "--plant", choices=["all", *PLANTED, *HOLES], help="plant a mistake; all: each of them by itself"
    )
    chosen = parser.parse_args()
    planted = [chosen.plant] if chosen.plant and chosen.plant != "all" else []
    if chosen.seed is not None:
        return _show(run(chosen.seed, planted=frozenset(planted)))
    if chosen.plant:
        return max(_find(name) for name in planted or PLANTED)
    return _walk(chosen.seeds, max(STEPS, -(-chosen.steps // chosen.seeds)))


def _outcomes(seeds: int, steps: int, planted: frozenset[str] = frozenset()) -> Iterator[Outcome]:
    """In the order of their seeds, on all cores."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:  # a Pool may hang where it is left before its end
        yield from pool.map(partial(run, steps=steps, planted=planted), range(seeds), chunksize=4)


def _walk(seeds: int, steps: int) -> int:
    begun = shown = time.monotonic()
    walked = answers = opens = 0
    for outcome in _outcomes(seeds, steps):
        walked, answers, opens = walked + outcome.steps, answers + outcome.answers, opens + outcome.opens
        if outcome.broken:
            return _show(outcome)
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            sys.stdout.write(f"seed {outcome.seed:,}: {walked:,} steps\n")
            sys.stdout.flush()
    sys.stdout.write(
        f"{walked:,} steps over {seeds:,} seeds in {time.monotonic() - begun:.0f} s: {answers:,} answers, "
        f"{opens:,} openings, no invariant broken\n"
    )
    return 0


def _find(name: str) -> int:
    for outcome in _outcomes(SEEDS_FOR_A_PLANT, STEPS, frozenset([name])):
        if outcome.broken:
            sys.stdout.write(f"{name}: found by {outcome.seed + 1} seeds: {outcome.broken.splitlines()[0]}\n")
            sys.stdout.flush()
            return 0
    sys.stdout.write(f"{name}: not found in {SEEDS_FOR_A_PLANT} seeds\n")
    return 1


def _show(outcome: Outcome) -> int:
    told = outcome.broken or f"{outcome.steps:,} steps, {outcome.answers} answers, {outcome.opens} openings"
    sys.stdout.write(f"seed {outcome.seed}: {told}\n")
    return 1 if outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
