"""Wait until an event is recorded: for `Prefer: durability=recorded` (durability.py), for reads that must include
earlier answers (histories.py), and before a user is deleted (users.py)."""

import asyncio
import heapq
from collections.abc import Sequence
from contextvars import Context
from itertools import count
from typing import NamedTuple

from service.engine.record.facts.quarantined_events import is_quarantined
from service.engine.record.pool import ERRORS, Database
from service.engine.record.queries import query

MAX_WAITERS = 10_000
INTERVAL_S = 0.01
PAUSE_AFTER_ERROR_S = 0.1


class AnswerScope(NamedTuple):
    """What an answer is about: the last event before its own, and its codes with their users ('' for any). A
    repeated answer has no event of its own."""

    after: tuple[int, int]
    coupons: Sequence[tuple[str, str]]


class Recorded:
    """One for each process.

    1. `wait` puts its event into a heap by partition, and starts the poller if it is not running.
    2. The poller reads the cursors of these partitions every 10 ms, and wakes the waiters whose events are recorded.
    3. An event of an older epoch than the cursor's is recorded if that epoch's record reached it; else it is lost.
    4. The poller ends when no waiter is left. While Postgres is away it polls less often, and waiters time out.

    The cursor also passes quarantined events. That suffices for reads that must include earlier answers; an answer
    that says `recorded` uses `wait_recorded`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[int, list[tuple[int, int, int, asyncio.Future[bool]]]] = {}
        self._waiters = 0
        self._order = count()
        self._poller: asyncio.Task[None] | None = None

    async def wait(self, partition: int, epoch: int, seq: int, timeout_ms: int) -> bool:
        """Return True as soon as the event is recorded; False on timeout or with too many waiters."""
        if self._waiters >= MAX_WAITERS:
            return False
        answer = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting.setdefault(partition, []), (epoch, seq, next(self._order), answer))
        self._waiters += 1
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="recorded", context=Context())  # for all workspaces
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await answer
        except TimeoutError:
            return False
        finally:
            self._waiters -= 1

    async def wait_recorded(
        self, partition: int, to: tuple[int, int], timeout_ms: int, workspace: int, about: AnswerScope
    ) -> bool:
        """Like wait, but False if an event of the answer is in quarantine, perhaps since long ago."""
        if not await self.wait(partition, *to, timeout_ms):
            return False
        try:
            return not await is_quarantined(self._database, partition, workspace, about.after, to, about.coupons)
        except ERRORS:
            return False

    async def close(self) -> None:
        """Stop the poller. Remaining waiters get False on timeout."""
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _poll(self) -> None:
        while self._remove_done():
            try:
                for partition, epoch, seq in await self._database.fetch(query("read_cursors"), list(self._waiting)):
                    await self._wake(partition, epoch, seq)
            except ERRORS:
                await asyncio.sleep(PAUSE_AFTER_ERROR_S)
            await asyncio.sleep(INTERVAL_S)

    def _remove_done(self) -> bool:
        """Remove heaps without waiters; return whether any are left."""
        for partition, heap in list(self._waiting.items()):
            if all(waiter[-1].done() for waiter in heap):
                del self._waiting[partition]
        return bool(self._waiting)

    async def _wake(self, partition: int, epoch: int, seq: int) -> None:
        heap = self._waiting[partition]
        ends: dict[int, int] = {epoch: seq}
        while heap and heap[0][:2] <= (epoch, seq):
            wanted_epoch, wanted_seq, _, answer = heap[0]
            if wanted_epoch not in ends:
                end = await self._database.fetchval(query("epochs_end"), partition, wanted_epoch)
                ends[wanted_epoch] = -1 if end is None else end
                continue  # the heap may have changed
            heapq.heappop(heap)
            if not answer.done():
                answer.set_result(wanted_seq <= ends[wanted_epoch])
