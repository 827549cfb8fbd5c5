"""Remove expired locks of coupons that no request has touched since. partition_worker.py runs it."""

import asyncio

import structlog

from service.engine.hot.expired_locks import sweep_locks
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import ERASING, Scripts
from service.engine.worker import metrics
from service.engine.worker.projection_catchup import runner_of

SWEEP_S = 3600.0

log = structlog.get_logger()


async def sweep(server: Server, scripts: Scripts) -> None:
    """Sweep the partition's locks now, then once an hour."""
    scripts = Scripts(server.partition, scripts.epoch, scripts.nonce, ERASING)
    await server.load(scripts)
    while True:
        if swept := await sweep_locks(server, runner_of(server, scripts)):
            log.info("locks_swept", partition=server.partition, coupons=swept)
            metrics.count_expired_locks(server.partition, swept)
        await asyncio.sleep(SWEEP_S)
