"""Commands with wrong settings or servers end with one line and a code, and change nothing."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.engine.record import pool
from service.engine.record.partitions.failing_tasks import read_failing
from tests.harness.commands import scrip
from tests.harness.running import data_folder
from tests.harness.servers import free_port
from tests.harness.service_fixture import database
from tests.harness.waiting import PATIENCE_S, wait_until

_KEY = "00000000-0000-7000-8000-000000000000"
_COMMANDS = (
    "rebuild", "rebuild --cancel", "reconcile", "reconcile --repair",
    "partitions", "recover", "reports", "workspaces create shop", "workspaces list",
    "keys create demo till --scope public", "keys list demo", f"keys revoke demo {_KEY}", "worker", "api", "run",
)  # fmt: skip
_WAITING = {"worker", "api"}
"""Commands that wait for a server that is away."""
_SERVING = {*_WAITING, "run"}
"""Commands that handle signals, and so need a process of their own."""


Command = Callable[..., tuple[int | None, str]]
"""Run a command; return its exit code and output."""


@pytest.fixture
def command(valkey_url: str) -> Command:
    """Make the function that runs a command with a database and settings."""

    def run(arguments: str, database_url: str, **settings: str) -> tuple[int | None, str]:
        with data_folder() as folder:
            servers = {"DATABASE_URL": database_url, "REDIS_URL": valkey_url, "SCRIP_PORT": str(free_port())}
            env = servers | {"SCRIP_DATA_DIR": str(folder / "data")} | settings
            words = arguments.split()
            if words[0] not in _SERVING:
                ended = scrip(*words, **env)
                return ended.exit_code, ended.output
            command = [sys.executable, "-m", "service", *words]
            done = subprocess.run(
                command, env=os.environ | env, capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
            return done.returncode, done.stdout + done.stderr

    return run


async def _tables(url: str) -> dict[str, list[Any]]:
    async with database(url) as connection:
        names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return {name: await connection.fetch(f'SELECT * FROM "{name}"') for (name,) in names}


def _line(done: tuple[int | None, str], code: str) -> str:
    """Check the exit code and the error's code; return the only line with an error."""
    status, output = done
    assert status == 2, output
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if "Error: " in line]
    assert line.startswith(f"Error: {code}: "), line
    return line


async def test_the_number_of_partitions(command: Command, new_database: Callable[..., Awaitable[str]]) -> None:
    """A new database gets the number that `scrip migrate` names, else 16; later another is refused at once."""
    for options, number in (("--partitions 4", 4), ("", 16)):
        url = await new_database()
        assert command(f"migrate {options}", url)[0] == 0
        before = await _tables(url)
        for words in ("migrate --partitions 3", "migrate --roles --partitions 3", "run --partitions 3"):
            line = _line(command(words, url), "wrong_partitions")
            assert f"has {number} partitions, not 3. " in line
            assert "leave --partitions out" in line
        assert await _tables(url) == before
        assert command(f"migrate --partitions {number}", url)[0] == 0
        assert len(before["partitions"]) == number


async def test_a_database_without_partitions(command: Command, database_url: str) -> None:
    """A database that `scrip migrate` has not given partitions is not migrated."""
    assert "Run `scrip migrate`" in _line(command("worker", database_url), "not_migrated")


def test_a_password_without_roles(command: Command, database_url: str) -> None:
    """It would be ignored."""
    for words, env in (("--api-password a", {}), ("", {"SCRIP_WORKER_PASSWORD": "b"})):
        status, output = command(f"migrate {words}", database_url, **env)
        assert (status, "need --roles" in output) == (2, True), output


def test_a_secret_in_place_of_an_id(command: Command, database_url: str) -> None:
    """`scrip keys revoke` takes an id, and quotes no secret."""
    status, output = command("keys revoke demo sk_live_verysecret", database_url)
    assert (status, "`scrip keys list`" in output, "verysecret" in output) == (2, True, False), output


def test_a_bad_password(command: Command, database_url: str) -> None:
    """A password of a role is in ASCII, and comes from an option or its variable; the error does not quote it."""
    for words, env in (("--worker-password gehör", {}), ("", {"SCRIP_WORKER_PASSWORD": "gehör"})):
        status, output = command(f"migrate --roles {words}", database_url, **env)
        assert (status, "--worker-password" in output, "gehör" in output) == (2, True, False), output


@pytest.mark.parametrize("arguments", [arguments for arguments in _COMMANDS if arguments != "run"])
async def test_a_database_without_tables(
    arguments: str, command: Command, new_database: Callable[..., Awaitable[str]]
) -> None:
    """On a database without tables a command names `scrip migrate`, and makes none."""
    url = await new_database()
    assert "Run `scrip migrate`" in _line(command(arguments, url), "not_migrated")
    assert await _tables(url) == {}


@pytest.mark.parametrize("arguments", [*(arguments for arguments in _COMMANDS if arguments not in _SERVING), "migrate"])
def test_postgres_is_away(arguments: str, command: Command) -> None:
    """Without Postgres a command ends with `unavailable`; no line has the password."""
    done = command(arguments, "postgresql://user:hidden-pw@127.0.0.1:1/scrip")
    assert "hidden-pw" not in _line(done, "unavailable")


async def test_redis_is_away(command: Command, new_database: Callable[..., Awaitable[str]]) -> None:
    """Without Redis a command that reads it ends with `unavailable`."""
    url = await new_database()
    assert command("migrate --partitions 1", url)[0] == 0
    async with database(url) as connection:
        await connection.execute("UPDATE partitions SET state = 'open', epoch = 1, cursor_epoch = 1, nonce = 'n'")
    assert command("workspaces create shop", url)[0] == 0
    for arguments in ("recover --partition 0", "reconcile"):
        assert "`scrip doctor`" in _line(command(arguments, url, REDIS_URL="redis://127.0.0.1:1/0"), "unavailable")


