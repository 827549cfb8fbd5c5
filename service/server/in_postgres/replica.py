"""Reads that a replica may answer: wiring.py makes a Replica, with which exports.py, histories.py and audit.py read."""

import asyncio
import time

import asyncpg

from service.engine.record.queries import query

INTERVAL_S = 0.01


class Replica:
    """The pool for exports, histories and the audit: of DATABASE_READ_URL, else the primary's.

    Before such a read, `catch_up` waits until the replica has all that the primary has committed by now. So a reader
    sees its own changes, of configuration too, or learns of the lag.
    """

    def __init__(self, primary: asyncpg.Pool, replica: asyncpg.Pool | None) -> None:
        self._primary, self.pool = primary, replica or primary

    async def catch_up(self, timeout_s: float) -> float:
        """Return 0 once the replica has caught up; after the timeout, its lag in seconds. Raises the pools' errors."""
        if self.pool is self._primary:
            return 0.0
        position = await self._primary.fetchval(query("written_position"))
        deadline = time.monotonic() + timeout_s
        while True:
            reached, behind_s = await self.pool.fetchrow(query("read_replica"))
            if reached >= position:
                return 0.0
            if time.monotonic() > deadline:
                return max(behind_s, timeout_s)
            await asyncio.sleep(INTERVAL_S)

    async def close(self) -> None:
        if self.pool is not self._primary:
            await self.pool.close()
