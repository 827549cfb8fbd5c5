"""A comparison that was asked for through the API: one workspace's, as a job."""

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
class _Size:
    """How much is done, of how much."""

    done: int
    total: int

    def set(self, done: int, total: int) -> None:
        """So much."""
        self.done, self.total = done, total


async def run_job(pool: asyncpg.Pool, partition: int, compare: Callable[..., Awaitable["Outcome"]]) -> int:
    """Take the partition's oldest such job and do it; what keeps it from being done is the job's error. 0 where it, or
    nothing, was to be done, 1 where it has to be tried again."""
    token = uuid4()
    job = await job_rows.take_job(pool, partition, token, LEASE_S, "reconcile")
    if job is None:
        return 0
    size = _Size(0, job.requested)
    renewing = asyncio.create_task(_renew(pool, job, token, size))
    repair = cast("Reconciling", job.parameters).repair
    try:
        await compare(repair=repair, workspace=job.workspace, progress=size.set)
        await job_rows.size_job(pool, job.job_id, token, size.total, size.total, LEASE_S)
        await job_rows.finish_job(pool, job.job_id, token)
    except click.ClickException as failed:
        if failed.message.startswith("reconcile_running"):  # the whole partition's, by the clock: after it
            await job_rows.release_job(pool, job.job_id, token)
            return 1
        await job_rows.finish_job(pool, job.job_id, token, [failed.message])
    except LostLease:
        log.warning("job_lease_lost", job_id=str(job.job_id))
    except BaseException:
        with contextlib.suppress(Exception):  # the lease ends by itself
            await asyncio.shield(job_rows.release_job(pool, job.job_id, token))
        raise
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
    return 0


async def _renew(pool: asyncpg.Pool, job: JobRow, token: UUID, size: _Size) -> None:
    """Say how far it is until cancelled."""
    while True:
        await asyncio.sleep(RENEW_S)
        await job_rows.size_job(pool, job.job_id, token, size.done, size.total, LEASE_S)
