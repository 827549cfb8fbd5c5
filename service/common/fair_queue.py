"""Tasks that wait for their turn, one workspace after the other. Tasks of bulk.py, pace.py and shared_pool.py wait
here."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar

has_turn: ContextVar[bool] = ContextVar("has_turn", default=False)
"""Whether the task has a turn for which others wait (pace.py): it is the next in a FairGate."""


class FairQueue:
    """Waiting tasks by workspace: each workspace's own in their order, of another workspace each time."""

    def __init__(self) -> None:
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}

    def add(self, workspace: int) -> asyncio.Future[None]:
        """A future that is done when it is the task's turn."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(workspace, deque()).append(turn)
        return turn

    def add_first(self, workspace: int) -> asyncio.Future[None]:
        """Like add, but before all that wait."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting = {workspace: deque([turn, *self._waiting.pop(workspace, ())]), **self._waiting}
        return turn

    def count(self, workspace: int) -> int:
        """How many tasks of the workspace wait."""
        return sum(not turn.done() for turn in self._waiting.get(workspace, ()))

    def count_all(self) -> int:
        """How many tasks wait."""
        return sum(map(self.count, self._waiting))

    def pop(self, may_run: Callable[[int], bool] = lambda _: True) -> tuple[int, asyncio.Future[None]] | None:
        """The next task that is not cancelled, of a workspace that may run one, and its workspace."""
        for workspace in [*self._waiting]:
            if not may_run(workspace):
                continue
            waiting = self._waiting.pop(workspace)
            while waiting and waiting[0].done():
                waiting.popleft()
            if waiting:
                turn = waiting.popleft()
                if waiting:
                    self._waiting[workspace] = waiting
                return workspace, turn
        return None


class FairGate:
    """Lets so many tasks run at once, of a workspace so many; others wait in a FairQueue, with a turn in front."""

    def __init__(self, most: int, most_of_one: int) -> None:
        self.most, self.most_of_one = most, most_of_one
        self._running: Counter[int] = Counter()
        self._queue = FairQueue()
        self.waiting, self.all_waiting = self._queue.count, self._queue.count_all

    @asynccontextmanager
    async def one(self, workspace: int) -> AsyncIterator[None]:
        """Wait until one more may run, which is what runs in the `with` block."""
        await self.enter(workspace)
        try:
            yield
        finally:
            self.leave(workspace)

    async def enter(self, workspace: int) -> None:
        """Wait until one more may run; `leave` ends it."""
        if self._running.total() < self.most and self._may_run(workspace):  # else those that wait might run
            self._running[workspace] += 1
            return
        turn = self._queue.add_first(workspace) if has_turn.get() else self._queue.add(workspace)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # it was this task's turn already
                self.leave(workspace)
            raise

    def leave(self, workspace: int) -> None:
        """End one that `enter` let run, and let the next ones run."""
        self._running[workspace] -= 1
        if not self._running[workspace]:
            del self._running[workspace]
        while self._running.total() < self.most and (following := self._queue.pop(self._may_run)):
            of, turn = following
            self._running[of] += 1
            turn.set_result(None)

    def _may_run(self, workspace: int) -> bool:
        return self._running[workspace] < self.most_of_one
