"""Remove expired locks of coupons that no request has touched since. partition_worker.py runs it."""

import asyncio
from contextlib import AbstractAsyncContextManager

import asyncpg
import structlog

from service.engine.formats.key_names import Key
from service.engine.hot.expired_locks import sweep_locks
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import ERASING, Scripts
from service.engine.worker import metrics
from service.engine.worker.projection_catchup import runner_of
from service.engine.worker.set_aside import SetAside, Thing

SWEEP_S = 3600.0

log = structlog.get_logger()


async def sweep(pool: asyncpg.Pool, server: Server, scripts: Scripts) -> None:
    """Sweep the partition's locks now, then once an hour: those of each book by user, and by end, are a thing of their
    own."""
    scripts = Scripts(server.partition, scripts.epoch, scripts.nonce, ERASING)
    await server.load(scripts)
    aside = SetAside(pool, server.partition, "sweeping")

    def contain(locks: Key) -> AbstractAsyncContextManager[None]:
        return aside.contain(Thing(f"locks {locks.workspace}/{'/'.join(locks.parts)}", locks.workspace))

    while True:
        if swept := await sweep_locks(server, runner_of(server, scripts), contain):
            log.info("locks_swept", partition=server.partition, coupons=swept)
            metrics.count_expired_locks(server.partition, swept)
        await asyncio.sleep(SWEEP_S)
