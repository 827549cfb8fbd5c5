"""Differences between Redis and Postgres, made by hand, each of its kind, while a shop is open: a comparison must
report exactly these, and a repair must leave none."""

import argparse
import asyncio
import contextlib
import logging

import structlog

from loadtests.buyers import Crowd
from loadtests.ledger import Ledger
from loadtests.own import own_service
from loadtests.plan import make_few_books, new_mark
from tests.harness.comparing import compared
from tests.harness.drifts import DriftWorkspace
from tests.harness.service_fixture import Service
from tests.lab.drifts.rounds import KINDS, run_round
from tests.lab.faults.database import standby_of

BUYERS, CODES = 3, 2000
PAY_S, CHANGE_EVERY_S = 0.05, 0.5


async def run(service: Service, rounds: int = 1) -> list[str]:
    """Under traffic, compare by a replica, which must name nothing; then run the rounds. Return what is wrong."""
    mark = new_mark()
    with Ledger([service.run.url], "demo_admin", seed=1, hasty=True, keep=False) as ledger:
        crowd = Crowd(ledger, await make_few_books(ledger, mark, CODES), mark, PAY_S)
        async with standby_of(service.run.facts["databaseUrl"]) as url, crowd.buying(BUYERS, CHANGE_EVERY_S):
            wrong = [str(named) for _ in range(3) for named in (await compared(service, replica_url=url))[1]]
            for _ in range(rounds):
                wrong += await run_round(DriftWorkspace(service, crowd.books["sale"][0].book_id), url)
    if ledger.unwanted or ledger.succeeded <= 20:
        wrong.append(f"{ledger.unwanted} unwanted answers, {ledger.succeeded} requests that succeeded")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="of all kinds")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with own_service() as served, contextlib.closing(Service(served)) as service:
        wrong = asyncio.run(run(service, asked.rounds))
    print(f"{asked.rounds} rounds of {len(KINDS)} kinds of differences: {len(wrong)} wrong", *wrong, sep="\n  ")
    return bool(wrong)
