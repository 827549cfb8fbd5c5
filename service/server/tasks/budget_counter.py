"""Count in Redis what was redeemed of a book before it had budgets or limits of uses. partition_tasks.py lists it;
books.py waits for it."""

import asyncio
import contextlib
import time
from contextlib import aclosing
from typing import Any

import asyncpg
import structlog

from service.engine.domain.field_types import decode_id, encode_field
from service.engine.formats import key_names
from service.engine.formats.bounds import counters_of, encode_spent, spans_at
from service.engine.formats.event_id import parse_event_id
from service.engine.formats.stored_settings import zone_of
from service.engine.hot.projection import RedisProjector
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import COUNTING, Scripts
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.record.pool import wait_out_outage
from service.engine.worker.lease_keeper import Lease
from service.engine.worker.set_aside import SetAside, Thing
from service.server.in_postgres.budget_rows import (
    USERS_A_PAGE,
    BudgetedBook,
    SpentByUser,
    budgeted_books,
    note_counted,
    spent_of_book,
    spent_of_users,
)

POLL_S = 0.05
CHECK_S = 60.0
_NONE = "-"

log = structlog.get_logger()


class BudgetCounter:
    """One for each open partition. At the start, after each change of the configuration, and each minute, for each book
    whose generation it has not seen counted since:

    1. Once Redis has the settings, begin: from then on scripts count, and Redis stores the last event before that.
    2. Wait until this event is recorded.
    3. Add what Postgres has up to it: the book's sums, then each user's, some hundred at a time. With each step Redis
       stores how far it is, so that a repeat adds nothing twice.
    4. Store in Postgres that it is done. From then on a Redis that has lost these counts refuses, until they are again
       counted (lua/includes/budgets.lua).
    """

    def __init__(self, pool: asyncpg.Pool, server: Server, scripts: Scripts, projector: RedisProjector) -> None:
        self._pool, self._server, self._projector = pool, server, projector
        self._partition, self._aside = server.partition, SetAside(pool, server.partition, "counting")
        self._scripts = Scripts(server.partition, scripts.epoch, scripts.nonce, COUNTING)
        self._done: set[tuple[int, int, int]] = set()
        """Workspaces, books and generations that are counted."""

    async def load(self) -> None:
        """Load the scripts. Call it first."""
        await self._server.load(self._scripts)

    async def run(self, lease: Lease) -> None:
        await self.load()
        while True:
            version, is_done = lease.config_version, False
            with wait_out_outage(log):
                is_done = await self.count_all()
            if not is_done:
                await asyncio.sleep(POLL_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await lease.wait_until_configured(version)
                continue
            self._done.clear()  # a repair may have removed counters of a wrong type

    async def count_all(self) -> bool:
        """Return whether all books are counted."""
        books = await budgeted_books(self._pool, self._partition)
        due = [book for book in books if _key(book) not in self._done]
        resting = await self._aside.read_resting() if due else set()
        due = [book for book in due if _thing(book).name not in resting]
        await self._aside.each(due, _thing, self._count)
        self._done &= {_key(book) for book in books}
        return all(_key(book) in self._done for book in books)

    async def _count(self, book: BudgetedBook) -> None:
        row = book.row
        state = await self._step(book, "", "")
        while " " in state:
            _, event, _ = state.split(" ")
            if (await read_partition(self._pool, self._partition)).cursor < parse_event_id(event):
                await asyncio.sleep(POLL_S)
                state = await self._step(book, "", "")
            else:
                state = await self._add(book, state)
        if not state:
            return  # Redis does not have the settings yet, or others by now
        if not row.is_counted and (counted := await note_counted(self._pool, row)):
            await self._projector.book(counted)
            await self._projector.confirm_version(self._partition, counted.version)
            log.info("budgets_counted", workspace=row.workspace, book=row.book, partition=self._partition)
        self._done.add(_key(book))

    async def _add(self, book: BudgetedBook, state: str) -> str:
        """Add what was redeemed up to the state's event, from where it is on. Return the state afterwards."""
        generation, event, last = state.split(" ")
        at, row = parse_event_id(event), book.row
        spans = spans_at(zone_of(row), time.time_ns() // 1_000_000 + book.offset_ms)
        after, things = "", list[Any]()
        if last == _NONE:
            spent = await spent_of_book(self._pool, row, at, spans)
            for period, some in spent.items():
                counters = counters_of(row.counted_from, period, some)
                things += [word for name, by in counters.items() for word in ("b", name, by, _NONE)]
        else:
            after = decode_id(last.removeprefix("="))
        async with aclosing(spent_of_users(self._pool, row, at, spans, after)) as pages:
            async for page in pages:
                things += [word for one in page for word in _of_user(one)]
                is_last = not page or len(page) < USERS_A_PAGE
                end = generation if is_last else f"{generation} {event} ={encode_field(page[-1].user_id)}"
                state = await self._step(book, state, end, *things)
                if state != end or is_last:
                    return state  # another worker's step came first
                things = []
        raise AssertionError("the last page is short")

    async def _step(self, book: BudgetedBook, state: str, end: str, *things: Any) -> str:
        """The state in Redis after adding these to it, if it was `state`; '' if Redis has other settings."""
        row, w = book.row, key_names.prefix(self._partition, book.row.workspace)
        names = (self._server.gate, key_names.settings(w), self._server.outbox)
        args = (row.book, row.counted_from, state, end, *things)
        _, now = await self._server.run(self._scripts, "count_before", names, args)
        return str(now)


def _of_user(one: SpentByUser) -> tuple[Any, ...]:
    user = encode_field(one.user_id)
    return "u", user, key_names.bucket(user), encode_spent(one.spent)


def _key(book: BudgetedBook) -> tuple[int, int, int]:
    return book.row.workspace, book.row.book, book.row.counted_from


def _thing(book: BudgetedBook) -> Thing:
    return Thing(f"book {book.row.book_id}", book.row.workspace)
