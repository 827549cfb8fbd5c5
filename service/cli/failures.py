"""What ends a command with one line instead of a traceback: what a user can mend in the settings or the servers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import asyncpg

    from service.common.config import Settings


class Unusable(click.ClickException):
    """The servers or the settings can't be used as they are; the message begins with a stable code."""

    exit_code = 2


class Commands(click.Group):
    """Commands that end with Unusable where the settings and the servers don't fit together."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. Raises Unusable, and what is no fault of the settings or the servers as it is."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if (message := _explain(error)) is None:
                raise
            raise Unusable(message) from error


def _explain(error: Exception) -> str | None:
    """The line that says what is wrong and what to do; None where only a traceback helps."""
    import asyncpg

    from service.record.partitions.partition_rows import UnusableRecord
    from service.record.pool import UnfitDatabase

    if isinstance(error, UnusableRecord):
        return f"{error.code}: {error}"
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.UndefinedColumnError | asyncpg.UndefinedFunctionError):
        return f"not_migrated: the database lacks something that this version needs ({error}). Run `scrip migrate`."
    if isinstance(error, UnfitDatabase):
        return f"unfit: {error}"
    refused = asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidCatalogNameError
    if isinstance(error, refused | asyncpg.InsufficientPrivilegeError | asyncpg.ClientConfigurationError):
        return f"unavailable: the database refuses us ({error}). See that DATABASE_URL is right."
    return None


@asynccontextmanager
async def record_of(settings: "Settings") -> "AsyncIterator[asyncpg.Connection]":
    """A connection to the database of the settings, once it is clear that they fit together. Raises Unusable."""
    import asyncpg

    from service.record.partitions.partition_rows import check_partitions

    if settings.database_url is None:
        raise Unusable("unset: DATABASE_URL is not set. Say which database the record is in.")
    try:
        connection = await asyncpg.connect(settings.database_url)
    except OSError as error:
        raise Unusable(f"unavailable: the database can't be reached ({error}). See that it runs.") from error
    try:
        await check_partitions(connection, settings.partitions)
        yield connection
    except (ConnectionResetError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
        raise Unusable(f"unavailable: the connection to the database broke ({error}).") from error
    finally:
        await connection.close()


async def check_record(settings: "Settings") -> None:
    """Wait for the database as a process that starts does. Raises UnusableRecord where the settings don't fit it."""
    from service.record.partitions.partition_rows import check_partitions
    from service.record.pool import connect_when_there

    if settings.database_url is None:
        return
    pool = await connect_when_there(settings.database_url, name="scrip start", min_size=1, max_size=1)
    try:
        await check_partitions(pool, settings.partitions)
    finally:
        await pool.close()
