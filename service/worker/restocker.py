"""Keeping so many codes of a book free as it says (`keepFree`)."""

import asyncio
import time

import asyncpg
import structlog

from service.domain.errors import Refusal
from service.formats import key_names
from service.hot.projection import RedisProjector
from service.hot.redis_server import Server
from service.hot.scripts import Scripts
from service.hot.workspace_state import BookCounts, counts_of
from service.record.config.job_rows import JobRow, read_job
from service.record.config.stock import KeptBook, order_missing, page_kept_books
from service.record.pool import ERRORS, is_away

LOOK_S = 1.0
BOOKS_A_LOOK = 500
REST_S = 60.0
"""How long a book is left alone for which no codes could be made; changing it ends this."""

log = structlog.get_logger()


class Restocker:
    """One for each partition that a worker keeps.

    1. Once a second, read which books shall have how many free codes: at most 500, and the next ones a second later.
    2. Count what is free, in Redis, of each that Redis knows as it is now.
    3. Where that is too few, and Redis has every code of the book that is recorded, make a job for what is neither
       free nor coming; Generator does it.
    4. Where the pattern has no room for more, raise the alarm, and try again a minute later.
    """

    def __init__(
        self, pool: asyncpg.Pool, server: Server, scripts: Scripts, projector: RedisProjector, partition: int
    ) -> None:
        self._pool, self._server, self._scripts, self._projector = pool, server, scripts, projector
        self._partition = partition
        self._log = log.bind(partition=partition)
        self._after = (0, 0)
        self._ordered: dict[tuple[int, int], JobRow] = {}
        """The last job of each book that has lacked codes since."""
        self._resting: dict[tuple[int, int], tuple[int, float]] = {}
        """Books left alone: the version that none could be made for, and until when."""

    async def run(self) -> None:
        """Work until cancelled, or until Redis is no longer ours; while Postgres is away, wait."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except ERRORS as error:
                if not is_away(error):
                    raise
                self._log.warning("postgres_away", error=type(error).__name__)

    async def look(self) -> None:
        """Look at the next books once."""
        page = await page_kept_books(self._pool, self._partition, self._after, BOOKS_A_LOOK)
        self._after = page[-1].key if len(page) == BOOKS_A_LOOK else (0, 0)
        if not page:
            return
        seen = await self._projector.last_seen(self._partition)
        for kept in page:
            if kept.version <= seen and not self._rests(kept):
                await self._restock(kept)

    async def _restock(self, kept: KeptBook) -> None:
        counts = await self._count(kept)
        if counts.available >= kept.keep_free:
            self._ordered.pop(kept.key, None)
            return
        ordered = self._ordered.get(kept.key)
        if ordered is not None:
            ordered = await read_job(self._pool, kept.workspace, ordered.job_id)
            if ordered.status == "failed":
                del self._ordered[kept.key]
                self._rest(kept, ordered.errors[0])
                return
        try:
            job = await order_missing(self._pool, kept, counts.codes, counts.available)
        except Refusal as refusal:
            self._rest(kept, refusal.detail)
            return
        if job is not None:
            self._ordered[kept.key] = job
            self._log.info(
                "restocking", workspace=kept.workspace, book=kept.book, codes=job.requested, job_id=str(job.job_id)
            )

    async def _count(self, kept: KeptBook) -> BookCounts:
        w = key_names.prefix(self._partition, kept.workspace)
        names = (self._server.gate, key_names.settings(w), key_names.books(w))
        return counts_of(await self._server.run(self._scripts, "book_stats", names, (str(kept.book_id),)))

    def _rests(self, kept: KeptBook) -> bool:
        version, until = self._resting.get(kept.key, (0, 0.0))
        if version == kept.version and time.monotonic() < until:
            return True
        self._resting.pop(kept.key, None)
        return False

    def _rest(self, kept: KeptBook, reason: str) -> None:
        self._resting[kept.key] = kept.version, time.monotonic() + REST_S
        self._log.error("not_restocked", workspace=kept.workspace, book=kept.book, reason=reason, next_try_s=REST_S)
