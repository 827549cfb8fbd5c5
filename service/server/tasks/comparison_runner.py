"""Start comparisons of a partition, on schedule and for jobs, each in its own process. partition_tasks.py lists it. The
options are those of `scrip reconcile` (cli/reconcile.py)."""

import asyncio
import contextlib
import signal
import sys
from datetime import UTC, datetime, timedelta

import asyncpg

from service.engine.record.pool import wait_out_outage
from service.engine.worker.lease_keeper import Lease
from service.engine.worker.task_supervisor import Backoff
from service.server.in_postgres import comparisons as record
from service.server.in_postgres.comparisons import ComparisonWork

OFF = "off"
POLL_S = 10.0
RETRY_S, LONGEST_RETRY_S = 10.0, 300.0
STOP_S = 5.0


class ComparisonRunner:
    """One for each open partition. Every ten seconds, and when a job waits:

    1. If a job waits, the scheduled time has passed since the last whole comparison, or a workspace that it had set
       aside is due again, start `scrip reconcile`. These three take turns, so that jobs don't delay the others. It runs
       in its own process, because a million codes take some ten seconds of Python. The process runs the job under the
       fence of the worker. No book leaves Redis in that time.
    2. Wait for its end. If it is killed, the next process runs the job again. After an error of the whole partition the
       next one waits for a pause that doubles from ten seconds to five minutes.
    """

    def __init__(
        self, pool: asyncpg.Pool, partition: int, fence: int, reconcile_at: str, comparing: asyncio.Lock
    ) -> None:
        """`comparing` is held during a comparison."""
        self._pool, self._partition, self._fence, self._at = pool, partition, fence, reconcile_at
        self._comparing = comparing

    async def run(self, lease: Lease) -> None:
        is_scheduled, backoff, last = False, Backoff(RETRY_S, LONGEST_RETRY_S), ""
        while True:
            work = None
            with wait_out_outage():
                if not is_scheduled:
                    await record.start_schedule(self._pool, self._partition)
                    is_scheduled = True
                turn = last_turn(datetime.now(UTC), self._at) if self._at != OFF else None
                work = await record.read_work(self._pool, self._partition, turn)
            if work and (kind := choose_work(work, last)):
                last = kind
                options = (str(self._fence),) if kind == "job" else ()
                async with self._comparing:
                    code = await self._compare(f"--{kind}", *options)
                if code == 0:
                    backoff.reset()
                else:
                    await asyncio.sleep(backoff.next_s())
            await lease.wait_until_due("reconciling", POLL_S)

    async def _compare(self, *options: str) -> int:
        """Run the process to its end and return its exit code."""
        command = (sys.executable, "-m", "service", "reconcile", "--partition", str(self._partition), *options)
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


def choose_work(work: ComparisonWork, last: str) -> str | None:
    """The field of the next work that is due, in turns, after the last one."""
    names = work._fields
    after = names.index(last) + 1 if last else 0
    return next((name for name in (*names[after:], *names[:after]) if getattr(work, name)), None)


def last_turn(now: datetime, at: str) -> datetime:
    """The last moment at this time of day (`03:30`, UTC)."""
    hour, minute = map(int, at.split(":"))
    today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
    return today if today <= now else today - timedelta(days=1)
