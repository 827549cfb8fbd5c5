"""How far the standbys of Postgres have the record: write_behind.py keeps in the outbox what they lack."""

import time
from collections import deque

import asyncpg

from service.engine.formats.event_id import NO_EVENT, EventId
from service.engine.record.partitions.standby_rows import read_flushed

POLL_S = 1.0
MAX_PAIRS = 1000


class Standbys:
    """Follows one partition's record to the standbys.

    1. Once a second, pair the cursor with a position of the WAL that is behind its commit. One statement reads both, so
       both are of one server.
    2. Once as many standbys as wanted have flushed a position, they have every event up to its cursor.
    3. After another start of Postgres, as of a promoted standby, forget the pairs: positions may mean something else.
    """

    def __init__(self, pool: asyncpg.Pool, partition: int, wanted: int) -> None:
        self._pool, self._partition, self._wanted = pool, partition, wanted
        self._incarnation = ""
        self._pairs: deque[tuple[int, EventId]] = deque()
        self._flushed: EventId = NO_EVENT
        self._poll_at = 0.0

    async def flushed(self, cursor: EventId) -> EventId:
        """The last recorded event that so many standbys have; the cursor if none is wanted. Raises as the pool."""
        if not self._wanted:
            return cursor
        if self._flushed < cursor and (now := time.monotonic()) >= self._poll_at:
            self._poll_at = now + POLL_S
            await self._poll()
        return min(self._flushed, cursor)

    async def _poll(self) -> None:
        flushed = await read_flushed(self._pool, self._partition, self._wanted)
        if flushed.incarnation != self._incarnation:
            self._incarnation = flushed.incarnation
            self._pairs.clear()
        if not self._pairs or self._pairs[-1][1] != flushed.cursor:
            if len(self._pairs) == MAX_PAIRS:  # replace the newest pair: its events only wait longer
                self._pairs.pop()
            self._pairs.append((flushed.written, flushed.cursor))
        while self._pairs and flushed.flushed is not None and self._pairs[0][0] <= flushed.flushed:
            self._flushed = self._pairs.popleft()[1]
        self._flushed = min(self._flushed, flushed.cursor)
