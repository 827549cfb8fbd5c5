"""`python -m tests.drifts`: differences between Redis and Postgres are made under load, and each must be reported and
repaired (`--drifts 1000`); or none is made, and none may be reported (`--quiet-minutes 10`).

A run's dice are its `--seed`. Ends with 1 where something is wrong."""

import argparse
import asyncio
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence

import click
import structlog

from service.formats.coupon_state import Class
from tests.drifts.comparing import compared
from tests.drifts.load import Load
from tests.drifts.rounds import KINDS, run_round
from tests.drifts.subject import World, tags
from tests.drifts.traffic import traffic
from tests.service_fixture import Service, shared_service

A_ROUND = 200
CHANGE_EVERY_S = 0.5
"""So that something stands still now and then."""
CODES = 20_000
"""That buyers buy beside the pairs."""
MOST_WRONG = 30


async def drifts(service: Service, sold: str, wanted: int, seed: int) -> list[str]:
    """Make so many, each kind about as often, in a mixed order; print a table; what is wrong."""
    chance = random.Random(seed)
    world = World(service, tags(chance.randrange(1000))).open(sold)
    names = [name for _ in range(-(-wanted // len(KINDS))) for name in chance.sample(list(KINDS), len(KINDS))][:wanted]
    made, reported, wrong, rounds = Counter[Class](), Counter[Class](), list[str](), 0
    began = time.monotonic()
    with click.progressbar(length=wanted, label="Drifts", file=sys.stderr) as bar:
        for start in range(0, wanted, A_ROUND):
            one = await run_round(world, names[start : start + A_ROUND], bar.update)
            made, reported, rounds = made + one.made, reported + one.reported, rounds + 1
            wrong += [f"round {rounds}: {problem}" for problem in one.wrong]
    where = Counter("Postgres" if isinstance(KINDS[name].change, str) else "Redis" for name in names)
    print(f"\n{wanted} drifts of {len(KINDS)} kinds, {where['Redis']} in Redis, {where['Postgres']} in Postgres")
    print(f"seed {seed}, {rounds} rounds, {time.monotonic() - began:.0f} s\n")
    print("| class | things that differed | found | |\n|---|---|---|---|")
    for class_, number in sorted(made.items()):
        print(f"| {class_} | {number} | {reported[class_]} | {'' if number == reported[class_] else '**not all**'} |")
    print(f"| all | {made.total()} | {reported.total()} | |")
    return wrong


async def quiet(service: Service, minutes: float) -> list[str]:
    """Compare again and again while nothing differs; what is found all the same."""
    wrong, compared_s, unsettled = list[str](), list[float](), 0
    began = time.monotonic()
    with click.progressbar(length=int(minutes * 60), label="Seconds", file=sys.stderr) as bar:
        while (passed_s := time.monotonic() - began) < minutes * 60 or not compared_s:
            bar.update(int(passed_s) - bar.pos)
            outcome, differences = await compared(service)
            compared_s.append(time.monotonic() - began - passed_s)
            unsettled += outcome.unsettled
            wrong += [
                f"after {passed_s:.0f} s: {difference.thing}: {difference.classes}" for difference, _ in differences
            ]
    each_s = sum(compared_s) / len(compared_s)
    print(f"\n{len(compared_s)} comparisons, {each_s:.1f} s each, {max(compared_s):.1f} s the longest")
    print(f"{len(wrong)} differences; {unsettled} things were never still")
    return wrong


async def run(service: Service, asked: argparse.Namespace) -> list[str]:
    """All that was asked for, under load."""
    load = Load(service.run, asked.rate)
    async with traffic(service, CODES, CHANGE_EVERY_S, asked.seed) as crowd:
        loading = asyncio.create_task(load.run())
        if asked.quiet_minutes:
            wrong = await quiet(service, asked.quiet_minutes)
        else:
            wrong = await drifts(service, crowd.books["sale"][0].book_id, asked.drifts, asked.seed)
        load.stop()
        await loading
    went_well = crowd.ledger.succeeded
    print(f"meanwhile {load.pairs} pairs of lock and redeem, and {went_well} other requests that went well")
    print(f"{load.refused} requests were refused until a key's type was repaired, and then succeeded")
    wrong += [f"{load.refused} requests refused as unavailable"] if asked.quiet_minutes and load.refused else []
    outcome, differences = await compared(service)
    wrong += [f"in the end: {difference.thing}: {difference.classes}" for difference, _ in differences]
    return [*wrong, *([f"in the end {outcome.unsettled} things were not still"] if outcome.unsettled else [])]


def main(asked: Sequence[str] | None = None) -> int:
    """The command."""
    options = argparse.ArgumentParser(prog="python -m tests.drifts", description=__doc__)
    options.add_argument("--drifts", type=int, default=1000, help="how many (%(default)s)")
    options.add_argument("--quiet-minutes", type=float, default=0, help="make none, and find none for so long")
    options.add_argument("--rate", type=int, default=300, help="pairs of lock and redeem a second (%(default)s)")
    options.add_argument("--seed", type=int, default=1)
    chosen = options.parse_args(asked)
    if not (1 <= chosen.drifts <= 20_000 and 0 <= chosen.quiet_minutes <= 50 and 1 <= chosen.rate <= 5000):
        options.error("1 to 20,000 drifts, at most 50 minutes, 1 to 5,000 pairs a second")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with shared_service() as service:
        wrong = asyncio.run(run(service, chosen))
    for problem in wrong[:MOST_WRONG]:
        print(f"WRONG {problem}")
    if len(wrong) > MOST_WRONG:
        print(f"and {len(wrong) - MOST_WRONG} more")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
