"""Having a partition compared: by the clock, and for jobs. The comparing is done by a process of its own."""

import asyncio
import contextlib
import signal
import sys
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog

from service.record.partitions import comparisons as record
from service.record.pool import ERRORS, is_away
from service.worker import metrics

LOOK_S = 1.0
RETRY_S = 10.0
STOP_S = 5.0

log = structlog.get_logger()


class Reconcilers:
    """One for each partition that a worker keeps. Once a second:

    1. Where a job waits, or the time of day has passed since the last comparison of the whole partition, start a
       process that compares (`scrip reconcile`): a million codes are some ten seconds of Python, and recording must not
       wait for that. It takes the job, or the turn, itself; of several that begin at once one gets it.
    2. Wait until it ends. Killed, it leaves a turn that ends by itself, and the job to the next.
    3. Show in the metrics what the last comparisons left.
    """

    def __init__(self, pool: asyncpg.Pool, partition: int, reconcile_at: str) -> None:
        self._pool, self._partition, self._at = pool, partition, reconcile_at

    async def run(self) -> None:
        """Work until cancelled; while Postgres is away, wait."""
        watched = False
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                if not watched:
                    await record.watch(self._pool, self._partition)
                    watched = True
                metrics.show_drift(self._partition, *await record.drift_of(self._pool, self._partition))
                turn = last_turn(datetime.now(UTC), self._at) if self._at else None
                job, due = await record.work(self._pool, self._partition, turn)
            except ERRORS as error:
                if not is_away(error):
                    raise
                log.warning("postgres_away", error=type(error).__name__)
                continue
            if (job or due) and await self._compare("--job" if job else "--turn") != 0:
                await asyncio.sleep(RETRY_S)

    async def _compare(self, what: str) -> int:
        """Run the process to its end; its exit code."""
        command = (sys.executable, "-m", "service", "reconcile", "--partition", str(self._partition), what)
        process = await asyncio.create_subprocess_exec(*command)
        try:
            return await process.wait()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
                try:
                    async with asyncio.timeout(STOP_S):
                        await process.wait()
                except TimeoutError:
                    process.kill()
            raise


def last_turn(now: datetime, at: str) -> datetime:
    """The last moment at which it was this time of day (`03:30`, UTC)."""
    hour, minute = map(int, at.split(":"))
    today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)
