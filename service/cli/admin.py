"""`scrip workspaces` and `scrip keys`: create, list, revoke. main.py loads it. Names in the JSON stay."""

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import click
import msgspec

from service.cli.failures import with_record
from service.cli.partitions import PARTITION
from service.cli.tables import AS_JSON, render_json, render_table
from service.common.plurals import count_noun
from service.engine.domain.configuration import WorkspaceRow
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import MAX_INT
from service.engine.domain.limits import KeyLimits
from service.engine.domain.settings import to_camel
from service.engine.operations.caller import SCOPES
from service.server.in_postgres import key_rows, workspace_rows
from service.server.in_postgres.console_sessions import end_sessions_of

_SCOPES = click.Choice(SCOPES)
_LIMIT = click.IntRange(1, MAX_INT)


@click.group(epilog="Example: scrip workspaces list")
def workspaces() -> None:
    """Create, list, limit and suspend workspaces; sign people out."""


@click.group(epilog="Example: scrip keys list demo")
def keys() -> None:
    """Create, list and revoke API keys."""


@workspaces.command("create", epilog="Example: scrip workspaces create shop")
@click.argument("name")
@click.option("--test", is_flag=True, help="Create a test workspace, whose clock can be set.")
@click.option("--partition", type=PARTITION, help="Its partition, for good; default: by its id.")
@with_record
async def create_workspace(connection: asyncpg.Connection, name: str, test: bool, partition: int | None) -> None:
    """Create a workspace and print its id."""
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise click.ClickException("A name has 1 to 100 printable characters.")
    try:
        mode = "test" if test else "live"
        row = await workspace_rows.create_workspace(connection, name, mode, partition=partition)
    except workspace_rows.NoSuchPartition as unknown:
        raise click.ClickException(f"There is no partition {partition}: they are 0 to {unknown.last}.") from None
    except workspace_rows.NameTaken:
        raise click.ClickException(
            f"There is a workspace {name} already. Choose another name; `scrip workspaces list` shows all."
        ) from None
    except Refusal:
        raise click.ClickException(
            "Postgres has restarted, and no worker has compared it with Redis yet. Start `scrip worker`, and retry."
        ) from None
    click.echo(str(row.workspace_id))


@workspaces.command("list", epilog="Example: scrip workspaces list --json")
@AS_JSON
@with_record
async def list_workspaces(connection: asyncpg.Connection, as_json: bool) -> None:
    """List all workspaces. A test workspace has a clock that can be set."""
    rows = [_outline(row) for row in await workspace_rows.all_workspaces(connection)]
    if as_json:
        click.echo(render_json(rows))
        return
    cells = [[row[name] for name in ("workspaceId", "mode", "partition", "status", "name")] for row in rows]
    click.echo(render_table(("ID", "MODE", "PARTITION", "STATUS", "NAME"), cells))


def _outline(row: WorkspaceRow) -> dict[str, Any]:
    return {
        "workspaceId": row.workspace_id,
        "name": row.name,
        "mode": row.mode,
        "partition": row.partition,
        "status": "suspended" if row.is_suspended else "active",
        "operatorLimits": row.operator_limits,
        "storageMib": row.storage_mib,
        "storageUsedMib": row.storage_used_mib,
    }


@workspaces.command("suspend", epilog="Example: scrip workspaces suspend shop")
@click.argument("workspace")
@with_record
async def suspend(connection: asyncpg.Connection, workspace: str) -> None:
    """Refuse all requests of a workspace, within a second.

    They get 403 `workspace_suspended`, also those of its users and in the console. What it has stays; its events are
    recorded, its jobs and webhooks go on."""
    await workspace_rows.suspend_workspace(connection, await read_workspace_number(connection, workspace), True)
    click.echo(f"{workspace} is suspended. `scrip workspaces resume {workspace}` ends it.")


@workspaces.command("resume", epilog="Example: scrip workspaces resume shop")
@click.argument("workspace")
@with_record
async def resume(connection: asyncpg.Connection, workspace: str) -> None:
    """Serve a suspended workspace again, within a second."""
    await workspace_rows.suspend_workspace(connection, await read_workspace_number(connection, workspace), False)
    click.echo(f"{workspace} is served.")


@workspaces.command("limit", epilog="Example: scrip workspaces limit shop --requests-per-minute 6000")
@click.argument("workspace")
@click.option("--requests-per-minute", type=_LIMIT, help="Requests of each key.")
@click.option("--misses-per-minute", type=_LIMIT, help="Unknown or others' codes of each key.")
@click.option("--address-misses-per-minute", type=_LIMIT, help="The same, of each client address.")
@click.option("--live-locks", type=_LIMIT, help="Locks at a time of each key.")
@click.option("--off", is_flag=True, help="Remove these limits.")
@with_record
async def limit(connection: asyncpg.Connection, workspace: str, off: bool, **given: int | None) -> None:
    """Limit each key of a workspace, or show the limits.

    They hold within a second. The workspace's own limits may be lower; its keys can't set higher ones. An option that
    is not given stays as it is."""
    number = await read_workspace_number(connection, workspace)
    row = await workspace_rows.read_workspace(connection, number)
    new = {name: value for name, value in given.items() if value is not None}
    if off and new:
        raise click.UsageError("--off removes all limits: give no other.")
    if off or new:
        limits = None if off else msgspec.structs.replace(row.operator_limits or KeyLimits(), **new)
        row = await workspace_rows.set_operator_limits(connection, number, limits)
    for field in msgspec.structs.fields(KeyLimits):
        value = getattr(row.operator_limits or KeyLimits(), field.name)
        click.echo(f"{field.name.replace('_', ' ')}: {'no limit' if value is None else value}")


