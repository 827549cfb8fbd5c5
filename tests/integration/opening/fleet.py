"""Several partitions with a workspace each, and workers that come, end and die."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Mapping
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.engine.hot.cluster_links import make_links
from service.engine.hot.decider import Decider
from service.engine.operations import redeem
from service.engine.operations.caller import Caller
from service.engine.record import pool as postgres
from service.engine.record.partitions.partition_rows import read_partitions
from service.engine.worker import lease_keeper
from service.engine.worker.engine_settings import EngineSettings
from service.engine.worker.lease_keeper import LeaseKeeper
from service.engine.worker.opening import partition_opening as opening
from service.engine.worker.partition_worker import CONNECTIONS, PartitionWorker, Shared
from service.engine.worker.script_versions import LoadedScripts
from service.engine.worker.server_watch import ServerWatch
from service.server.in_postgres.code_rows import add_codes
from service.server.in_postgres.workspace_rows import create_workspace
from service.server.requests.code_requests import CodeLine
from tests.harness.waiting import cancel, elapse, wait_until
from tests.integration.opening.opening_fixtures import ask
from tests.integration.recording.record_fixtures import make_book, make_caller

CODES = 1000


async def pause_sale(sold: int, codes: int, usual_s: float) -> None:
    """Pause between two purchases, for longer once half of the codes are sold: they have to last for a whole test."""
    await elapse(max(usual_s, 4 * (sold / codes - 0.5)), "the pace of the load")


class Worker:
    """One worker process, as tasks of this one."""

    def __init__(self, fleet: "Fleet", name: str, pool: asyncpg.Pool, renewing: asyncpg.Pool) -> None:
        self.name, self._pool, self._renewing = name, pool, renewing
        self.keeper = LeaseKeeper(renewing, name, fleet.partitions)
        self._stopping = asyncio.Event()
        self._keeping = asyncio.create_task(self.keeper.run())
        self._shared = Shared(fleet.settings, pool, self.keeper, LoadedScripts(pool))
        self._cut_redis()
        self._working = asyncio.gather(
            *(PartitionWorker(self._shared, partition).run(self._stopping) for partition in range(fleet.partitions))
        )

    def cut(self, *partitions: int) -> None:
        """From now on it reaches the Redis of all partitions but these."""
        self.unreached = frozenset(partitions)
        for watch in self._shared.redis.watches():
            watch.connection.close()

    def _cut_redis(self) -> None:
        """Let attempts to reach the Redis of a partition fail while it is cut."""
        redis, self.unreached = self._shared.redis, frozenset[int]()
        connect = redis.watch

        async def watch(partition: int) -> ServerWatch:
            if partition in self.unreached:
                redis._unreached.setdefault(partition, time.monotonic())
                raise ConnectionRefusedError
            return await connect(partition)

        redis.watch = watch  # type: ignore[method-assign]

    async def kill(self) -> None:
        """End all of its tasks; it releases nothing."""
        await cancel(self._working, self._keeping)
        await self._close()

    async def stop(self) -> None:
        """End as on SIGTERM."""
        self._stopping.set()
        await self._working
        self._keeping.cancel()
        await self.keeper.end()
        await self._close()

    async def _close(self) -> None:
        self._shared.redis.close()
        await self._pool.close()
        await self._renewing.close()


class Fleet:
    """The partitions, and the running workers by name."""

    def __init__(self, pool: asyncpg.Pool, database_url: str, valkey_url: str, partitions: int, codes: int) -> None:
        self.pool, self.partitions, self._database_url = pool, partitions, database_url
        self._number = codes
        self.settings = EngineSettings(valkey_url, database_url)
        self.workers: dict[str, Worker] = {}
        self.link = make_links(valkey_url, "tests")
        self.decider = Decider(self.link)
        self.callers: list[Caller] = []
        self._codes = itertools.count()

    async def configure(self) -> None:
        """Make a workspace with a book of codes in each partition."""
        callers: dict[int, Caller] = {}
        while len(callers) < self.partitions:
            async with self.pool.acquire() as connection:
                row = await create_workspace(connection, uuid4().hex)
            if row.partition not in callers:
                book = await make_book(self.pool, row)
                codes = [CodeLine(f"CODE-{n}") for n in range(self._number)]
                await add_codes(self.pool, row.workspace, row.partition, book.book, codes)
                callers[row.partition] = make_caller(row)
        self.callers = [callers[partition] for partition in range(self.partitions)]

    async def start(self, name: str) -> Worker:
        pool = await postgres.connect(self._database_url, min_size=2, max_size=CONNECTIONS)
        self.workers[name] = Worker(self, name, pool, await postgres.connect(self._database_url, max_size=1))
        return self.workers[name]

    async def kill(self, name: str) -> None:
        await self.workers.pop(name).kill()

    async def stop(self, name: str) -> None:
        await self.workers.pop(name).stop()

    async def replace(self, name: str) -> None:
        """The only worker dies, and another comes."""
        (dead,) = self.workers
        await self.kill(dead)
        await self.pool.execute("DELETE FROM processes")  # its row would expire
        await self.start(name)

    async def read_epochs(self) -> dict[int, int]:
        return {row.id: row.epoch for row in await read_partitions(self.pool)}

    async def list_turned(self, epochs: Mapping[int, int]) -> list[int]:
        """Return the partitions that have later epochs than these."""
        return [partition for partition, epoch in (await self.read_epochs()).items() if epoch > epochs[partition]]

    async def until_opened(self, epochs: Mapping[int, int]) -> None:
        """Wait until these partitions are open in later epochs than these."""

        async def are_open() -> bool:
            rows = [row for row in await read_partitions(self.pool) if row.id in epochs]
            return all(row.state == "open" and row.epoch > epochs[row.id] for row in rows)

        await wait_until(are_open)

    async def until_shared(self, *shares: int) -> None:
        """Wait until the living workers hold so many leases each, in any order, and work on them."""

        async def is_shared() -> bool:
            rows = await read_partitions(self.pool)
            held = [sum(row.lease_holder == name for row in rows) for name in self.workers]
            steady = sum(worker.keeper[row.id].is_steady for worker in self.workers.values() for row in rows)
            is_open = all(row.state == "open" and row.lease_live for row in rows) and steady == self.partitions
            return is_open and sorted(held) == sorted(shares)

        await wait_until(is_shared)

    async def learn(self) -> None:
        for row in await read_partitions(self.pool):
            self.decider.learn(row.id, row.epoch, row.nonce)

    async def redeem(self, partition: int, code: str = "") -> str:
        """Redeem a code of the partition, by default its next; return it."""
        code = code or f"CODE-{next(self._codes) // self.partitions}"
        await ask(self.decider, self.pool, self.callers[partition], redeem.REDEEM, code, userId="ann")
        return code

    async def trade(self, redeemed: list[tuple[int, str]]) -> None:
        """Redeem one code after another, in each partition in turn, until cancelled."""
        for partition in itertools.cycle(range(self.partitions)):
            redeemed.append((self.callers[partition].workspace, await self.redeem(partition)))
            await pause_sale(len(redeemed) // self.partitions, self._number, 0.005)

    async def recorded(self) -> list[tuple[int, str]]:
        rows = await self.pool.fetch("SELECT workspace, code FROM redemptions")
        return sorted((row["workspace"], row["code"]) for row in rows)


@pytest_asyncio.fixture
async def fleet(
    pool: asyncpg.Pool,
    partitions: int,
    redis: Redis,
    database_url: str,
    valkey_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Fleet]:
    """Configured partitions without a worker."""
    del redis  # emptied
    async with start_fleet(pool, database_url, valkey_url, partitions, monkeypatch) as fleet:
        yield fleet


@contextlib.asynccontextmanager
async def start_fleet(
    pool: asyncpg.Pool,
    database_url: str,
    redis_url: str,
    partitions: int,
    monkeypatch: pytest.MonkeyPatch,
    codes: int = CODES,
) -> AsyncIterator[Fleet]:
    """As the fixture, on an empty Redis."""
    monkeypatch.setattr(opening, "SETTLE_S", 0)
    monkeypatch.setattr(lease_keeper, "RENEW_S", 0.05)
    monkeypatch.setattr(lease_keeper, "SETTLED_S", 0.2)
    fleet = Fleet(pool, database_url, redis_url, partitions, codes)
    await fleet.configure()
    await fleet.link.start()
    try:
        yield fleet
    finally:
        for name in [*fleet.workers]:
            await fleet.kill(name)
        await fleet.link.stop()
