"""Bulk work beside the hot path: how much of it there is at once, and whose turn on the event loop it is. wiring.py
makes one Bulk; uploads (codes.py, upload_dry_run.py), exports (csv_stream.py), large bodies (reading.py), batches
(batches.py) and large pages of lists (controllers) use it."""

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from service.common.fair_queue import FairGate, FairQueue
from service.common.pace import Pace
from service.engine.domain.errors import Refusal

MAX_UPLOADS, UPLOADS_OF_ONE = 32, 8
"""Uploads and dry runs at one time at an address, and those of one workspace; its processes share them out."""
MAX_EXPORTS, EXPORTS_OF_ONE = 8, 2
MAX_BODIES, BODIES_OF_ONE = 64, 32
"""JSON bodies above 64 KiB, or without a Content-Length, that are being read."""
MAX_PAGES, PAGES_OF_ONE = 64, 32
"""Pages of more than PIECE rows that are being read or rendered: their rows take about a megabyte each."""
BATCHES_OF_ONE = 2
"""Calls to Redis of up to 64 operations that a workspace's batches have in flight: each may take some 10 ms of Redis,
for which other workspaces wait."""
PIECE = 50
"""Rows of a page or a file that are rendered in a turn: about a quarter of a millisecond, which nothing interrupts.
A page of the default size has so many."""
AT_POSTGRES = 0.5
"""For this share of the time uploads, dry runs, exports, large pages and lists of users for jobs together use a
connection to Postgres; searches and reports use another."""
SCRIPTS = 20
"""Scripts that a request starts at once: about a millisecond of Redis."""
AT_REDIS = 1 / 3
"""For this share of the time requests that read by more scripts use Redis and the event loop."""
PAUSE = 2.0
"""Bulk work pauses for this multiple of the time that it takes: it has at most a third of the event loop's time."""
Row = TypeVar("Row")
Item = TypeVar("Item")

TIMER_S = 0.001
"""The shortest time that uvloop waits for."""


class Slots:
    """Limits how much work of one kind runs in this process, in all and of one workspace."""

    def __init__(self, things: str, most: int, most_of_one: int) -> None:
        self._things, self._most, self._most_of_one = things, most, most_of_one
        self._running: Counter[int] = Counter()

    @property
    def running(self) -> int:
        """How many are occupied."""
        return self._running.total()

    def check(self, workspace: int) -> None:
        """Raise Refusal `rate_limited` if the workspace has all of its slots, `unavailable` if no slot is free: before
        the work that a request needs first."""
        if self._running[workspace] >= self._most_of_one:
            limit = f"{self._most_of_one} {self._things} of the workspace"
            raise Refusal.temporary(
                "rate_limited", f"At most {limit} run at once; try again when one has ended.", 1000, 3000
            )
        if self.running >= self._most:
            raise Refusal.temporary(
                "unavailable", f"The limit of concurrent {self._things} is reached; try again shortly.", 2000, 6000
            )

    @contextlib.contextmanager
    def one(self, workspace: int) -> Iterator[None]:
        """Occupy a slot within the `with` block. Raises Refusal as check."""
        self.check(workspace)
        self._running[workspace] += 1
        try:
            yield
        finally:
            self._running[workspace] -= 1
            if not self._running[workspace]:
                del self._running[workspace]


class Turns:
    """Lets pieces of bulk work run one after the other, with pauses. Workspaces take turns.

    A piece should take a millisecond at most: a hot request waits for one piece, however many clients send bulk work.
    """

    def __init__(self) -> None:
        self._queue = FairQueue()
        self._is_due = False
        self._began_s = self._owed_s = 0.0

    async def take(self, workspace: int) -> None:
        """Wait for a turn, which lasts until the caller's next `await`."""
        turn = self._queue.add(workspace)
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._give)
        await turn

    def _give(self) -> None:
        """Wake the next caller. Its turn is what runs until `_pause`, which must be scheduled after set_result."""
        following = self._queue.pop()
        if following is None:
            self._is_due = False
            return
        self._began_s = time.perf_counter()
        following[1].set_result(None)
        asyncio.get_running_loop().call_soon(self._pause)

    def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        self._owed_s += PAUSE * (time.perf_counter() - self._began_s)
        if self._owed_s < TIMER_S:
            loop.call_soon(self._give)
        else:
            loop.call_later(self._owed_s, self._give)
            self._owed_s = 0.0


