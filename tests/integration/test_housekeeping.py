"""What the record needn't keep goes by itself, a bounded number at a time."""

import asyncio

import asyncpg
from uuid_utils.compat import uuid7

from service.record.jobs import KEEP_DAYS, prune_jobs
from service.record.workspaces import create_workspace
from service.worker.housekeeping import keep_house
from tests.integration.flush_fixtures import until

_MAKE = """
INSERT INTO jobs (job_id, workspace, kind, parameters, requested, status, finished_at)
VALUES ($1, $2, 'reconcile', '{"repair": false}', 1, $3, now() - $4::int * interval '1 day')
"""


async def test_jobs_that_ended_long_ago_are_forgotten(pool: asyncpg.Pool) -> None:
    """Neither those that run, however old, nor those whose end somebody may still ask for."""
    async with pool.acquire() as connection:
        workspace = (await create_workspace(connection, "shop")).workspace
    for status, days in (("running", None), *[("done", KEEP_DAYS + 1)] * 5, ("failed", KEEP_DAYS - 1)):
        await pool.execute(_MAKE, uuid7(), workspace, status, days)
    assert await prune_jobs(pool, 3) == 2
    house = asyncio.create_task(keep_house(pool))
    try:
        await until(lambda: _is_left(pool, {"failed": 1, "running": 1}))
    finally:
        house.cancel()


async def _is_left(pool: asyncpg.Pool, wanted: dict[str, int]) -> bool:
    return dict(await pool.fetch("SELECT status, count(*) FROM jobs GROUP BY status")) == wanted
