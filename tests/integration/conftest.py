"""A Postgres and a Valkey for the whole run, and new databases."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.engine.record.sessions import BOUNDS_S
from service.server.embedded.postgres import Postgres
from service.server.embedded.valkey import Valkey
from service.server.tasks import job_runner
from tests.harness.running import data_folder, migrate
from tests.harness.service_fixture import database
from tests.integration.opening.fleet import fleet
from tests.integration.opening.opening_fixtures import older, setup
from tests.integration.recording.flush_fixtures import make_flusher, shop
from tests.integration.recording.record_fixtures import kept, partitions, pool, workspace
from tests.integration.webhooks.webhook_fixtures import office, receiver

__all__ = [
    "fleet",
    "kept",
    "make_flusher",
    "office",
    "older",
    "partitions",
    "pool",
    "receiver",
    "setup",
    "shop",
    "workspace",
]
"""Fixtures of several files, for pytest to find here."""

_numbers = count(1)


@pytest.fixture(autouse=True)
def long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that a test works on itself has time for all its pages: on a busy machine they take more than a second."""
    monkeypatch.setattr(job_runner, "TURN_S", 60.0)


@pytest.fixture(scope="session")
def data_dir() -> Iterator[Path]:
    with data_folder() as folder:
        yield folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url(data_dir: Path) -> AsyncIterator[str]:
    """The address of a Postgres with an empty database."""
    async for url in _running(Postgres, data_dir):
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey_url(data_dir: Path) -> AsyncIterator[str]:
    async for url in _running(Valkey, data_dir):
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template(postgres_url: str) -> str:
    """The name of a database with all migrations applied."""
    for name, seconds in BOUNDS_S.items():  # what `migrate` sets is of one database, and is not in copies of it
        await _execute(postgres_url, f"ALTER ROLE postgres SET {name} = '{seconds}s'")
    await _execute(postgres_url, "CREATE DATABASE template_scrip")
    await migrate(_at(postgres_url, "template_scrip"))
    return "template_scrip"


@pytest_asyncio.fixture
async def new_database(postgres_url: str) -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """Make databases, empty or copies of a template: `await new_database()` returns the address. All are dropped."""
    names: list[str] = []

    async def make(template: str = "template1") -> str:
        name = f"test_{next(_numbers)}"
        names.append(name)
        await _execute(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return _at(postgres_url, name)

    yield make
    for name in names:
        await _execute(postgres_url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest_asyncio.fixture
async def database_url(new_database: Callable[..., Awaitable[str]], template: str) -> str:
    """The address of a database of this test's own, with all migrations applied."""
    return await new_database(template)


@pytest_asyncio.fixture
async def redis(valkey_url: str) -> AsyncIterator[Redis]:
    """An emptied Valkey."""
    async with Redis.from_url(valkey_url, retry=Retry(NoBackoff(), 0)) as client:
        await client.flushall()
        yield client


async def _running(server: type[Postgres] | type[Valkey], data_dir: Path) -> AsyncIterator[str]:
    keep_fd = os.open(os.devnull, os.O_RDONLY)
    running = server(data_dir, keep_fd)
    try:
        await running.start()
        yield running.url
    finally:
        await running.stop()
        os.close(keep_fd)


async def _execute(url: str, statement: str) -> None:
    async with database(url) as connection:
        await connection.execute(statement)


def _at(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{database}"))
