"""Configuration that was written to Postgres and then not projected, because the process that wrote it died."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import structlog

from service.hot.decider import Reply
from service.hot.projection import RedisProjector, Run
from service.hot.redis_server import Server
from service.hot.scripts import Scripts
from service.record.config.changes import changes_since
from service.record.partitions.partition_rows import confirm_incarnation, read_partition
from service.record.pool import ERRORS, is_away
from service.worker.projector import leave_out_code, project
from service.worker.write_behind import AnchorLost

LOOK_S = 1.0
"""A change that is older than this and still missing is projected again; every write of it looks at versions."""
COMPARE_AFTER_S = 3.5
"""More than a change may take on its way to Redis (service/api/configuration_writes.py, MAX_AGE_S)."""

log = structlog.get_logger()


def runner_of(server: Server, scripts: Scripts) -> Run:
    """Runs these scripts on the worker's own connection, under the epoch that it verified."""

    async def run(partition: int, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        return await server.run(scripts, script, names, args)

    return run


def projector_of(server: Server, scripts: Scripts) -> RedisProjector:
    """A projector that runs these."""
    return RedisProjector(runner_of(server, scripts), leave_out_code)


async def is_ahead(projector: RedisProjector, pool: asyncpg.Pool, partition: int) -> bool:
    """Whether Redis has configuration that Postgres doesn't know, since that was restored to an earlier time: what is
    changed from now on would be taken for older."""
    _, newest = await projector.versions(partition)
    return newest > (await read_partition(pool, partition)).config_version


class CatchUp:
    """One for each partition that a worker keeps. Once a second:

    1. Where Redis is ahead of Postgres, stop: the partition has to be opened anew.
    2. Project what was missing a second ago already.
    3. Where Postgres was started a while ago (COMPARE_AFTER_S), so that no process is still projecting what it wrote
       before, say that Redis is not ahead: from then on Postgres takes changes again.
    """

    def __init__(self, projector: RedisProjector, pool: asyncpg.Pool, partition: int, fence: int) -> None:
        self._projector, self._pool, self._partition, self._fence = projector, pool, partition, fence
        self._missing = 0
        self._new: tuple[str, float] = ("", 0.0)
        """A Postgres that is not confirmed, and since when it is known."""

    async def run(self) -> None:
        """Look until cancelled. Raises AnchorLost."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except ERRORS as error:
                if not is_away(error):
                    raise
                log.warning("postgres_away", error=type(error).__name__)

    async def _look(self) -> None:
        seen, newest = await self._projector.versions(self._partition)
        row = await read_partition(self._pool, self._partition)
        if newest > row.config_version:
            raise AnchorLost("Postgres was restored to a time before what Redis has seen of the configuration")
        if seen < self._missing:
            log.info("catching_up", partition=self._partition, versions=row.config_version - seen)
            async for change in changes_since(self._pool, self._partition, seen):
                await project(self._projector, self._partition, change)
        self._missing = row.config_version
        if not row.confirmed:
            await self._compared(row.incarnation)

    async def _compared(self, incarnation: str) -> None:
        if self._new[0] != incarnation:
            self._new = (incarnation, time.monotonic())
        elif time.monotonic() - self._new[1] > COMPARE_AFTER_S:
            await confirm_incarnation(self._pool, self._partition, self._fence, incarnation)
            log.info("postgres_compared", partition=self._partition)
