"""The engine has a door of its own: it opens, decides and records without any module above it."""

import asyncio
import os
import subprocess
import sys

import asyncpg
from redis.asyncio import Redis

from service.server.in_postgres.code_rows import add_codes
from service.server.in_postgres.workspace_rows import create_workspace
from service.server.requests.code_requests import CodeLine
from tests.harness.trees import ROOT
from tests.harness.waiting import PATIENCE_S
from tests.integration.opening import engine_alone
from tests.integration.recording.record_fixtures import make_book


async def test_the_engine_runs_alone(pool: asyncpg.Pool, redis: Redis, valkey_url: str, database_url: str) -> None:
    """With server, console, serving, cli and their libraries closed to imports, a code is redeemed and recorded."""
    async with pool.acquire() as connection:
        row = await create_workspace(connection, "alone")
    book = await make_book(pool, row)
    await add_codes(pool, row.workspace, row.partition, book.book, [CodeLine("ALONE-1")])
    command = [sys.executable, "-m", engine_alone.__name__, str(row.workspace), str(row.workspace_id)]
    env = os.environ | {"REDIS_URL": valkey_url, "DATABASE_URL": database_url}
    options = {"cwd": ROOT, "env": env, "capture_output": True, "text": True, "timeout": PATIENCE_S}
    done = await asyncio.to_thread(subprocess.run, command, check=False, **options)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["201 ALONE-1 ann A-1"]), done.stderr[-4000:]
