"""Project configuration whose writer died before it projected it. partition_worker.py runs it. Tasks of the worker that
write to Redis use `runner_of` and `projector_of`."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import asyncpg
import structlog

from service.common.pace import Pace
from service.engine.hot.decider import Reply
from service.engine.hot.projection import SHARE, RedisProjector, Run
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import Scripts
from service.engine.record.changes import all_settings, changes_since
from service.engine.record.partitions.partition_rows import confirm_incarnation, read_partition
from service.engine.record.pool import wait_out_outage
from service.engine.worker.lease_keeper import Lease
from service.engine.worker.opening.older_postgres import find_surplus
from service.engine.worker.projector import PROJECTING, log_skipped_code, project
from service.engine.worker.set_aside import SetAside, Thing
from service.engine.worker.write_behind import AnchorLost

POLL_S = 1.0
"""A change is projected again if it is older than this and still missing. Redis ignores older versions."""
COMPARE_AFTER_S = 3.5
"""Longer than a change takes to reach Redis (MAX_AGE_S in service/server/api/configuration_writes.py)."""

log = structlog.get_logger()


def runner_of(server: Server, scripts: Scripts) -> Run:
    """Run these scripts on the worker's connection, under its verified epoch."""

    async def run(partition: int, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        return await server.run(scripts, script, names, args)

    return run


def projector_of(server: Server, scripts: Scripts) -> RedisProjector:
    return RedisProjector(runner_of(server, scripts), log_skipped_code, pace=Pace(SHARE))


class ProjectionCatchUp:
    """One for each open partition. Once a second, until Redis has everything; then after each change:

    1. If Redis is ahead of Postgres, stop: the partition must be opened again. After a restart of Postgres, which may
       have been restored, look also at events (service/engine/worker/opening/older_postgres.py).
    2. Project what was missing a second ago already, and what was set aside and has rested: all of it at the start.
    3. If Postgres has restarted more than COMPARE_AFTER_S ago, no process still projects what it wrote before.
       Confirm that Redis is not ahead, so that Postgres takes changes again.
    """

    def __init__(self, server: Server, projector: RedisProjector, pool: asyncpg.Pool, fence: int) -> None:
        self._server, self._projector, self._pool, self._fence = server, projector, pool, fence
        self._partition = server.partition
        self._set_aside = SetAside(pool, server.partition, PROJECTING)
        self._tried = False
        """Whether all that is set aside was tried, at the start."""
        self._missing = 0
        self._unconfirmed: tuple[str, float] = ("", 0.0)
        """An unconfirmed Postgres, and when this worker first read it."""

    async def run(self, lease: Lease) -> None:
        """Raises AnchorLost."""
        while True:
            await asyncio.sleep(POLL_S)
            version = None
            with wait_out_outage(log):
                version = await self._catch_up()
            if version is not None:
                await lease.wait_until_configured(version)

    async def _catch_up(self) -> int | None:
        """Return the version of the configuration if Redis has everything, and Postgres was compared with it."""
        projected, newest = await self._projector.read_versions(self._partition)
        row = await read_partition(self._pool, self._partition)
        if newest > row.config_version:
            raise AnchorLost("Postgres was restored: Redis has newer configuration")
        if not row.confirmed and (surplus := await find_surplus(self._server, self._pool)):
            raise AnchorLost(str(surplus))
        if projected < self._missing:
            log.info("projection_behind", partition=self._partition, versions=row.config_version - projected)
            async with aclosing(changes_since(self._pool, self._partition, projected)) as changes:
                async for change in changes:
                    await project(self._projector, self._partition, change, self._set_aside)
        is_whole = await self._try_again()
        self._missing = row.config_version
        if not row.confirmed:
            await self._confirm_later(row.incarnation)
        return row.config_version if row.confirmed and is_whole and projected == row.config_version else None

    async def _try_again(self) -> bool:
        """Return whether nothing is set aside."""
        stored = set(await self._set_aside.read_stored())
        due = stored - await self._set_aside.read_resting() if stored and self._tried else stored
        self._tried = True
        if not due:
            return not stored
        failed = set[str]()
        async with aclosing(all_settings(self._pool, self._partition)) as changes:
            async for change in changes:
                failed |= await project(self._projector, self._partition, change, self._set_aside, due)
        for name in due - failed:
            await self._set_aside.forget(Thing(name))
        return not stored - due and not failed

    async def _confirm_later(self, incarnation: str) -> None:
        if self._unconfirmed[0] != incarnation:
            self._unconfirmed = (incarnation, time.monotonic())
        elif time.monotonic() - self._unconfirmed[1] > COMPARE_AFTER_S:
            await confirm_incarnation(self._pool, self._partition, self._fence, incarnation)
            log.info("postgres_compared", partition=self._partition)
