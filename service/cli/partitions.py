"""`scrip partitions`: list partitions. main.py loads it; names in the JSON stay. Others use the type PARTITION."""

from typing import Any

import asyncpg
import click

from service.cli.failures import with_record
from service.cli.tables import AS_JSON, render_json, render_table
from service.common import config
from service.common.running_service import find_service
from service.engine.record.partitions.partition_rows import count_workspaces, read_partitions
from service.server.in_redis.partition_states import read_partition_states

PARTITION = click.IntRange(0, 1023)
"""The type of a partition's number in a command; a database has at most 1024 (process_commands.py)."""
_COLUMNS = ("partition", "state", "epoch", "owner", "workspaces", "backlog")


@click.command(epilog="Example: scrip partitions --json")
@AS_JSON
@with_record
async def partitions(connection: asyncpg.Connection, as_json: bool) -> None:
    """List the partitions.

    The columns are: number; `open` or `closed`; epoch; the worker that works on it; number of workspaces; number of
    events that are not recorded. `?`: there is no worker, or Redis does not reply.
    """
    rows = await read_partitions(connection)
    workspaces = await count_workspaces(connection)
    redis_url = find_service(config.load()).redis_url
    states = await read_partition_states(redis_url, [row.id for row in rows]) if redis_url else {}
    listed: list[dict[str, Any]] = [
        {
            "partition": row.id,
            "state": row.state,
            "epoch": row.epoch,
            "owner": row.lease_holder if row.lease_live else None,
            "workspaces": workspaces.get(row.id, 0),
            "backlog": row.unrecorded(states[row.id].last) if row.id in states else None,
            "lacks": row.lacks,
        }
        for row in rows
    ]
    if as_json:
        click.echo(render_json({"partitions": listed}))
        return
    click.echo(
        render_table(
            [name.upper() for name in _COLUMNS],
            [["?" if row[name] is None else row[name] for name in _COLUMNS] for row in listed],
        )
    )
    for row in rows:
        if row.lacks:
            click.echo(f"Partition {row.id} stays closed. {row.lacks}. `scrip recover` shows what to do.")
