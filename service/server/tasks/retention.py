"""Books that ended long ago leave Redis for good, and old months of facts leave Postgres. partition_tasks.py
lists it. A crash may come after any step: the next worker starts over, and what is removed stays removed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import structlog

from service.common.fair_queue import FairGate
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import encode_field
from service.engine.formats import key_names
from service.engine.formats.event_id import parse_event_id
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import RETAINING, Scripts
from service.engine.record import archived_books
from service.engine.record.actor import Actor, current_actor
from service.engine.record.archived_books import ArchivedBook, PastUse
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.record.pool import wait_out_outage
from service.engine.worker.lease_keeper import Lease
from service.engine.worker.projection_catchup import projector_of, runner_of
from service.engine.worker.set_aside import SetAside, Thing
from service.engine.worker.waiting import NotYet, has_recorded, wait_until
from service.server.in_postgres.user_deletion import is_erasing

POLL_S = 600.0
SETTLE_S = 3.5
"""As COMPARE_AFTER_S of projection_catchup.py: then no process projects what it wrote before the book was archived."""
WAIT_S = 60.0
BOOKS_AT_ONCE = 100
CODES_A_RUN, USES_A_RUN, ORDERS_A_RUN = 100, 200, 200
"""Some 2 ms of Redis."""

log = structlog.get_logger()


class _Erasing(NotYet):
    """Users of the workspace are being deleted. Its books wait for that."""


class Retention:
    """One for each open partition.

    1. In Postgres, archive the books that ended `days` ago or more, at most 100, with their last counts. From here on
       they can't be changed, and a rebuild leaves them out. Wait until Redis has this, and no process projects
       earlier changes.
    2. By pages, remove a book's codes. From here on no script decides about the book. Wait until what was decided
       before is recorded.
    3. By pages, remove the book's places in orders, its users' counts and its gifts; places and gifts first in
       Postgres, so that it accepts what Redis decides next. Then remove the book's own keys.
    4. Store that it is done, under a new version of the configuration. An opening repeats steps 2 to 4 in a Redis that
       has not seen this version, since it may have lost their writes (`archive_again`).
    5. Drop the months of facts that are older than `fact_days`, if all of their books are archived.

    A book at which a step fails is set aside.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        server: Server,
        scripts: Scripts,
        fence: int,
        erasing: FairGate,
        comparing: asyncio.Lock,
        days: int,
        fact_days: int = 0,
    ) -> None:
        """`erasing` is entered while users of a workspace are deleted, `comparing` is held while Redis is compared with
        the record. `days` and `fact_days` 0: never."""
        self._pool, self._server, self._fence = pool, server, fence
        self._erasing, self._comparing = erasing, comparing
        self._days, self._fact_days = days, fact_days
        self._partition = server.partition
        self._aside = SetAside(pool, server.partition, "retaining")
        self._scripts = Scripts(server.partition, scripts.epoch, scripts.nonce, RETAINING)
        self._run = runner_of(server, self._scripts)
        self._projector = projector_of(server, scripts)

    async def load(self) -> None:
        await self._server.load(self._scripts)

    async def run(self, lease: Lease) -> None:
        await self.load()
        while True:
            is_idle = True
            try:
                with wait_out_outage(log):
                    async with self._comparing:
                        is_idle = not await self.archive_books()
                    if self._fact_days:
                        async with self._aside.contain(Thing("old months")):
                            for month in await archived_books.drop_old_months(self._pool, self._fact_days):
                                log.info("month_dropped", month=month)
            except (NotYet, Refusal) as reason:
                log.info("archiving_waits", partition=self._partition, reason=str(reason))
            if is_idle:
                await lease.wait_until_due("retaining", POLL_S)

    async def archive_books(self) -> bool:
        """Archive some books to the end; return False if there is none. Raises NotYet, LeaseLost, and Refusal
        `recovering`."""
        current_actor.set(Actor("service"))
        if self._days:
            ended = await archived_books.find_ended(self._pool, self._partition, self._days, BOOKS_AT_ONCE)
            await self._aside.each(ended, _name, self._archive)
        books = await archived_books.find_archiving(self._pool, self._partition, BOOKS_AT_ONCE)
        if not books:
            return False
        await self._wait_for_projection()
        await self._aside.each(books, _name, self._remove_unless_erasing)
        return True

    async def _remove_unless_erasing(self, book: ArchivedBook) -> None:
        try:
            await self._remove(book)
        except _Erasing as reason:
            log.info("archiving_waits", partition=self._partition, workspace=book.workspace, reason=str(reason))

    async def _archive(self, ended: ArchivedBook) -> None:
        counts = await self._count(ended)
        await archived_books.archive(self._pool, self._partition, self._fence, ended, self._days, counts)

    async def _count(self, ended: ArchivedBook) -> list[int | str]:
        w = key_names.prefix(self._partition, ended.workspace)
        names = (self._server.gate, key_names.settings(w), key_names.books(w))
        return (await self._run(self._partition, "book_stats", names, [str(ended.book_id)]))[1:]

    async def _wait_for_projection(self) -> None:
        version = (await read_partition(self._pool, self._partition)).config_version

        async def is_projected() -> bool:
            return await self._projector.read_last_version(self._partition) >= version

        await wait_until(is_projected, WAIT_S, NotYet("an earlier change is not in Redis"))
        await asyncio.sleep(SETTLE_S)

    async def _wait_for_record(self) -> None:
        last = parse_event_id(await self._server.tail())
        late = NotYet("earlier events are not recorded")
        await wait_until(lambda: has_recorded(self._pool, self._partition, last), WAIT_S, late)

    async def _remove(self, book: ArchivedBook) -> None:
        await self._each_page_of_codes(book, self._drop_codes)
        await self._wait_for_record()
        after: UUID | None = UUID(int=0)
        while after is not None:
            after = await self._drop_uses(book, after)
        await self._each_page_of_codes(book, self._drop_gifts)
        await self._drop(book, "drop_book", [book.book])
        await archived_books.finish(self._pool, self._partition, self._fence, book)
        about = {"partition": self._partition, "workspace": book.workspace, "book_id": str(book.book_id)}
        log.info("book_archived", **about)

    async def _each_page_of_codes(
        self, book: ArchivedBook, drop: Callable[[ArchivedBook, list[str]], Awaitable[None]]
    ) -> None:
        after, codes = await archived_books.page_codes(self._pool, book, -1, CODES_A_RUN)
        while codes:
            async with self._without_erasing(book.workspace):
                await drop(book, codes)
            after, codes = await archived_books.page_codes(self._pool, book, after, CODES_A_RUN)

    async def _drop_codes(self, book: ArchivedBook, codes: list[str]) -> None:
        await self._drop(book, "drop_codes", [book.book, *(part for code in codes for part in _place(code))])

    async def _drop_uses(self, book: ArchivedBook, after: UUID) -> UUID | None:
        """Remove what the next redemptions after one have; return the last of them."""
        async with self._without_erasing(book.workspace):
            uses = await archived_books.page_uses(self._pool, book, after, USES_A_RUN)
            if not uses:
                return None
            await archived_books.free_orders(self._pool, book, uses)
            await self._drop(book, "drop_uses", [book.book, *_describe(uses)])
            return uses[-1].redemption_id

    async def _drop_gifts(self, book: ArchivedBook, codes: list[str]) -> None:
        orders = await archived_books.free_gifts(self._pool, book, codes)
        for start in range(0, len(orders), ORDERS_A_RUN):
            some = orders[start : start + ORDERS_A_RUN]
            await self._drop(book, "drop_gifts", [part for order in some for part in _place(encode_field(order))])

    async def _drop(self, book: ArchivedBook, script: str, args: Sequence[int | str]) -> None:
        names = (self._server.gate, key_names.settings(key_names.prefix(self._partition, book.workspace)))
        await self._run(self._partition, script, names, args)

    @asynccontextmanager
    async def _without_erasing(self, workspace: int) -> AsyncIterator[None]:
        """While no user of the workspace is being deleted: Redis and Postgres name the same users. Raises _Erasing if a
        deletion waits."""
        async with self._erasing.one(workspace):
            if await is_erasing(self._pool, workspace):
                raise _Erasing("users are being deleted")
            yield


def _name(book: ArchivedBook) -> Thing:
    return Thing(f"book {book.book_id}", book.workspace)


def _place(field: str) -> tuple[str, int]:
    """A code's, a user's or an order's field, and its bucket."""
    return field, key_names.bucket(field)


def _describe(uses: Sequence[PastUse]) -> list[str | int]:
    """Of each redemption: its event, its user with the bucket, its order with the bucket; '-' for none."""
    words: list[str | int] = []
    for use in uses:
        order = ("-", 0) if use.order is None else _place(encode_field(use.order))
        words += (str(use.event), *_place(encode_field(use.user)), *order)
    return words