class Bulk:
    """The slots and turns of one of the `processes` of an address."""

    def __init__(self, processes: int = 1) -> None:
        def make(things: str, most: int, most_of_one: int) -> Slots:
            return Slots(things, max(1, most // processes), max(1, most_of_one // processes))

        self.turns = Turns()
        self.at_postgres, self.at_redis = Pace(AT_POSTGRES), Pace(AT_REDIS)
        self.at_postgres_long = Pace(AT_POSTGRES)
        self.uploads = make("uploads", MAX_UPLOADS, UPLOADS_OF_ONE)
        self.exports = make("exports", MAX_EXPORTS, EXPORTS_OF_ONE)
        self.bodies = make("large bodies", MAX_BODIES, BODIES_OF_ONE)
        self.pages = make("large pages", MAX_PAGES, PAGES_OF_ONE)
        self.searches = make("searches and reports", MAX_PAGES, PAGES_OF_ONE)
        self.batches = FairGate(sys.maxsize, BATCHES_OF_ONE)

    async def read(self, workspace: int, limit: int, read: Callable[[], Awaitable[Item]]) -> Item:
        """What `read` reads: up to PIECE rows at once, more in a turn at Postgres. Raises Refusal as Slots.check."""
        if limit <= PIECE:
            return await read()
        with self.pages.one(workspace):
            async with self.at_postgres.turn(workspace):
                return await read()

    async def search(self, workspace: int, read: Callable[[], Awaitable[Item]]) -> Item:
        """What `read` reads by a statement that may take seconds (bounded_read), in a turn among such statements:
        no other read waits for them. Raises Refusal as Slots.check."""
        with self.searches.one(workspace):
            async with self.at_postgres_long.turn(workspace):
                return await read()

    async def gather(self, workspace: int, rows: Sequence[Row], run: Callable[[Row], Awaitable[Item]]) -> list[Item]:
        """What `run` reads by a script for each row: up to SCRIPTS at once, more in turns at Redis. Raises Refusal as
        Slots.check."""
        if len(rows) <= SCRIPTS:
            return await asyncio.gather(*map(run, rows))
        items: list[Item] = []
        with self.pages.one(workspace) if len(rows) > PIECE else contextlib.nullcontext():
            for start in range(0, len(rows), SCRIPTS):
                async with self.at_redis.turn(workspace):
                    items += await asyncio.gather(*map(run, rows[start : start + SCRIPTS]))
        return items

    async def read_pages(self, workspace: int, pages: AsyncIterator[Sequence[Row]]) -> AsyncIterator[Sequence[Row]]:
        """The pages of a file, each read in its turn at Postgres."""
        async with contextlib.aclosing(pages):  # type: ignore[type-var]
            while True:
                async with self.at_postgres.turn(workspace):
                    page = await anext(pages, None)
                if page is None:
                    return
                yield page

    async def render(self, workspace: int, rows: Sequence[Row], render: Callable[[Row], Item]) -> list[Item]:
        """The items of a page: up to PIECE rows at once, more in turns. Raises Refusal as Slots.check."""
        if len(rows) <= PIECE:
            return [render(row) for row in rows]
        items: list[Item] = []
        with self.pages.one(workspace):
            for start in range(0, len(rows), PIECE):
                await self.turns.take(workspace)
                items += [render(row) for row in rows[start : start + PIECE]]
        return items
