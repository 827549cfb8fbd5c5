"""`scrip partitions`: list the partitions, and change their number."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from service.cli.failures import Commands, connect_to_record
from service.cli.tables import render_json, render_table
from service.common.running_service import find_service

if TYPE_CHECKING:
    from service.common.config import Settings

_MOST = 1024
PARTITION = click.IntRange(0, _MOST - 1)
"""The type of a partition's number in a command."""
_COLUMNS = ("partition", "state", "epoch", "owner", "workspaces", "backlog")


@click.group(cls=Commands, invoke_without_command=True, epilog="Example: scrip partitions resize 8 --dry-run")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.pass_context
def partitions(context: click.Context, as_json: bool) -> None:
    """List the partitions, or change their number.

    The columns are: number; `open` or `closed`; epoch; the worker that works on it; number of workspaces; number of
    events that are not recorded. `?`: there is no worker, or Redis does not reply.
    """
    from service.common import config

    if context.invoked_subcommand is None:
        asyncio.run(_list_partitions(config.load(), as_json))
    elif as_json:
        raise click.UsageError("--json can't be combined with a command.")


@partitions.command(epilog="Example: scrip partitions resize 8 --dry-run")
@click.argument("number", type=click.IntRange(1, _MOST))
@click.option("--dry-run", is_flag=True, help="Only check, and print the plan.")
def resize(number: int, dry_run: bool) -> None:
    """Change the number of partitions while requests go on.

    Then all workspaces are spread evenly over them, with as few moves as possible: one after the other moves as by
    `scrip move`. Partitions that are no longer needed are removed. If the command or anything else dies, run it again:
    it continues.
    """
    from service.cli.resizing import resize_partitions
    from service.common import config

    asyncio.run(resize_partitions(config.load(), number, dry_run))


async def _list_partitions(settings: "Settings", as_json: bool) -> None:
    from service.hot.outbox_tails import read_tails
    from service.record.partitions.partition_rows import read_partitions, recorded_partitions
    from service.record.partitions.resizes import count_workspaces

    async with connect_to_record(settings) as connection:
        wanted, rows = await recorded_partitions(connection), await read_partitions(connection)
        workspaces = await count_workspaces(connection)
    redis_url = find_service(settings).redis_url
    tails = await read_tails(redis_url, [row.id for row in rows]) if redis_url else {}
    listed: list[dict[str, Any]] = [
        {
            "partition": row.id,
            "state": row.state,
            "epoch": row.epoch,
            "owner": row.lease_holder if row.lease_live else None,
            "workspaces": workspaces.get(row.id, 0),
            "backlog": row.unrecorded(tails[row.id]) if row.id in tails else None,
            "lacks": row.lacks,
        }
        for row in rows
    ]
    if as_json:
        click.echo(render_json({"number": wanted, "partitions": listed}))
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
    if len(rows) > (wanted or 0):
        click.echo(f"Partitions from {wanted} on are to be removed: `scrip partitions resize {wanted}` continues.")