@workspaces.command("storage", epilog="Example: scrip workspaces storage shop 8192")
@click.argument("workspace")
@click.argument("mib", type=click.IntRange(1, MAX_INT), required=False)
@with_record
async def bound_storage(connection: asyncpg.Connection, workspace: str, mib: int | None) -> None:
    """Show a workspace's storage in Redis; set its bound.

    Without MIB it changes nothing. The worker counts the use every few seconds."""
    number = await read_workspace_number(connection, workspace)
    if mib is not None:
        await workspace_rows.change_storage_bound(connection, number, mib)
    row = await workspace_rows.read_workspace(connection, number)
    click.echo(f"{workspace} uses {row.storage_used_mib} of {row.storage_mib} MiB.")


@workspaces.command("sign-out", epilog="Example: scrip workspaces sign-out shop ada@shop.example")
@click.argument("workspace")
@click.argument("person")
@with_record
async def sign_out(connection: asyncpg.Connection, workspace: str, person: str) -> None:
    """Sign a person out of the console, by the name in the audit. After a second, no process accepts a session."""
    ended = await end_sessions_of(connection, await read_workspace_number(connection, workspace), person)
    click.echo(f"{count_noun(ended, 'session')} of {person} ended.")


@keys.command("create", epilog="Example: scrip keys create demo till --scope checkout --scope public")
@click.argument("workspace")
@click.argument("name")
@click.option(
    "--scope", "scopes", type=_SCOPES, multiple=True, required=True, help="A scope of the key; may be repeated."
)
@with_record
async def create_key(connection: asyncpg.Connection, workspace: str, name: str, scopes: tuple[str, ...]) -> None:
    """Create a key. Prints its secret, which is not shown again."""
    if not 1 <= len(name) <= 255 or not name.isprintable():
        raise click.ClickException("A name has 1 to 255 printable characters.")
    number = await read_workspace_number(connection, workspace)
    secret = key_rows.generate_secret((await workspace_rows.read_workspace(connection, number)).mode)
    try:
        await key_rows.create_key(connection, number, name, list(dict.fromkeys(scopes)), secret)
    except Refusal as refusal:
        raise click.ClickException(f"No key was created: {refusal.detail}") from None
    click.echo(secret)


@keys.command("list", epilog="Example: scrip keys list demo")
@click.argument("workspace")
@AS_JSON
@with_record
async def list_keys(connection: asyncpg.Connection, workspace: str, as_json: bool) -> None:
    """List a workspace's keys, newest first. SECRET is how a key's secret begins."""
    rows = await key_rows.page_keys(
        connection, await read_workspace_number(connection, workspace), key_rows.MAX_KEYS, None
    )
    if as_json:
        click.echo(render_json([_outline_key(row) for row in rows]))
        return
    cells = [
        (row.key_id, f"{row.prefix}…", ",".join(row.scopes), _format_time(row.last_used_at), row.name) for row in rows
    ]
    click.echo(render_table(("ID", "SECRET", "SCOPES", "LAST USED", "NAME"), cells))


def _outline_key(row: key_rows.KeyRow) -> dict[str, Any]:
    return {to_camel(name): value for name, value in msgspec.structs.asdict(row).items() if name != "position"}


def _read_key_id(_context: click.Context, _argument: click.Parameter, text: str) -> UUID:
    """Raises BadParameter, which does not quote the text: it may be a secret."""
    try:
        return UUID(text)
    except ValueError:
        raise click.BadParameter("must be the ID that `scrip keys list` shows, not the secret.") from None


@keys.command("revoke", epilog="Example: scrip keys revoke demo 01980000-0000-7000-8000-000000000001")
@click.argument("workspace")
@click.argument("key_id", callback=_read_key_id)
@with_record
async def revoke_key(connection: asyncpg.Connection, workspace: str, key_id: UUID) -> None:
    """Revoke a key. After a second, no process accepts it."""
    if not await key_rows.revoke_key(connection, await read_workspace_number(connection, workspace), key_id):
        raise click.ClickException(f"{workspace} has no such key. `scrip keys list {workspace}` shows all.")
    click.echo("Revoked.")


async def read_workspace_number(connection: asyncpg.Connection, workspace: str) -> int:
    """Return the inner number of the workspace with this name. Raises ClickException."""
    number = await workspace_rows.workspace_named(connection, workspace)
    if number is None:
        raise click.ClickException(f"There is no workspace {workspace}. `scrip workspaces list` shows all.")
    return number


def _format_time(time: datetime | None) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC" if time else "never"
