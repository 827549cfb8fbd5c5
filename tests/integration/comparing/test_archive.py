"""The archive of Postgres's WAL, as workers and doctor see it."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from service.engine.record.pool import connect_once
from service.engine.record.server_state import ServerState, read_server_state
from service.server.embedded.postgres import Postgres
from tests.harness.running import data_folder
from tests.harness.waiting import wait_until


@pytest.fixture
async def archiving() -> AsyncIterator[tuple[asyncpg.Connection, Path]]:
    """A Postgres whose archive_command hangs while a file exists."""
    with data_folder() as folder:
        postgres, hold = Postgres(folder), folder / "hold"
        command = f"while test -f {hold}; do sleep 0.1; done"
        postgres.child.argv += ["-c", "archive_mode=on", "-c", f"archive_command={command}"]
        await postgres.start()
        try:
            connection = await connect_once(postgres.url)
            yield connection, hold
            await connection.close()
        finally:
            hold.unlink(missing_ok=True)  # a server that stops waits for its archiver
            await postgres.stop()


async def test_a_command_that_hangs(archiving: tuple[asyncpg.Connection, Path]) -> None:
    """A command that hangs fails nothing, but a finished file waits: after five minutes that is a failure. It ends with
    the next file that is archived."""
    connection, hold = archiving

    async def finish_file() -> None:
        await connection.execute("CREATE TABLE IF NOT EXISTS things (); DROP TABLE things")
        await connection.execute("SELECT pg_switch_wal()")

    async def state() -> ServerState:
        return await read_server_state(connection, timedelta(0))

    async def is_archived() -> bool:
        now = await state()
        return now.archived_at is not None and not now.archive_waits

    assert not (await state()).archive_waits
    await finish_file()
    await wait_until(is_archived)
    await connection.execute("CREATE TABLE things ()")
    assert not (await state()).archive_waits  # an unfinished file does not wait
    hold.touch()
    await finish_file()
    hangs = await state()
    assert (hangs.archive_waits, hangs.archive_fails, hangs.archive_failed) == (True, True, False)
    assert not (await read_server_state(connection)).archive_fails  # not yet for five minutes
    hold.unlink()
    await wait_until(is_archived)
