"""Coupons locked and redeemed at a steady rate by the generator in C, for as long as things are compared."""

import asyncio
import time
from typing import Any

from loadtests import generator
from loadtests.subject import CHECKOUT, Stock, Subject, opened
from tests.harness.running import Run

CONNECTIONS = 8
STOCK = 20_011
"""Codes of a book, a prime: the generator takes them in steps."""
PATIENCE_S = 30
RETRY_S = 5
"""The longest Retry-After of a 503."""
REPAIRED_S = 240
"""How long pairs are repeated; their locks live longer."""


class Load:
    """So many pairs begin each second, together; those are waited for before the next.

    A drift may give a bucket that the load shares another type. Until that is repaired, requests that read the bucket
    get 503 `unavailable`. As a client must, the load then repeats the requests of that second under the same keys.
    """

    def __init__(self, run: Run, pairs_a_second: int) -> None:
        self._run, self._rate = run, pairs_a_second
        self._over = False
        self.pairs = 0
        self.refused = 0
        """How many responses were `unavailable`."""

    def stop(self) -> None:
        """Let it come to its end."""
        self._over = True

    async def run(self) -> None:
        """Run until it is stopped and every pair is redeemed. An ExceptionGroup has an AssertionError for an unexpected
        response, TimeoutError if a pair can't be redeemed."""
        async with opened(self._run) as subject, asyncio.TaskGroup() as group:
            stock = await self._stocked(subject)
            while not self._over:
                began = time.monotonic()
                if stock.left < self._rate:
                    stock = await self._stocked(subject)
                pairs = stock.options
                if not await self._send(pairs):
                    group.create_task(self._repeat(pairs))
                stock.taken += self._rate
                await asyncio.sleep(max(0.0, 1 - (time.monotonic() - began)))

    async def _stocked(self, subject: Subject) -> Stock:
        return await subject.stock(max(STOCK, self._rate), full=True)

    async def _repeat(self, pairs: dict[str, Any]) -> None:
        async with asyncio.timeout(REPAIRED_S):
            is_done = False
            while not is_done:
                await asyncio.sleep(RETRY_S)
                is_done = await self._send(pairs)

    async def _send(self, pairs: dict[str, Any]) -> bool:
        """Lock and redeem the codes of one second; whether no request was refused as `unavailable`."""
        limits: dict[str, Any] = {"seconds": PATIENCE_S, "connections": CONNECTIONS, "count": self._rate}
        load = await generator.drive(self._run.url, CHECKOUT, "pairs", full=True, **limits, **pairs)
        refused = sum(number for answer, number in load.answers.items() if answer.endswith(" 503 unavailable"))
        assert load.good or (load.unexpected, load.unanswered) == (refused, 0), load.wrong
        assert load.finished == self._rate - refused, load
        self.refused += refused
        self.pairs += 0 if refused else self._rate
        return not refused
