"""The metric of jobs that have not ended."""

import asyncio
from collections.abc import Mapping
from typing import get_args

import asyncpg
from prometheus_client import Gauge

from service.engine.record.pool import wait_out_outage
from service.server.in_postgres.job_rows import Kind, count_jobs

POLL_S = 15.0
_JOBS = Gauge("scrip_jobs", "Jobs that have not ended, by kind and state.", ["kind", "state"])


async def follow_jobs(pool: asyncpg.Pool) -> None:
    """Every 15 seconds count the jobs that have not ended."""
    while True:
        with wait_out_outage():
            show_jobs(await count_jobs(pool))
        await asyncio.sleep(POLL_S)


def show_jobs(jobs: Mapping[tuple[str, str], int]) -> None:
    """Show how many jobs have not ended, by kind and state."""
    for kind in get_args(Kind):
        for state in ("running", "paused"):
            _JOBS.labels(kind, state).set(jobs.get((kind, state), 0))
