"""`scrip status`: the whole service on one screen. main.py loads it; names in the JSON stay."""

import asyncio
import sys
from datetime import UTC, datetime
from typing import Any

import asyncpg
import click

from service.cli.failures import with_record
from service.cli.tables import AS_JSON, render_json, render_table
from service.common import config
from service.common.durations import quantile_ms
from service.common.running_service import find_service
from service.engine.record.partitions.partition_rows import read_partitions
from service.server.in_postgres.samples import STEP_S, NewestTraffic, count_endings, newest_backlog, newest_traffic
from service.server.in_redis.partition_states import read_partition_states

BUSIEST = 10
_CLEAR = "\x1b[H\x1b[J"
_PARTITION = {
    "partition": "PARTITION", "state": "STATE", "gate": "GATE", "epoch": "EPOCH", "owner": "WORKER",
    "backlog": "BACKLOG", "oldestSeconds": "OLDEST S", "redisUsedMib": "REDIS MIB", "redisLimitMib": "OF",
}  # fmt: skip
_WORKSPACE = {
    "name": "WORKSPACE", "perSecond": "REQUESTS/S", "refusedPercent": "REFUSED %", "failedPercent": "FAILED %",
    "p50Ms": "P50 MS", "p99Ms": "P99 MS",
}  # fmt: skip


@click.command(epilog="Example: scrip status --every 5")
@click.option("--every", type=click.FloatRange(1, 3600), default=2.0, help="Seconds between two screens; 2.")
@click.option("--once", is_flag=True, help="Print it once, as where the output is no terminal.")
@AS_JSON
@with_record
async def status(connection: asyncpg.Connection, every: float, once: bool, as_json: bool) -> None:
    """Watch the whole service on one screen.

    Partitions: state in Postgres and in Redis, worker, unrecorded events and the age of the oldest, memory of Redis.
    Requests of ten seconds, up to 22 s old: of all and of the ten busiest workspaces. `?`: unknown, or none.
    """
    while True:
        figures = await _read_figures(connection)
        if as_json:
            click.echo(render_json(figures))
            return
        is_live = sys.stdout.isatty() and not once
        click.echo(f"{_CLEAR if is_live else ''}{_render(figures)}")
        if not is_live:
            return
        await asyncio.sleep(every)


async def _read_figures(connection: asyncpg.Connection) -> dict[str, Any]:
    rows = await read_partitions(connection)
    redis_url = find_service(config.load()).redis_url
    states = await read_partition_states(redis_url, [row.id for row in rows]) if redis_url else {}
    backlog = await newest_backlog(connection)
    partitions: list[dict[str, Any]] = []
    for row in rows:
        state = states.get(row.id)
        partitions.append(
            {
                "partition": row.id,
                "state": row.state,
                "gate": state and state.gate,
                "epoch": row.epoch,
                "owner": row.lease_holder if row.lease_live else None,
                "backlog": state and row.unrecorded(state.last),
                "oldestSeconds": round(backlog[row.id][1] / 1000, 1) if row.id in backlog else None,
                "redisUsedMib": state and round(state.used_bytes / 2**20),
                "redisLimitMib": (round(state.limit_bytes / 2**20) or None) if state else None,
            }
        )
    traffic = [_outline(one) for one in await newest_traffic(connection, BUSIEST)]
    return {"at": datetime.now(UTC), "partitions": partitions, "workspaces": traffic}


def _outline(traffic: NewestTraffic) -> dict[str, Any]:
    ended = count_endings(traffic.counts)
    total = sum(ended)
    return {
        "name": traffic.name or "all",
        "perSecond": round(total / STEP_S, 1),
        "refusedPercent": round(100 * ended.refused / total, 1) if total else None,
        "failedPercent": round(100 * ended.failed / total, 1) if total else None,
        "p50Ms": quantile_ms(traffic.times, 0.5),
        "p99Ms": quantile_ms(traffic.times, 0.99),
    }


def _render(figures: dict[str, Any]) -> str:
    tables: list[str] = []
    for columns, rows in ((_PARTITION, figures["partitions"]), (_WORKSPACE, figures["workspaces"])):
        cells = [["?" if row[name] is None else row[name] for name in columns] for row in rows]
        tables.append(render_table([*columns.values()], cells))
    return "\n\n".join([f"{figures['at']:%Y-%m-%d %H:%M:%S} UTC", *tables])
