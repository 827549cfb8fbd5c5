"""Connections to Postgres: which servers are fit, and what it means that one is away."""

from collections.abc import Awaitable
from typing import Any

import asyncpg
import pytest

from service.record.pool import UnfitDatabase, connect, is_away


async def test_a_postgres_that_may_forget_is_unfit(new_database, database_url: str):
    """A server that answers commits before they are on disk is refused at the start."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "DO $$ BEGIN EXECUTE 'ALTER DATABASE ' || current_database() || ' SET synchronous_commit = off'; END $$"
    )
    await connection.close()
    with pytest.raises(UnfitDatabase, match="synchronous_commit is off"):
        await connect(database_url)


async def test_a_postgres_that_is_away_is_told_from_a_wrong_statement(pool: asyncpg.Pool):
    """Where a connection breaks, can't be made or is closed, Postgres is away; where a statement is wrong, it isn't."""

    async def away(doing: Awaitable[Any]) -> bool:
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)) as failed:
            await doing
        return is_away(failed.value)

    assert not await away(pool.execute("SELECT * FROM nothing"))
    assert await away(pool.execute("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert await away(connect("postgresql://nobody@127.0.0.1:1/none"))
    pool.terminate()
    assert await away(pool.execute("SELECT 1"))
