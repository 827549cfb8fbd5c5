"""`scrip workspaces` and `scrip keys`: create, list and revoke."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from service.cli.failures import Commands, connect_to_record

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

_SCOPES = click.Choice(["public", "checkout", "manage", "operate"])


@click.group(cls=Commands)
def workspaces() -> None:
    """Create and list workspaces."""


@click.group(cls=Commands)
def keys() -> None:
    """Create, list and revoke API keys."""


@workspaces.command("create")
@click.argument("name")
@click.option("--test", is_flag=True, help="Create a test workspace, whose clock can be set.")
def create_workspace(name: str, test: bool) -> None:
    """Create a workspace and print its id."""
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise click.ClickException("A name has 1 to 100 printable characters.")

    async def create(connection: "asyncpg.Connection") -> str:
        from service.common import config
        from service.domain.errors import Refusal
        from service.record.config import workspace_rows as record
        from service.record.partitions.partition_rows import ensure_partitions

        await ensure_partitions(connection, config.load().partitions)
        try:
            row = await record.create_workspace(connection, name, "test" if test else "live")
        except record.NameTaken:
            raise click.ClickException(f"There is a workspace {name} already.") from None
        except Refusal:
            raise click.ClickException(
                "Postgres has restarted, and no worker has compared it with Redis yet. Start `scrip worker`, and retry."
            ) from None
        return str(row.workspace_id)

    click.echo(asyncio.run(_run_with_connection(create)))


@workspaces.command("list")
def list_workspaces() -> None:
    """List all workspaces: name, `live` or `test`, id."""

    async def read(connection: "asyncpg.Connection") -> str:
        from service.record.config.workspace_rows import all_workspaces

        return "\n".join(f"{row.name}\t{row.mode}\t{row.workspace_id}" for row in await all_workspaces(connection))

    click.echo(asyncio.run(_run_with_connection(read)))


@keys.command("create")
@click.argument("workspace")
@click.argument("name")
@click.option(
    "--scope", "scopes", type=_SCOPES, multiple=True, required=True, help="A scope of the key; may be repeated."
)
def create_key(workspace: str, name: str, scopes: tuple[str, ...]) -> None:
    """Create a key. Prints its secret, which is not shown again."""
    if not 1 <= len(name) <= 255 or not name.isprintable():
        raise click.ClickException("A name has 1 to 255 printable characters.")

    async def create(connection: "asyncpg.Connection") -> str:
        from service.domain.errors import Refusal
        from service.record.config import key_rows as record
        from service.record.config.workspace_rows import read_workspace

        number = await _read_workspace_number(connection, workspace)
        secret = record.generate_secret((await read_workspace(connection, number)).mode)
        try:
            await record.create_key(connection, number, name, list(dict.fromkeys(scopes)), secret)
        except Refusal as refusal:
            raise click.ClickException(f"No key was created: {refusal.detail}.") from None
        return secret

    click.echo(asyncio.run(_run_with_connection(create)))


@keys.command("list")
@click.argument("workspace")
def list_keys(workspace: str) -> None:
    """List a workspace's keys, newest first.

    The columns are id, first characters of the secret, scopes, last use, name.
    """

    async def read(connection: "asyncpg.Connection") -> str:
        from service.record.config.key_rows import MAX_KEYS, page_keys

        rows = await page_keys(connection, await _read_workspace_number(connection, workspace), MAX_KEYS, None)
        return "\n".join(
            f"{row.key_id}\t{row.prefix}…\t{','.join(row.scopes)}\t{row.last_used_at or 'never'}\t{row.name}"
            for row in rows
        )

    click.echo(asyncio.run(_run_with_connection(read)))


@keys.command("revoke")
@click.argument("workspace")
@click.argument("key_id", type=click.UUID)
def revoke_key(workspace: str, key_id: "UUID") -> None:
    """Revoke a key. After a second, no process accepts it."""

    async def revoke(connection: "asyncpg.Connection") -> str:
        from service.record.config import key_rows as record

        if not await record.revoke_key(connection, await _read_workspace_number(connection, workspace), key_id):
            raise click.ClickException(f"{workspace} has no such key.")
        return "Revoked."

    click.echo(asyncio.run(_run_with_connection(revoke)))


async def _read_workspace_number(connection: "asyncpg.Connection", workspace: str) -> int:
    """Return the inner number of the workspace with this name. Raises ClickException."""
    from service.record.config.workspace_rows import workspace_named

    number = await workspace_named(connection, workspace)
    if number is None:
        raise click.ClickException(f"There is no workspace {workspace}.")
    return number


async def _run_with_connection(work: "Callable[[asyncpg.Connection], Awaitable[str]]") -> str:
    """Return the result of `work`, called with a connection to the database of the settings. Raises Unusable."""
    from service.access.actor import Actor, current_actor
    from service.common import config

    async with connect_to_record(config.load()) as connection:
        current_actor.set(Actor("command"))
        return await work(connection)
