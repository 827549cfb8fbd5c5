"""The server's tasks of a worker process, and what expires in its tables. service/serving/worker.py hands them to the
engine. Names of tasks are in alarms."""

import asyncio

import asyncpg

from service.engine.record.pool import wait_out_outage
from service.engine.worker.partition_worker import Shared, Tasks
from service.server.in_postgres.history_pages import prune_notices
from service.server.in_postgres.job_rows import prune_jobs
from service.server.in_postgres.refused_batches import prune_refused
from service.server.in_postgres.samples import Sampler, add_backlog, prune_samples
from service.server.in_postgres.webhook_rows import prune_webhooks
from service.server.in_postgres.workspace_rows import learn_names
from service.server.tasks.job_metrics import follow_jobs

POLL_S = 5.0
PRUNES = (prune_webhooks, prune_jobs, prune_notices, prune_samples, prune_refused)


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
