"""A worker that stops before its n-th command to the stores, while another worker takes its partition."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, cast
from uuid import uuid4

import asyncpg
import hiredis

from service.engine.hot.connection import Broken, Connection
from service.engine.hot.outbox import Outbox
from service.engine.hot.redis_server import Fenced, Server
from service.engine.record import pool as postgres
from service.engine.record.partitions.partition_rows import LeaseLost
from service.engine.worker.opening.partition_opening import Opening
from service.engine.worker.script_versions import LoadedScripts
from service.engine.worker.write_behind import CursorMoved, Flusher, OutboxGap
from tests.harness.reaching import reach
from tests.harness.waiting import PATIENCE_S, cancel
from tests.integration.opening.opening_fixtures import PartitionSetup
from tests.integration.recording.record_fixtures import take_partition

ENDS = (LeaseLost, Fenced, CursorMoved, OutboxGap, Broken, hiredis.ReplyError, *postgres.ERRORS)
"""How a worker may end after another one took its lease."""
LOAD = "SCRIPT LOAD"
_STATEMENTS = ("execute", "fetch", "fetchrow", "fetchval", "copy_to_table")
_END_TRANSACTIONS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE application_name = $1 AND state LIKE 'idle in transaction%' AND EXISTS (
  SELECT FROM pg_locks WHERE pg_locks.pid = pg_stat_activity.pid
  AND (locktype = 'advisory' OR locktype = 'relation' AND mode <> 'AccessShareLock')
)"""


Job = Callable[[Server, asyncpg.Pool, Flusher, int], Coroutine[Any, Any, Any]]


class Sleeper:
    """A worker with connections of its own.

    1. It stops, with all of its tasks, before its n-th command to any store. Loads of scripts that follow each
       other count as one command.
    2. As `idle_in_transaction_session_timeout` does, Postgres then ends its transaction that holds locks.
    3. When it wakes, it goes on with what it was about to do.
    """

    def __init__(self, stops_before: int) -> None:
        self._left = stops_before
        self._stands, self._wakes = asyncio.Event(), asyncio.Event()
        self.made: list[str] = []
        """The commands that it sent, and the next one."""

    @property
    def stands(self) -> bool:
        """Whether it stopped before its n-th command."""
        return self._stands.is_set()

    async def step(self, command: str) -> None:
        """Count a command; stop before the n-th."""
        if not self.stands:
            is_repeated = command == LOAD and self.made[-1:] == [LOAD]
            self.made.append(command)
            if is_repeated:
                return
            if self._left:
                self._left -= 1
                return
            self._stands.set()
        await self._wakes.wait()

    async def fall_asleep(self, job: "asyncio.Future[Any]") -> None:
        """Begin the job, and wait until it stops or is done. Raises what the job raises."""
        self._job = job
        standing = asyncio.create_task(self._stands.wait())
        await asyncio.wait((job, standing), timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED)
        standing.cancel()
        assert job.done() or self.stands, self.made
        if job.done():
            await job

    async def wake(self) -> None:
        """Let it go on to its end."""
        self._wakes.set()
        await asyncio.wait((self._job,), timeout=PATIENCE_S)
        assert self._job.done(), self.made
        with contextlib.suppress(*ENDS):
            await self._job

    async def kill(self) -> None:
        """Cancel it where it stopped; commands of its cleanup, such as a rollback, don't stop."""
        self._wakes.set()
        with contextlib.suppress(*ENDS):
            await cancel(self._job)


class _SteppedConnection:
    """A worker's connection to Redis, for Server."""

    def __init__(self, sleeper: Sleeper, connection: Connection) -> None:
        self._sleeper, self._connection = sleeper, connection

    async def call(self, *command: Any) -> Any:
        await self._sleeper.step(" ".join(command[:2]) if command[0] == "SCRIPT" else command[0])
        return await self._connection.call(*command)


class _SteppedOutbox(Outbox):
    sleeper: Sleeper

    async def _ask(self, *command: Any) -> Any:
        await self.sleeper.step(command[0])
        return await super()._ask(*command)


class Workers:
    """Workers on one partition that stand still, one after the other; they share their connections to Postgres."""

    def __init__(self, setup: PartitionSetup) -> None:
        self._setup, self._name = setup, uuid4().hex
        self._sleeper = Sleeper(-1)
        self._pool: asyncpg.Pool

    @contextlib.asynccontextmanager
    async def connected(self, database_url: str) -> AsyncIterator["Workers"]:
        settings, stepping = {"application_name": self._name}, self._stepping()
        async with asyncpg.create_pool(
            database_url, min_size=1, max_size=4, reset=_keep, connection_class=stepping, server_settings=settings
        ) as self._pool:
            yield self

    @contextlib.asynccontextmanager
    async def asleep(self, stops_before: int, job: Job) -> AsyncIterator[Sleeper]:
        """Start a worker that takes the lease and does its job until it stops; cancel it at the end."""
        setup = self._setup
        fence = await take_partition(setup.pool)
        sleeper = self._sleeper = Sleeper(stops_before)
        connection, outbox = await reach(setup.valkey_url), _SteppedOutbox(setup.valkey_url, 0)
        outbox.sleeper = sleeper
        server = Server(cast("Connection", _SteppedConnection(sleeper, connection)), 0)
        running = asyncio.ensure_future(job(server, self._pool, Flusher(outbox, self._pool, 0, fence), fence))
        try:
            await sleeper.fall_asleep(running)
            while connection.waiting:  # noqa: ASYNC110, what other tasks of it have sent
                await asyncio.sleep(0)
            await setup.pool.execute(_END_TRANSACTIONS, self._name)
            yield sleeper
        finally:
            await sleeper.kill()
            connection.close()
            outbox.close()

    def _stepping(self) -> type[asyncpg.Connection]:
        def stepped(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
            async def call(connection: asyncpg.Connection, statement: str, *args: Any, **options: Any) -> Any:
                await self._sleeper.step(statement.strip().partition("\n")[0])
                return await method(connection, statement, *args, **options)

            return call

        methods = {name: stepped(getattr(asyncpg.Connection, name)) for name in _STATEMENTS}
        return type("Stepping", (asyncpg.Connection,), {"__slots__": (), **methods})


async def _keep(_connection: asyncpg.Connection) -> None:
    """Reset nothing, as service/engine/record/pool.py."""


async def open_partition(server: Server, pool: asyncpg.Pool, flusher: Flusher, fence: int) -> Any:
    return await Opening(server, pool, flusher, fence, LoadedScripts(pool)).run()


async def record(_server: Server, _pool: asyncpg.Pool, flusher: Flusher, _fence: int) -> None:
    """Record, as a job, until the lease is lost."""
    await flusher.run()
