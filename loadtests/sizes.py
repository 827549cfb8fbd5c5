"""How many bytes a service's stores hold and move, so that a load can say what each redemption adds."""

from typing import Any

import asyncpg
from redis.asyncio import Redis

from service.formats.key_names import outbox

_POSTGRES = """
SELECT pg_database_size(current_database()) AS postgres,
  (SELECT sum(pg_relation_size(indexrelid)) FROM pg_index)::bigint AS indexes,
  (pg_current_wal_lsn() - '0/0')::bigint AS wal
"""


async def read_sizes(redis: Redis, postgres: asyncpg.Connection, partition: int) -> dict[str, float]:
    """`redis`: memory without the outbox. `outbox`: the memory of all events that the outbox ever had, by the mean of
    those that it has. `network`: bytes that Redis received and sent. `postgres`: all tables and indexes, of which
    `indexes` are the indexes. `wal`: Postgres's log."""
    stream = outbox(partition)
    info = await redis.info()
    held_bytes = int(await redis.memory_usage(stream, samples=0) or 0)
    entries = await redis.xinfo_stream(stream)
    row: Any = await postgres.fetchrow(_POSTGRES)
    return {
        "redis": info["used_memory"] - held_bytes,
        "outbox": held_bytes / max(entries["length"], 1) * entries["entries-added"],
        "network": info["total_net_input_bytes"] + info["total_net_output_bytes"],
        **{name: float(size) for name, size in row.items()},
    }


def compute_growth(before: dict[str, float], after: dict[str, float], many: int) -> dict[str, float]:
    """By how much each size grew, for each of so many."""
    return {name: (after[name] - size) / many for name, size in before.items()}
