"""Connections to Postgres: which servers are fit, and which errors mean that Postgres is away."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import asyncpg
import pytest

from service.cli.failures import explain
from service.engine.record.pool import UnfitDatabase, connect, connect_with_retries, is_away, lacks_tls


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("synchronous_commit = off", "synchronous_commit is off"),
        ("default_transaction_read_only = on", "default_transaction_read_only"),
    ],
)
async def test_a_postgres_that_may_forget_is_unfit(database_url: str, setting: str, reason: str):
    """A server that answers commits before they are on disk, or takes none, is rejected at the start."""
    connection = await asyncpg.connect(database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET {setting}")
    await connection.close()
    with pytest.raises(UnfitDatabase, match=reason):
        await connect(database_url)


async def test_errors_that_mean_postgres_is_away(pool: asyncpg.Pool):
    """A broken, refused or closed connection means that Postgres is away; an invalid statement does not."""

    async def away(doing: Awaitable[Any]) -> bool:
        with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)) as failed:
            await doing
        return is_away(failed.value)

    assert not await away(pool.execute("SELECT * FROM nothing"))
    assert await away(pool.execute("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert await away(connect("postgresql://nobody@127.0.0.1:1/none"))
    pool.terminate()
    assert await away(pool.execute("SELECT 1"))


async def test_a_login_that_is_refused(database_url: str):
    """A running process treats it as an outage, as a password may be changed; one that starts does not wait."""
    url = database_url.replace("postgres@", "nobody@")
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError) as refused:
        await connect_with_retries(url)
    assert is_away(refused.value)


async def test_a_server_without_tls():
    """A process that starts does not wait for TLS that `sslmode` demands and the server lacks."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ConnectionError) as refused:
            await connect_with_retries(f"postgresql://a@127.0.0.1:{port}/a?sslmode=require")
    assert lacks_tls(refused.value)
    assert "sslmode" in str(explain(refused.value))
