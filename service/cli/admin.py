"""Commands that make and list workspaces and keys, and revoke keys."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

from service.cli.failures import Commands, record_of

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

_SCOPES = click.Choice(["public", "checkout", "manage", "operate"])


@click.group(cls=Commands)
def workspaces() -> None:
    """Make and list workspaces."""


@click.group(cls=Commands)
def keys() -> None:
    """Make, list and revoke API keys."""


@workspaces.command("create")
@click.argument("name")
@click.option("--test", is_flag=True, help="A workspace for tests, whose clock can be set.")
def create_workspace(name: str, test: bool) -> None:
    """Make a workspace."""
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise click.ClickException("A name has 1 to 100 printable characters.")

    async def make(connection: "asyncpg.Connection") -> str:
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
                "Postgres was started since a worker last compared it with Redis: start scrip worker, and try again."
            ) from None
        return str(row.workspace_id)

    click.echo(asyncio.run(_connected(make)))


@workspaces.command("list")
def list_workspaces() -> None:
    """Say which workspaces there are: name, live or test, id."""

    async def read(connection: "asyncpg.Connection") -> str:
        from service.record.config.workspace_rows import all_workspaces

        return "\n".join(f"{row.name}\t{row.mode}\t{row.workspace_id}" for row in await all_workspaces(connection))

    click.echo(asyncio.run(_connected(read)))


@keys.command("create")
@click.argument("workspace")
@click.argument("name")
@click.option("--scope", "scopes", type=_SCOPES, multiple=True, required=True, help="May be given several times.")
def create_key(workspace: str, name: str, scopes: tuple[str, ...]) -> None:
    """Make a key of a workspace, and say its secret, this once."""
    if not 1 <= len(name) <= 255 or not name.isprintable():
        raise click.ClickException("A name has 1 to 255 printable characters.")

    async def make(connection: "asyncpg.Connection") -> str:
        from service.domain.errors import Refusal
        from service.record.config import key_rows as record
        from service.record.config.workspace_rows import read_workspace

        number = await _number_of(connection, workspace)
        secret = record.generate_secret((await read_workspace(connection, number)).mode)
        try:
            await record.create_key(connection, number, name, list(dict.fromkeys(scopes)), secret)
        except Refusal as refusal:
            raise click.ClickException(f"No key was made: {refusal.detail}.") from None
        return secret

    click.echo(asyncio.run(_connected(make)))


@keys.command("list")
@click.argument("workspace")
def list_keys(workspace: str) -> None:
    """Say which keys a workspace has, newest first: id, what it begins with, scopes, when it was used last, name."""

    async def read(connection: "asyncpg.Connection") -> str:
        from service.record.config.key_rows import MAX_KEYS, page_keys

        rows = await page_keys(connection, await _number_of(connection, workspace), MAX_KEYS, None)
        return "\n".join(
            f"{row.key_id}\t{row.prefix}…\t{','.join(row.scopes)}\t{row.last_used_at or 'never'}\t{row.name}"
            for row in rows
        )

    click.echo(asyncio.run(_connected(read)))


@keys.command("revoke")
@click.argument("workspace")
@click.argument("key_id", type=click.UUID)
def revoke_key(workspace: str, key_id: "UUID") -> None:
    """Take a key of a workspace back; a second later no process takes it any more."""

    async def revoke(connection: "asyncpg.Connection") -> str:
        from service.record.config import key_rows as record

        if not await record.revoke_key(connection, await _number_of(connection, workspace), key_id):
            raise click.ClickException(f"{workspace} has no such key.")
        return "Revoked."

    click.echo(asyncio.run(_connected(revoke)))


async def _number_of(connection: "asyncpg.Connection", workspace: str) -> int:
    """A workspace's inner number, by its name. Raises ClickException."""
    from service.record.config.workspace_rows import workspace_named

    number = await workspace_named(connection, workspace)
    if number is None:
        raise click.ClickException(f"There is no workspace {workspace}.")
    return number


async def _connected(make: "Callable[[asyncpg.Connection], Awaitable[str]]") -> str:
    """What `make` returns, with a connection to the database of the settings. Raises Unusable."""
    from service.access.actor import Actor, current_actor
    from service.common import config

    async with record_of(config.load()) as connection:
        current_actor.set(Actor("command"))
        return await make(connection)
