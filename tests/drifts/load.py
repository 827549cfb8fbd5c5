"""Coupons locked and redeemed at a steady rate by the generator in C, for as long as things are compared."""

import asyncio
import time
from typing import Any

from loadtests import generator
from loadtests.harness.running import Run
from loadtests.subject import CHECKOUT, Stock, Subject, opened

CONNECTIONS = 8
STOCK = 20_011
"""Codes of a book, a prime: the generator takes them in steps."""
PATIENCE_S = 30


class Load:
    """So many pairs begin each second, together; those are waited for before the next."""

    def __init__(self, run: Run, pairs_a_second: int) -> None:
        self._run, self._rate = run, pairs_a_second
        self._over = False
        self.pairs = 0

    def stop(self) -> None:
        """Let it come to its end."""
        self._over = True

    async def run(self) -> None:
        """Until it is stopped. AssertionError where an answer is none that should be."""
        async with opened(self._run) as subject:
            stock = await self._stocked(subject)
            while not self._over:
                began = time.monotonic()
                if stock.left < self._rate:
                    stock = await self._stocked(subject)
                await self._second(stock)
                await asyncio.sleep(max(0.0, 1 - (time.monotonic() - began)))

    async def _stocked(self, subject: Subject) -> Stock:
        return await subject.stock(max(STOCK, self._rate), full=True)

    async def _second(self, stock: Stock) -> None:
        limits: dict[str, Any] = {"seconds": PATIENCE_S, "connections": CONNECTIONS, "count": self._rate}
        load = await generator.drive(self._run.url, CHECKOUT, "pairs", full=True, **limits, **stock.options)
        assert load.good, load.wrong
        assert load.finished == self._rate, load
        stock.taken += self._rate
        self.pairs += self._rate
