"""What retired books cost: Redis's memory, and the time of a rebuild.

First with redemptions of books that are in use; then with more, of books that ended, before and after these have left
Redis. On embedded servers, without any request.
"""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from loadtests.figures import markdown, say
from loadtests.own import cpu_of
from loadtests.parts.past import write_past
from service.domain.book_requests import CreateBook
from service.domain.decoding import convert
from service.embedded.postgres import Postgres
from service.embedded.valkey import Valkey
from service.hot.connection import Connection, connect
from service.hot.inspection import RedisInspector
from service.hot.outbox import Outbox
from service.hot.redis_server import Server
from service.record.config.book_rows import create_book
from service.record.config.workspace_rows import create_workspace
from service.record.partitions.partition_rows import ensure_partitions, read_partition, take_lease
from service.record.pool import connect as connect_postgres
from service.worker.moving.book_retirer import BookRetirer
from service.worker.moving.guarded_changes import GuardedChanges
from service.worker.opening.partition_opening import Opening
from service.worker.script_versions import LoadedScripts
from service.worker.write_behind import Flusher
from tests.harness.running import data_folder, migrate

BOOKS = 4
SETTLED_S = 3.0
_END = "UPDATE books SET valid_until = now() - interval '2 day' WHERE workspace = $1"
HEADS = ("in Redis", "memory, MiB", "rebuild, s", "CPU of it, s")


def add_options(options: argparse.ArgumentParser) -> None:
    options.add_argument("--live", type=int, default=100_000, help="redemptions in books in use (%(default)s)")
    options.add_argument("--retired", type=int, default=100_000, help="redemptions in books that ended (%(default)s)")
    options.add_argument("--rounds", type=int, help="rebuild so often with and without; written as retired at once")


def run(chosen: argparse.Namespace) -> None:
    if chosen.rounds:
        lines = asyncio.run(_alternate(chosen.live, chosen.retired, chosen.rounds))
    else:
        lines = asyncio.run(_measure(chosen.live, chosen.retired))
    print(markdown(HEADS, lines))


async def _measure(live: int, retired: int) -> list[tuple[str, ...]]:
    async with _start_servers() as servers, _open_place("scrip_retired", *servers) as place:
        await place.rebuild()
        await place.sell(live)
        lines: list[tuple[str, ...]] = [(f"{live:,} redemptions", *await place.rebuild())]
        workspace = await place.sell(retired)
        lines.append((f"{retired:,} more", *await place.rebuild()))
        took_s = await place.retire(workspace)
        lines.append((f"these retired, in {took_s:.1f} s", await place.memory_mib(), "", ""))
        lines.append(("these retired, rebuilt", *await place.rebuild()))
        return lines


async def _alternate(live: int, retired: int, rounds: int) -> list[tuple[str, ...]]:
    """Rebuild by turns from a database with retired books, and from one that never had them."""
    lines: list[tuple[str, ...]] = []
    async with (
        _start_servers() as servers,
        _open_place("scrip_without", *servers) as without,
        _open_place("scrip_with", *servers) as both,
    ):
        began = time.monotonic()
        await both.sell(retired, retired=True)
        say(f"{retired:,} written in {time.monotonic() - began:.0f} s")
        for place in (without, both):
            await place.sell(live)
        for n in range(1, rounds + 1):
            for place, label in ((without, "alone"), (both, f"and {retired:,} retired")):
                lines.append((f"{n}: {live:,} redemptions, {label}", *await place.rebuild()))
    return lines


@asynccontextmanager
async def _start_servers() -> AsyncIterator[tuple[Postgres, Valkey]]:
    keep_fd = os.open(os.devnull, os.O_RDONLY)
    with data_folder() as folder:
        postgres, valkey = Postgres(Path(folder), keep_fd), Valkey(Path(folder), keep_fd)
        try:
            await asyncio.gather(postgres.start(), valkey.start())
            yield postgres, valkey
        finally:
            await asyncio.gather(postgres.stop(), valkey.stop())
            os.close(keep_fd)


