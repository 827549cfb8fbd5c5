"""What the record needs now and then: room for the next months' facts, and nothing whose time is over."""

import asyncio

import asyncpg
import structlog

from service.record.config.job_rows import prune_jobs
from service.record.config.webhook_rows import prune_webhooks
from service.record.facts.event_writer import prune_keys
from service.record.facts.history_pages import prune_notices
from service.record.pool import ERRORS, is_away
from service.record.queries import query

EVERY_S = 600.0
MONTHS_AHEAD = 2
AT_ONCE, MOST_PRUNINGS = 10_000, 1_000

log = structlog.get_logger()


async def keep_house(pool: asyncpg.Pool) -> None:
    """Every ten minutes, until cancelled. Workers may do it at once: each step takes locks of its own."""
    while True:
        try:
            await pool.fetchval(query("ensure_fact_partitions"), MONTHS_AHEAD)
            for prune in (prune_keys, prune_webhooks, prune_jobs, prune_notices):
                for _ in range(MOST_PRUNINGS):
                    if await prune(pool, AT_ONCE) < AT_ONCE:
                        break
        except ERRORS as error:
            if not is_away(error):
                raise
            log.warning("postgres_away", error=type(error).__name__)
        await asyncio.sleep(EVERY_S)
