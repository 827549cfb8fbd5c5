"""The turns of a worker's openings: partition_worker.py opens its partition through this. Each partition is closed at
once, unless it is to be rebuilt, and few are restored at a time."""

import asyncio

from service.engine.hot.scripts import Scripts
from service.engine.worker.opening.partition_opening import Opening
from service.engine.worker.waiting import pause

OPENINGS_AT_ONCE = 4
"""The rest of an opening, once the partition is closed, holds at most one connection to Postgres, and uses another for
single statements. So half of CONNECTIONS (partition_worker.py: change both) are never held, and no opening waits for
another."""
BEHIND_OPENINGS_S = 3.0
"""So long at most, background tasks wait for openings."""


class OpeningTurns:
    """The openings of a worker process; OPENINGS_AT_ONCE restore a server at a time."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(OPENINGS_AT_ONCE)
        self._under_way = 0
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    async def open(self, opening: Opening) -> Scripts:
        """Raises as Opening.run."""
        self._under_way += 1
        self._is_idle.clear()
        try:
            return await self._open(opening)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._is_idle.set()

    async def wait_until_idle(self) -> None:
        """Wait until no opening is under way, but not long. Background tasks of partitions that are open leave the
        processor to those that are closed."""
        await pause(BEHIND_OPENINGS_S, self._is_idle)

    async def _open(self, opening: Opening) -> Scripts:
        if await opening.is_rebuild():  # it may take long, so requests go on until its turn
            async with self._turns:
                return await opening.run()
        begun = await opening.begin()
        async with self._turns:
            restored = await opening.restore(begun)
        await begun.wait_until_settled()
        async with self._turns:
            return await opening.finish(restored)
