"""Commands where the settings and the servers don't fit together: one line, a code, and nothing changed."""

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from loadtests.harness.running import data_folder
from loadtests.harness.servers import free_port
from service.record.partitions.partition_rows import ensure_partitions
from tests.commands import scrip

_KEY = "00000000-0000-7000-8000-000000000000"
_COMMANDS = (
    "rebuild", "rebuild --cancel", "rebuild --into redis://127.0.0.1:1/0", "reconcile", "reconcile --repair",
    "workspaces create shop", "workspaces list", "keys create demo till --scope public", "keys list demo",
    f"keys revoke demo {_KEY}", "worker", "api", "run",
)  # fmt: skip
_WAITING = {"worker", "api"}
"""Those that wait for a server that is away."""
_SERVING = {*_WAITING, "run"}
"""Those that take signals, which a process's main thread alone may."""


Command = Callable[..., tuple[int | None, str]]
"""What a command ends with: its code, and all that it wrote."""


@pytest.fixture
def command(valkey_url: str) -> Command:
    """Run a command on a database with these settings."""

    def run(words: str, database_url: str, **settings: str) -> tuple[int | None, str]:
        with data_folder() as folder:
            servers = {"DATABASE_URL": database_url, "REDIS_URL": valkey_url, "SCRIP_PORT": str(free_port())}
            env = servers | {"SCRIP_DATA_DIR": str(folder / "data")} | settings
            if words not in _SERVING:
                ended = scrip(*words.split(), **env)
                return ended.exit_code, ended.output
            whole = [sys.executable, "-m", "service", words]
            done = subprocess.run(
                whole, check=False, env=os.environ | env, capture_output=True, text=True, timeout=60
            )  # fmt: skip
            return done.returncode, done.stdout + done.stderr

    return run


async def _tables(url: str) -> dict[str, list[Any]]:
    """All rows of all tables."""
    connection = await asyncpg.connect(url)
    try:
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return {name: await connection.fetch(f'SELECT * FROM "{name}"') for (name,) in names}
    finally:
        await connection.close()


def _line(done: tuple[int | None, str], code: str) -> str:
    """The one line that a command ends with."""
    status, output = done
    assert status == 2, output
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if "Error: " in line]
    assert line.startswith(f"Error: {code}: "), line
    return line


@pytest.mark.parametrize("words", _COMMANDS)
async def test_another_number_of_partitions(
    words: str, command: Command, database_url: str, redis: Redis, tmp_path: Path
) -> None:
    """Every command that the number matters to refuses another than the database's, and changes neither store."""
    connection = await asyncpg.connect(database_url)
    await ensure_partitions(connection, 4)
    await connection.close()
    before = await _tables(database_url)
    line = _line(command(words, database_url, SCRIP_PARTITIONS="2"), "wrong_partitions")
    assert "set SCRIP_PARTITIONS=4" in line
    assert await _tables(database_url) == before
    assert await redis.dbsize() == 0


@pytest.mark.parametrize("words", [words for words in _COMMANDS if words != "run"])
async def test_a_database_without_tables(
    words: str, command: Command, new_database: Callable[..., Awaitable[str]]
) -> None:
    """A database without tables is left so, and the line says what makes them."""
    url = await new_database()
    assert "Run `scrip migrate`" in _line(command(words, url), "not_migrated")
    assert await _tables(url) == {}


@pytest.mark.parametrize("words", [*(words for words in _COMMANDS if words not in _SERVING), "migrate"])
def test_no_postgres(words: str, command: Command) -> None:
    """Without a Postgres a command says so; no line has the password."""
    done = command(words, "postgresql://user:hidden-pw@127.0.0.1:1/scrip")
    assert "hidden-pw" not in _line(done, "unavailable")


@pytest.mark.parametrize("words", ["rebuild", "reconcile", "workspaces list", "worker", "api", "migrate"])
@pytest.mark.parametrize(("part", "unknown"), [("postgres@", "stranger:hidden-pw@"), ("/test_", "/missing_")])
async def test_postgres_refuses_us(words: str, part: str, unknown: str, command: Command, database_url: str) -> None:
    """An unknown role or database ends a command with Postgres's reason, also one that waits for servers to start."""
    url = database_url.replace(part, unknown)
    assert url != database_url
    assert "hidden-pw" not in _line(command(words, url), "unavailable")


@pytest.mark.parametrize("words", ["rebuild", "doctor", "worker", "run"])
def test_a_port_that_is_none(words: str, command: Command) -> None:
    """A URL whose port no server can have is a setting that can't be used."""
    status, output = command(words, "postgresql://user:hidden-pw@127.0.0.1:99999/scrip")
    assert status == (1 if words == "doctor" else 2), output
    assert "DATABASE_URL must name ports up to 65535" in output
    assert "hidden-pw" not in output
    assert "Traceback" not in output
