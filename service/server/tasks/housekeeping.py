"""What expires in the server's tables, and names for the log. service/serving/worker.py hands it to the engine."""

import asyncio

import asyncpg

from service.engine.record.pool import wait_out_outage
from service.server.record.history_pages import prune_notices
from service.server.record.job_rows import prune_jobs
from service.server.record.refused_batches import prune_refused
from service.server.record.samples import prune_samples
from service.server.record.webhook_rows import prune_webhooks
from service.server.record.workspace_rows import learn_names

LOOK_S = 5.0
PRUNES = (prune_webhooks, prune_jobs, prune_notices, prune_samples, prune_refused)


async def follow_names(pool: asyncpg.Pool) -> None:
    """Every five seconds learn the names of new workspaces, for the log."""
    while True:
        with wait_out_outage():
            await learn_names(pool)
        await asyncio.sleep(LOOK_S)
