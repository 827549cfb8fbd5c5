"""A comparison of one workspace that the API ordered, as a job."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast
from uuid import UUID, uuid4

import asyncpg
import click
import structlog

from service.record.config import job_rows
from service.record.config.job_rows import JobRow, LostLease, Reconciling

if TYPE_CHECKING:
    from service.reconcile.comparison import Outcome

LEASE_S = 10
RENEW_S = LEASE_S / 4

log = structlog.get_logger()


@dataclass
class _Progress:
    done: int
    total: int

    def set(self, done: int, total: int) -> None:
        self.done, self.total = done, total


async def run_job(pool: asyncpg.Pool, partition: int, compare: Callable[..., Awaitable["Outcome"]]) -> int:
    """Take a waiting comparison job of the partition and run it; a failure becomes the job's error. Return 1 if
    the job must be retried, else 0."""
    token = uuid4()
    job = await job_rows.take_job(pool, partition, token, LEASE_S, "reconcile")
    if job is None:
        return 0
    progress = _Progress(0, job.requested)
    renewing = asyncio.create_task(_renew(pool, job, token, progress))
    repair = cast("Reconciling", job.parameters).repair
    try:
        await compare(repair=repair, workspace=job.workspace, progress=progress.set)
        await job_rows.size_job(pool, job.job_id, token, progress.total, progress.total, LEASE_S)
        await job_rows.end_job(pool, job.job_id, token)
    except click.ClickException as failed:
        if failed.message.startswith("reconcile_running"):  # wait for the scheduled comparison of the partition
            await job_rows.release_job(pool, job.job_id, token)
            return 1
        await job_rows.end_job(pool, job.job_id, token, [failed.message])
    except LostLease:
        log.warning("job_lease_lost", job_id=str(job.job_id))
    except BaseException:
        with contextlib.suppress(Exception):  # the lease expires
            await asyncio.shield(job_rows.release_job(pool, job.job_id, token))
        raise
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
    return 0


async def _renew(pool: asyncpg.Pool, job: JobRow, token: UUID, progress: _Progress) -> None:
    while True:
        await asyncio.sleep(RENEW_S)
        await job_rows.size_job(pool, job.job_id, token, progress.done, progress.total, LEASE_S)
