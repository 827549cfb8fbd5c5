"""Forgetting locks that have expired, of coupons that nobody has touched since."""

import asyncio

import structlog

from service.hot.pseudonyms import sweep_locks
from service.hot.redis_server import Server
from service.hot.scripts import ERASING, Scripts
from service.worker.projection_catchup import runner_of

SWEEP_S = 3600.0

log = structlog.get_logger()


class Sweeper:
    """One for each partition that a worker keeps: once when it begins, then once an hour."""

    def __init__(self, server: Server, scripts: Scripts) -> None:
        self._server = server
        self._scripts = Scripts(server.partition, scripts.epoch, scripts.nonce, ERASING)
        self._run = runner_of(server, self._scripts)

    async def run(self) -> None:
        """Sweep until cancelled, or until Redis is no longer ours."""
        await self._server.load(self._scripts)
        while True:
            if swept := await sweep_locks(self._server, self._run):
                log.info("locks_swept", partition=self._server.partition, coupons=swept)
            await asyncio.sleep(SWEEP_S)