async def test_a_pooler_without_postgres(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts connections, and does not answer, is away."""
    monkeypatch.setattr(pool, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://user@127.0.0.1:{silent.getsockname()[1]}/scrip"
        for arguments in ("workspaces list", "migrate", "reports"):
            assert "no answer in time" in _line(command(arguments, url), "unavailable")


async def test_a_worker_without_redis(command: Command, new_database: Callable[..., Awaitable[str]]) -> None:
    """It takes no lease, which others could use, and logs once why. SIGTERM ends it at once."""
    url = await new_database()
    assert command("migrate --partitions 1", url)[0] == 0
    env = os.environ | {"DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:1/0"}
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "service", "worker", env=env, stderr=subprocess.PIPE
    )
    assert worker.stderr
    _, line = [json.loads(await worker.stderr.readline()) for _ in range(2)]
    assert (line["event"], line["task"], line["reason"]) == ("task_failed", "reaching", "RedisNotReached")
    assert "partitions 0: 127.0.0.1:1: " in line["exception"]
    async with database(url) as connection:
        assert await connection.fetchval("SELECT lease_holder FROM partitions") is None

        async def is_stored() -> bool:
            return [one.task for one in await read_failing(connection, 0)] == ["reaching"]

        await wait_until(is_stored, "the failure in Postgres, which is stored after the line")
        worker.terminate()
        assert (await worker.communicate())[1] == b""
        assert worker.returncode == 0
        assert await read_failing(connection, 0) == []


@pytest.mark.parametrize(("processes", "name"), [("1", "api"), ("2", "api supervisor")])
def test_a_signal_ends_the_wait_for_postgres(processes: str, name: str) -> None:
    """SIGTERM ends an API that waits for Postgres with 0. Until then it logs JSON to stderr, with its name."""
    servers = {"DATABASE_URL": "postgresql://user@127.0.0.1:1/scrip", "REDIS_URL": "redis://127.0.0.1:1/0"}
    env = os.environ | servers | {"SCRIP_API_PROCESSES": processes}
    with subprocess.Popen([sys.executable, "-m", "service", "api"], env=env, stderr=subprocess.PIPE) as api:
        assert api.stderr
        line = json.loads(api.stderr.readline())
        api.terminate()
        assert api.wait(PATIENCE_S) == 0
    assert (line["event"], line["process"]) == ("waiting_for_postgres", name)


def test_a_signal_in_a_destructor_ends_a_start() -> None:
    """Python drops what a signal's handler raises while an object is deleted: the process would go on."""
    program = (
        "import os, signal; from service.cli.process_commands import _end_at_signals; _end_at_signals()\n"
        "class Deleted:\n    def __del__(self):\n        os.kill(os.getpid(), signal.SIGTERM); str()\n"
        "Deleted(); raise SystemExit(3)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=PATIENCE_S, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize("arguments", ["rebuild", "worker", "api", "migrate"])
@pytest.mark.parametrize(("part", "unknown"), [("postgres@", "stranger:hidden-pw@"), ("/test_", "/missing_")])
async def test_postgres_refuses_the_login(
    arguments: str, part: str, unknown: str, command: Command, database_url: str
) -> None:
    """An unknown role or database ends a command, also one that waits for servers to start."""
    url = database_url.replace(part, unknown)
    assert url != database_url
    assert "hidden-pw" not in _line(command(arguments, url), "unavailable")


@pytest.mark.parametrize("arguments", ["rebuild", "worker", "api", "workspaces list"])
@pytest.mark.parametrize("parameter", ["sslmod=require", "max_connections=9", "statement_timeout=soon"])
def test_postgres_refuses_a_parameter(arguments: str, parameter: str, command: Command, database_url: str) -> None:
    """A parameter of DATABASE_URL that Postgres does not know, or can't set for a session, ends a command."""
    url = database_url + ("&" if "?" in database_url else "?") + parameter
    assert "DATABASE_URL" in _line(command(arguments, url), "unavailable")


@pytest.mark.parametrize("process", ["api", "worker"])
async def test_redis_refuses_the_login(
    process: str, command: Command, new_database: Callable[..., Awaitable[str]], valkey_url: str
) -> None:
    """A process that Redis refuses ends; a worker takes no lease from others before."""
    url = await new_database()
    assert command("migrate --partitions 1", url)[0] == 0
    before = await _tables(url)
    line = _line(command(process, url, REDIS_URL=valkey_url.replace("://", "://stranger:hidden-pw@")), "unavailable")
    assert ("REDIS_URL" in line, "hidden-pw" in line) == (True, False), line
    assert await _tables(url) == before


async def test_a_database_that_is_read_only(command: Command, new_database: Callable[..., Awaitable[str]]) -> None:
    """A command that finds a replica, or a database that is read only, names the setting."""
    url = await new_database()
    assert command("migrate --partitions 1", url)[0] == 0
    url += ("&" if "?" in url else "?") + "default_transaction_read_only=on"
    assert "Name the primary in DATABASE_URL" in _line(command("workspaces create shop", url), "unfit")


@pytest.mark.parametrize("arguments", ["rebuild", "doctor", "worker", "run"])
def test_a_bad_port(arguments: str, command: Command) -> None:
    """A URL with a port above 65535 is a bad setting."""
    status, output = command(arguments, "postgresql://user:hidden-pw@127.0.0.1:99999/scrip")
    assert status == 2, output
    assert "DATABASE_URL must name ports up to 65535" in output
    assert "hidden-pw" not in output
    assert "Traceback" not in output
