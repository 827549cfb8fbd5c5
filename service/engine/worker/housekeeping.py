"""Housekeeping in Postgres: create partitions for the next months' facts, delete expired rows, refresh statistics.
process.py runs it in each worker, with the `prune` of each table whose rows expire."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import asyncpg

from service.engine.record.facts.event_writer import prune_keys
from service.engine.record.partitions.failing_tasks import prune_set_aside
from service.engine.record.pool import wait_out_outage
from service.engine.record.processes import prune_processes
from service.engine.record.queries import query
from service.engine.worker.set_aside import SetAside, Thing

Prune = Callable[[asyncpg.Pool, int], Awaitable[int]]

EVERY_S = 600.0
MONTHS_AHEAD = 2
BATCH_ROWS, MAX_BATCHES = 10_000, 1_000
POLL_S = 5.0
MIN_BYTES = 512 << 10
"""Smaller tables are read whole in some milliseconds."""
MOST_TABLES = 4
"""In one statement, for some 0.2 s each."""


async def clean_up(pool: asyncpg.Pool, prunes: Sequence[Prune]) -> None:
    """Run every ten minutes. Several workers may run it at once: each step takes its own locks. A step that fails keeps
    no other from its work."""
    aside = SetAside(pool, 0, "housekeeping")

    async def run(prune: Prune) -> None:
        for _ in range(MAX_BATCHES):
            if await prune(pool, BATCH_ROWS) < BATCH_ROWS:
                break

    steps = (_ensure_months, prune_processes, prune_keys, prune_set_aside, *prunes)
    while True:
        with wait_out_outage():
            await aside.each(steps, lambda prune: Thing(prune.__name__), run)
        await asyncio.sleep(EVERY_S)


async def _ensure_months(pool: asyncpg.Pool, _limit: int) -> int:
    await pool.fetchval(query("ensure_fact_partitions"), MONTHS_AHEAD)
    return 0


async def refresh_statistics(pool: asyncpg.Pool) -> None:
    """Every five seconds refresh the statistics of tables that have doubled (decision 0072)."""
    while True:
        with wait_out_outage():
            await pool.execute(query("analyze_grown_tables"), MIN_BYTES, MOST_TABLES)
        await asyncio.sleep(POLL_S)
