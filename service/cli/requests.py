"""`scrip requests`: find refused requests of the last hour by their id. main.py loads it. Names in the JSON stay."""

import asyncpg
import click

from service.cli.failures import with_record
from service.cli.tables import AS_JSON, render_json, render_table
from service.engine.domain.times import from_ms
from service.server.answers.accounting import NOBODY
from service.server.in_postgres.refused_batches import find_refused
from service.server.in_postgres.workspace_rows import read_workspace_names

_COLUMNS = ("at", "workspace", "route", "status", "outcome", "tookMs", "subject")


@click.command(epilog="Example: scrip requests 019aa0b2-8a11-7c2d-b8a4-1f0f6f1d2e90")
@click.argument("request_id", metavar="ID")
@AS_JSON
@with_record
async def requests(connection: asyncpg.Connection, request_id: str, as_json: bool) -> None:
    """Find a refused request by its id.

    It lists what was refused, or failed, under this id within the last hour, in all workspaces. ID is the X-Request-Id
    of the response. Codes and ids are masked. `-`: the request had no valid credentials.
    """
    found = await find_refused(connection, request_id)
    names = await read_workspace_names(connection) | {NOBODY: None}
    rows = [
        (from_ms(one.at_ms), names[one.workspace], one.route, one.status, one.outcome, one.took_ms, one.subject)
        for one in found.refusals
    ]
    if as_json:
        items = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
        click.echo(render_json({"items": items, "notStored": found.dropped}))
        return
    if rows:
        click.echo(render_table(_COLUMNS, [["-" if cell is None else cell for cell in row] for row in rows]))
    else:
        click.echo("No request with this id was refused within the last hour, up to a second ago.")
    if found.dropped:
        click.echo(f"{found.dropped} refusals of the last hour were too many in their second, and are not stored.")
