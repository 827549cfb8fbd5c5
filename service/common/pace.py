"""Work at a bounded share of the time, so that others on the same servers wait little: uploads, jobs, projections."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from service.common.fair_queue import FairGate, has_turn

MAX_PAUSE_S = 1.0


class Pace:
    """A piece of work within a `with` block; `rest` then pauses so long that the work takes this share of the time, but
    at most MAX_PAUSE_S. If the server is slow because others use it, the pauses grow, too."""

    def __init__(self, share: float) -> None:
        self._rest_for_each_s = 1 / share - 1
        self._began = self._worked_s = self._due = 0.0
        self._gate = FairGate(1, 1)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self._worked_s += time.monotonic() - self._began

    async def rest(self) -> None:
        await asyncio.sleep(self._find_pause())

    @asynccontextmanager
    async def turn(self, workspace: int) -> AsyncIterator[None]:
        """A piece of work, after what is left of the pause of the piece before it; several tasks work one after the
        other, and workspaces take turns. What the work waits for in a FairGate is its next."""
        async with self._gate.one(workspace):
            await asyncio.sleep(max(0.0, self._due - time.monotonic()))
            has_turn.set(True)
            try:
                with self:
                    yield
            finally:
                has_turn.set(False)  # not reset: a generator may end in another task
                self._due = time.monotonic() + self._find_pause()

    def _find_pause(self) -> float:
        worked_s, self._worked_s = self._worked_s, 0.0
        return min(worked_s * self._rest_for_each_s, MAX_PAUSE_S)
