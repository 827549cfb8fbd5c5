"""Configuration that was written to Postgres and then not projected, because the process that wrote it died."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import structlog

from service.hot.deciding import Reply
from service.hot.projection import RedisProjector, Run
from service.hot.scripts import Scripts
from service.hot.server import Server
from service.record.changes import changes_since
from service.record.partitions import read_partition
from service.record.pool import ERRORS
from service.worker.flush import AnchorLost
from service.worker.mending import project

LOOK_S = 1.0
"""A change that is older than this and still missing is projected again; every write of it looks at versions."""

log = structlog.get_logger()


def runner_of(server: Server, scripts: Scripts) -> Run:
    """Runs these scripts on the worker's own connection, under the epoch that it verified."""

    async def run(partition: int, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        return await server.run(scripts, script, names, args)

    return run


def projector_of(server: Server, scripts: Scripts) -> RedisProjector:
    """A projector that runs these."""
    return RedisProjector(runner_of(server, scripts))


async def catch_up(projector: RedisProjector, pool: asyncpg.Pool, partition: int) -> None:
    """Look once a second for changes that were missing a second ago already."""
    missing = 0
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            seen = await projector.last_seen(partition)
            wanted = (await read_partition(pool, partition)).config_version
            if seen > wanted:  # what is changed now would be taken for older than what Redis has
                raise AnchorLost("Postgres was restored to a time before what Redis has seen of the configuration")
            if seen < missing:
                log.info("catching_up", partition=partition, versions=wanted - seen)
                async for change in changes_since(pool, partition, seen):
                    await project(projector, partition, change)
            missing = wanted
        except ERRORS as error:
            log.warning("postgres_away", error=type(error).__name__)