@asynccontextmanager
async def _open_place(name: str, postgres: Postgres, valkey: Valkey) -> "AsyncIterator[_Place]":
    """A partition of a new database."""
    url = await _create_database(postgres.url, name)
    async with await connect_postgres(url, command_timeout_s=600.0) as pool:
        await ensure_partitions(pool, 1)
        connection = await connect(valkey.url, "bench")
        yield _Place(pool, url, connection, valkey.url, (valkey.child.pid or 0, postgres.child.pid or 0))
        connection.close()


async def _create_database(url: str, name: str) -> str:
    """Make a database beside another one, with all tables; return its URL."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    parts = urlsplit(url)
    made = urlunsplit(parts._replace(path=f"/{name}"))
    await migrate(made)
    return made


class _Place:
    """A partition, without any process of the service."""

    def __init__(
        self, pool: asyncpg.Pool, database_url: str, connection: Connection, redis_url: str, pids: Sequence[int]
    ) -> None:
        """`connection` is to the Redis; `pids` are both servers'."""
        self._pool, self._database_url, self._pids = pool, database_url, pids
        self._connection, self._redis_url, self._server = connection, redis_url, Server(connection, 0)
        self._sold = 0

    async def sell(self, redemptions: int, *, retired: bool = False) -> int:
        """Make a workspace with so many redemptions, with `retired` of retired books; return its number."""
        async with self._pool.acquire() as connection:
            made = await connection.fetchval("SELECT count(*) FROM workspaces")
            row = await create_workspace(connection, f"shop-{made}")
        requests = [convert({"name": f"Sale {number}"}, CreateBook) for number in range(BOOKS)]
        books = [(await create_book(self._pool, row.workspace, 0, request))[0].book for request in requests]
        sizes = (redemptions, redemptions, redemptions + 1)
        connection = await asyncpg.connect(self._database_url, server_settings={"statement_timeout": "0"})
        try:
            await write_past(connection, row.workspace, 0, books, *sizes, after=self._sold, retired=retired)
        finally:
            await connection.close()
        self._sold += redemptions
        return row.workspace

    async def rebuild(self) -> tuple[str, str, str]:
        """Empty Redis and open the partition; return the MiB in use, and the seconds and CPU seconds that it took."""
        fence, outbox = await self._fence(), Outbox(self._redis_url, 0)
        flusher, scripts = Flusher(outbox, self._pool, 0, fence), LoadedScripts(self._pool)
        with closing(outbox):
            await self._server.command("FLUSHALL")
            await self._server.command("SCRIPT", "FLUSH")
            began, cpu_s = time.monotonic(), self._cpu_s()
            await Opening(self._server, self._pool, flusher, fence, scripts).run()
            took_s, cpu_s = time.monotonic() - began, self._cpu_s() - cpu_s
        say(f"rebuilt in {took_s:.1f} s")
        return await self.memory_mib(), f"{took_s:.1f}", f"{cpu_s:.1f}"

    async def retire(self, workspace: int) -> float:
        """End a workspace's books and retire them; return the seconds that it took."""
        await self._pool.execute(_END, workspace)
        fence, row = await self._fence(), await read_partition(self._pool, 0)
        inspector = RedisInspector(self._connection, 0, row.epoch, row.nonce)
        await inspector.start()
        began = time.monotonic()
        changes = GuardedChanges(self._pool, inspector, fence, asyncio.Lock(), asyncio.Lock())
        retirer = BookRetirer(changes, days=1)
        while await retirer.move_next():
            pass
        return time.monotonic() - began

    async def memory_mib(self) -> str:
        """Redis's `used_memory`, after it had time to shrink its tables."""
        await asyncio.sleep(SETTLED_S)
        return f"{int((await self._server.info('memory'))['used_memory']) / 2**20:.1f}"

    def _cpu_s(self) -> float:
        return time.process_time() + sum(map(cpu_of, self._pids))

    async def _fence(self) -> int:
        fence = await take_lease(self._pool, 0, f"bench {time.monotonic()}")
        assert fence is not None
        return fence
