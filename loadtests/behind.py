"""How far a service's record is behind what its Redis decided."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
from redis.asyncio import Redis

from service.formats import key_names
from service.formats.event_id import parse_event_id

POLL_S = 0.05
PATIENCE_S = 120.0
_CURSOR = "SELECT cursor_epoch, cursor_seq FROM partitions WHERE id = $1"
_Id = tuple[int, int]


class Behind:
    """Looks at a partition's outbox in Redis and at its cursor in Postgres."""

    def __init__(self, redis: Redis, postgres: asyncpg.Connection, partition: int) -> None:
        self._redis, self._postgres, self.partition = redis, postgres, partition

    async def caught_up(self) -> None:
        """Wait until all that Redis has decided is recorded; TimeoutError after two minutes."""
        async with self.watched():
            pass

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[list[float]]:
        """Of moments within: how many seconds what the outbox had then took to be recorded. It ends when everything is
        recorded; TimeoutError after two minutes."""
        seen: list[float] = []
        ended = asyncio.Event()
        watching = asyncio.create_task(self._watch(seen, ended))
        try:
            yield seen
            ended.set()
            done, _ = await asyncio.wait([watching], timeout=PATIENCE_S)
            if not done:
                raise TimeoutError(f"not everything was recorded {PATIENCE_S:.0f} s after it was decided")
            await watching
        finally:
            watching.cancel()

    async def _watch(self, seen: list[float], ended: asyncio.Event) -> None:
        last = False
        waiting: deque[tuple[float, _Id]] = deque()
        while not last or waiting:
            if not last:
                last = ended.is_set()
                waiting.append((time.monotonic(), await self._tail()))
            cursor, now = await self._cursor(), time.monotonic()
            while waiting and waiting[0][1] <= cursor:
                at, _ = waiting.popleft()
                seen.append(now - at)
            await asyncio.sleep(POLL_S)

    async def _tail(self) -> _Id:
        last: Any = await self._redis.xrevrange(key_names.outbox(self.partition), count=1)
        return parse_event_id(last[0][0].decode())

    async def _cursor(self) -> _Id:
        row: Any = await self._postgres.fetchrow(_CURSOR, self.partition)
        return row[0], row[1]
