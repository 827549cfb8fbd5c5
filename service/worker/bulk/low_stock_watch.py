"""Show the free codes of books that ran low, as a metric: a background task of each open partition."""

import asyncio

import asyncpg
import structlog

from service.hot.redis_server import Fenced, Server
from service.hot.scripts import Scripts
from service.record.config.stock import books_that_ran_low
from service.record.pool import wait_out_outage
from service.worker import metrics
from service.worker.bulk.restocker import count_codes
from service.worker.metrics import MAX_LOW_BOOKS, LowBook

LOOK_S = 30.0

log = structlog.get_logger()


class LowStockWatch:
    """Every 30 seconds:

    1. Read the last 50 books of which a notice said that they ran low.
    2. Count their free codes in Redis. Show those that still have fewer than their threshold.
    """

    def __init__(self, pool: asyncpg.Pool, server: Server, scripts: Scripts) -> None:
        self._pool, self._server, self._scripts = pool, server, scripts

    async def run(self) -> None:
        while True:
            with wait_out_outage(log):
                metrics.low_books.show(self._server.partition, await self.find())
            await asyncio.sleep(LOOK_S)

    async def find(self) -> list[LowBook]:
        """The books that are low now."""
        low: list[LowBook] = []
        for book in await books_that_ran_low(self._pool, self._server.partition, MAX_LOW_BOOKS):
            try:
                counts = await count_codes(self._server, self._scripts, book.workspace, book.book_id)
            except Fenced:  # the workspace is moving, or the partition is opened again: other tasks notice that
                continue
            if counts.available < book.threshold:
                low.append(LowBook(workspace=book.name, book_id=str(book.book_id), free=counts.available))
        return low
