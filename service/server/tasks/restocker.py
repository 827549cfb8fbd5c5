"""Keep the number of free codes that a book's `keepFree` sets, and show books that ran low. partition_tasks.py lists
both; code_generator.py makes the codes."""

import asyncio
import contextlib
import time
from uuid import UUID

import asyncpg
import structlog

from service.engine.domain.errors import Refusal
from service.engine.formats import key_names
from service.engine.hot.projection import RedisProjector
from service.engine.hot.redis_server import Fenced, Server
from service.engine.hot.scripts import Scripts
from service.engine.record.pool import wait_out_outage
from service.engine.worker import metrics
from service.engine.worker.lease_keeper import Lease
from service.engine.worker.metrics import MAX_LOW_BOOKS, LowBook
from service.engine.worker.set_aside import SetAside, Thing
from service.server.in_postgres.job_rows import JobRow, read_job
from service.server.in_postgres.stock import (
    NoticedBook,
    StockedBook,
    books_that_ran_low,
    order_missing,
    page_stocked_books,
)
from service.server.in_redis.workspace_state import BookCounts, counts_of

POLL_S = 1.0
BOOKS_A_PAGE = 500
PAUSE_S = 60.0
"""Pause for a book for which no codes can be made; a change of the book ends it."""
CHECK_S = 30.0
"""Between two checks of the books that ran low."""

log = structlog.get_logger()


async def count_codes(server: Server, scripts: Scripts, workspace: int, book_id: UUID) -> BookCounts:
    """The book's counts in Redis. Raises Fenced."""
    w = key_names.prefix(server.partition, workspace)
    names = (server.gate, key_names.settings(w), key_names.books(w))
    return counts_of(await server.run(scripts, "book_stats", names, (str(book_id),)))


async def watch_stock(pool: asyncpg.Pool, server: Server, scripts: Scripts) -> None:
    """Every 30 seconds read 50 books with a notice that they ran low, in turns of workspaces. Show those, as a
    metric, that still have fewer free codes than their threshold."""
    aside = SetAside(pool, server.partition, "watching_stock")
    while True:
        with wait_out_outage(log):
            metrics.low_books.show(server.partition, await _find_low_books(pool, server, scripts, aside))
        await asyncio.sleep(CHECK_S)


async def _find_low_books(pool: asyncpg.Pool, server: Server, scripts: Scripts, aside: SetAside) -> list[LowBook]:
    low: list[LowBook] = []

    async def check(book: NoticedBook) -> None:
        with contextlib.suppress(Fenced):  # the partition is opened again: other tasks notice that
            counts = await count_codes(server, scripts, book.workspace, book.book_id)
            if counts.available < book.threshold:
                low.append(LowBook(book.workspace_name, str(book.book_id), counts.available))

    noticed = await books_that_ran_low(pool, server.partition, MAX_LOW_BOOKS)
    await aside.each(noticed, lambda book: Thing(f"book {book.book_id}", book.workspace), check)
    return low


class Restocker:
    """One for each open partition.

    1. Once a second, read the next 500 books with `keepFree`, in turns of workspaces, so that each has its share;
       without any, when the configuration changes.
    2. Count the free codes in Redis of each book whose current settings are projected.
    3. If there are too few, and Redis has every recorded code of the book, create a job for those that are neither free
       nor being generated. Generator runs it.
    4. If the pattern has no room for more, log an alarm and pause the book for a minute. A book at which anything else
       fails is set aside.
    """

    def __init__(
        self, pool: asyncpg.Pool, server: Server, scripts: Scripts, projector: RedisProjector, partition: int
    ) -> None:
        self._pool, self._server, self._scripts, self._projector = pool, server, scripts, projector
        self._partition, self._aside = partition, SetAside(pool, partition, "restocking")
        self._log = log.bind(partition=partition)
        self._after, self._last_workspace = dict[int, int](), 0
        """The last book that was read, by workspace, if not all were."""
        self._ordered: dict[tuple[int, int], JobRow] = {}
        """Each book's last job, while the book lacks codes."""
        self._paused: dict[tuple[int, int], tuple[int, float]] = {}
        """Paused books: the version that is paused, and the end of the pause."""

    async def run(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            version, has_books = lease.config_version, True
            with wait_out_outage(self._log):
                has_books = await self.restock_next()
            if not has_books:
                await lease.wait_until_configured(version)

    async def restock_next(self) -> bool:
        """Return whether any book has `keepFree`."""
        turns = (self._after, self._last_workspace)
        page = await page_stocked_books(self._pool, self._partition, BOOKS_A_PAGE, *turns)
        if not page:
            return False
        self._last_workspace = page[-1].workspace
        self._after = self._after | {one.workspace: one.book for one in page} if len(page) == BOOKS_A_PAGE else {}
        projected = await self._projector.read_last_version(self._partition)
        due = [one for one in page if one.version <= projected and not (one.is_set_aside or self._is_paused(one))]
        await self._aside.each(due, lambda book: Thing(f"book {book.book_id}", book.workspace), self._restock)
        return True

    async def _restock(self, book: StockedBook) -> None:
        counts = await self._count(book)
        if counts.available >= book.keep_free:
            self._ordered.pop(book.key, None)
            return
        ordered = self._ordered.get(book.key)
        if ordered is not None:
            ordered = await read_job(self._pool, book.workspace, ordered.job_id)
            if ordered.status == "failed":
                del self._ordered[book.key]
                self._pause(book, ordered.errors[0])
                return
        try:
            job = await order_missing(self._pool, book, counts.codes, counts.available)
        except Refusal as refusal:
            self._pause(book, refusal.detail)
            return
        if job is not None:
            self._ordered[book.key] = job
            self._log.info(
                "restocking", workspace=book.workspace, book=book.book, codes=job.requested, job_id=str(job.job_id)
            )

    async def _count(self, book: StockedBook) -> BookCounts:
        return await count_codes(self._server, self._scripts, book.workspace, book.book_id)

    def _is_paused(self, book: StockedBook) -> bool:
        version, until = self._paused.get(book.key, (0, 0.0))
        if version == book.version and time.monotonic() < until:
            return True
        self._paused.pop(book.key, None)
        return False

    def _pause(self, book: StockedBook, reason: str) -> None:
        self._paused[book.key] = book.version, time.monotonic() + PAUSE_S
        self._log.error("not_restocked", workspace=book.workspace, book=book.book, reason=reason, next_try_s=PAUSE_S)
