"""Buyers and a merchant who do a bit of everything while things are compared."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loadtests.buyers import Crowd
from loadtests.ledger import Ledger
from loadtests.plan import make_few_books, new_mark
from tests.service_fixture import Service

BUYERS = 3
PAY_S = 0.05


@asynccontextmanager
async def traffic(service: Service, codes: int, change_every_s: float = 0.0, seed: int = 1) -> AsyncIterator[Crowd]:
    """Buy so many codes while the block runs; the merchant changes something about so often. AssertionError where a
    request is answered as it may not be."""
    mark = new_mark()
    with Ledger([service.run.url], "demo_admin", seed=seed, hasty=True, keep=False) as ledger:
        crowd = Crowd(ledger, await make_few_books(ledger, mark, codes), mark, PAY_S)
        async with crowd.buying(BUYERS, change_every_s):
            yield crowd
        assert ledger.unwanted == 0
