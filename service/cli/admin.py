"""`scrip workspaces` and `scrip keys`: create, list, revoke. main.py loads it. Scripts read the columns: keep them."""

from datetime import datetime
from uuid import UUID

import asyncpg
import click

from service.cli.failures import with_record
from service.cli.partitions import PARTITION
from service.cli.tables import render_table
from service.common.plurals import count_noun
from service.engine.domain.errors import Refusal
from service.engine.domain.field_types import MAX_INT
from service.engine.operations.caller import SCOPES
from service.server.record import key_rows, workspace_rows
from service.server.record.console_sessions import end_sessions_of

_SCOPES = click.Choice(SCOPES)


@click.group(epilog="Example: scrip workspaces list")
def workspaces() -> None:
    """Create, list and bound workspaces; sign people out."""


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


@workspaces.command("list", epilog="Example: scrip workspaces list")
@with_record
async def list_workspaces(connection: asyncpg.Connection) -> None:
    """List all workspaces. A test workspace has a clock that can be set."""
    rows = [(row.workspace_id, row.mode, row.name) for row in await workspace_rows.all_workspaces(connection)]
    click.echo(render_table(("ID", "MODE", "NAME"), rows))


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
@with_record
async def list_keys(connection: asyncpg.Connection, workspace: str) -> None:
    """List a workspace's keys, newest first. SECRET is how a key's secret begins."""
    rows = await key_rows.page_keys(
        connection, await read_workspace_number(connection, workspace), key_rows.MAX_KEYS, None
    )
    cells = [
        (row.key_id, f"{row.prefix}…", ",".join(row.scopes), _format_time(row.last_used_at), row.name) for row in rows
    ]
    click.echo(render_table(("ID", "SECRET", "SCOPES", "LAST USED", "NAME"), cells))


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
