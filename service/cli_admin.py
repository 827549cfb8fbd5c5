"""Commands that make workspaces and keys."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import asyncpg

_SCOPES = click.Choice(["public", "checkout", "manage", "operate"])


@click.group()
def workspaces() -> None:
    """Make workspaces."""


@click.group()
def keys() -> None:
    """Make API keys."""


@workspaces.command("create")
@click.argument("name")
@click.option("--test", is_flag=True, help="A workspace for tests, whose clock can be set.")
def create_workspace(name: str, test: bool) -> None:
    """Make a workspace."""
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise click.ClickException("A name has 1 to 100 printable characters.")

    async def make(connection: "asyncpg.Connection") -> str:
        from service.domain.errors import Refusal
        from service.record import workspaces as record

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


@keys.command("create")
@click.argument("workspace")
@click.argument("name")
@click.option("--scope", "scopes", type=_SCOPES, multiple=True, required=True, help="May be given several times.")
def create_key(workspace: str, name: str, scopes: tuple[str, ...]) -> None:
    """Make a key of a workspace, and say its secret, this once."""
    if not 1 <= len(name) <= 255 or not name.isprintable():
        raise click.ClickException("A name has 1 to 255 printable characters.")

    async def make(connection: "asyncpg.Connection") -> str:
        from service.record import keys as record
        from service.record.workspaces import read_workspace, workspace_named

        number = await workspace_named(connection, workspace)
        if number is None:
            raise click.ClickException(f"There is no workspace {workspace}.")
        secret = record.new_secret((await read_workspace(connection, number)).mode)
        await record.create_key(connection, number, name, list(dict.fromkeys(scopes)), secret)
        return secret

    click.echo(asyncio.run(_connected(make)))


async def _connected(make: "Callable[[asyncpg.Connection], Awaitable[str]]") -> str:
    """What `make` says, with a connection to the database of the settings."""
    import asyncpg

    from service import config
    from service.record.partitions import ensure_partitions

    settings = config.load()
    if settings.database_url is None:
        raise click.ClickException("DATABASE_URL is not set.")
    try:
        connection = await asyncpg.connect(settings.database_url)
        try:
            await ensure_partitions(connection, settings.partitions)
            return await make(connection)
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise click.ClickException(f"The database can't be used: {error}") from error
