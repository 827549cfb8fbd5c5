"""The server's tasks of a worker process, and what expires in its tables. service/serving/worker.py hands them to the
engine. Names of tasks are in alarms."""

import asyncio
from collections.abc import Mapping
from typing import get_args

import asyncpg
from prometheus_client import Gauge

from service.engine.record.pool import wait_out_outage
from service.engine.worker.partition_worker import Shared, Tasks
from service.server.in_postgres.history_pages import prune_notices
from service.server.in_postgres.job_rows import Kind, count_jobs, prune_jobs
from service.server.in_postgres.refused_batches import prune_refused
from service.server.in_postgres.samples import Sampler, add_backlog, prune_samples
from service.server.in_postgres.webhook_rows import prune_webhooks
from service.server.in_postgres.workspace_rows import learn_names

POLL_S, POLL_JOBS_S = 5.0, 15.0
PRUNES = (prune_webhooks, prune_jobs, prune_notices, prune_samples, prune_refused)
_JOBS = Gauge("scrip_jobs", "Jobs that have not ended, by kind and state.", ["kind", "state"])


def process_tasks(pool: asyncpg.Pool, shared: Shared) -> Tasks:
    """The tasks by name."""
    return {
        "names": lambda: follow_names(pool),
        "jobs": lambda: follow_jobs(pool),
        "sampling": Sampler(pool, shared.take_backlog, add_backlog).run,
    }


async def follow_names(pool: asyncpg.Pool) -> None:
    """Every five seconds learn the names of new workspaces, for the log."""
    while True:
        with wait_out_outage():
            await learn_names(pool)
        await asyncio.sleep(POLL_S)


async def follow_jobs(pool: asyncpg.Pool) -> None:
    """Every 15 seconds count the jobs that have not ended."""
    while True:
        with wait_out_outage():
            show_jobs(await count_jobs(pool))
        await asyncio.sleep(POLL_JOBS_S)


def show_jobs(jobs: Mapping[tuple[str, str], int]) -> None:
    """Show how many jobs have not ended, by kind and state."""
    for kind in get_args(Kind):
        for state in ("running", "paused"):
            _JOBS.labels(kind, state).set(jobs.get((kind, state), 0))
