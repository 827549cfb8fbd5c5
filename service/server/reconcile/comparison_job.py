"""A comparison of one workspace that the API ordered, as a job. `scrip reconcile --job` (cli/reconcile.py) calls this.
The text of a ClickException becomes the job's error, which the API shows; the job is retried if that begins with
`reconcile_running`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

import asyncpg
import click
import structlog

from service.engine.worker.set_aside import SetAside, Thing
from service.server.in_postgres import comparisons, job_rows
from service.server.in_postgres.job_rows import JobRow, JobStopped, Reconciling
from service.server.reconcile.comparison import Outcome

STORE_S = 2.5
"""Between two times that the progress is stored."""

log = structlog.get_logger()


@dataclass
class _Progress:
    done: int
    total: int

    def set(self, done: int, total: int) -> None:
        self.done, self.total = done, total


async def run_job(pool: asyncpg.Pool, partition: int, fence: int, compare: Callable[..., Awaitable[Outcome]]) -> int:
    """Run a waiting comparison job of the partition, of the workspace whose turn was longest ago. A failure is the
    job's error. Return 1 to retry it, else 0. A job at which anything else fails is set aside."""
    served = await comparisons.read_served(pool, partition)
    turn = await job_rows.begin_turn(pool, partition, fence, "reconcile", served)
    if turn is None:
        return 0
    async with SetAside(pool, partition, "reconciling").contain(Thing(f"job {turn.job_id}", turn.workspace)):
        job = (await job_rows.jobs_by_id(pool, [turn.job_id]))[turn.job_id]
        return await _run(pool, job, fence, compare)
    return 0


async def _run(pool: asyncpg.Pool, job: JobRow, fence: int, compare: Callable[..., Awaitable[Outcome]]) -> int:
    progress = _Progress(0, job.requested)
    storing = asyncio.create_task(_store(pool, job, fence, progress))
    repair = cast("Reconciling", job.parameters).repair
    comparing = asyncio.ensure_future(compare(repair=repair, workspace=job.workspace, progress=progress.set))
    try:
        await asyncio.wait({storing, comparing}, return_when=asyncio.FIRST_COMPLETED)
        if not comparing.done():
            storing.result()
        await comparing
        await job_rows.size_job(pool, job, fence, progress.total, progress.total)
        await job_rows.end_job(pool, job, fence)
    except click.ClickException as failed:
        if failed.message.startswith("reconcile_running"):  # wait for the task of the worker
            return 1
        await job_rows.end_job(pool, job, fence, [failed.message])
    except JobStopped:
        log.info("job_stopped", job_id=str(job.job_id))
    finally:
        for task in (storing, comparing):
            task.cancel()
        await asyncio.gather(storing, comparing, return_exceptions=True)
    return 0


async def _store(pool: asyncpg.Pool, job: JobRow, fence: int, progress: _Progress) -> None:
    """Store the progress until cancelled. Raises JobStopped."""
    while True:
        await asyncio.sleep(STORE_S)
        await job_rows.size_job(pool, job, fence, progress.done, progress.total)
