"""Leases are spread over the workers, while requests are decided."""

import asyncio
from collections import Counter
from typing import Any

import asyncpg
import pytest
from prometheus_client import generate_latest
from redis.asyncio import Redis

from service.engine.hot.connection import Broken
from service.engine.worker import lease_keeper
from service.engine.worker.partition_worker import PartitionWorker
from tests.harness.waiting import PATIENCE_S, cancel, wait_until
from tests.integration.opening.fleet import Fleet, Worker

_GAUGE = b'scrip_outbox_held_events{partition="0"}'


@pytest.fixture
def partitions() -> int:
    return 4


async def test_leases_follow_the_workers(fleet: Fleet) -> None:
    """Leases are even after a worker joins, ends or dies, none moves needlessly; all is recorded once, in order."""
    await fleet.start("a")
    await fleet.until_shared(4)
    await fleet.learn()
    epochs = await fleet.pool.fetch("SELECT epoch FROM partitions ORDER BY id")
    redeemed: list[tuple[int, str]] = []
    trading = asyncio.create_task(fleet.trade(redeemed))
    await fleet.start("b")
    await fleet.until_shared(2, 2)
    await fleet.start("c")
    await fleet.until_shared(2, 1, 1)
    await fleet.kill("b")
    await fleet.until_shared(2, 2)
    await fleet.stop("a")
    await fleet.until_shared(4)
    await cancel(trading)
    assert len(redeemed) > 20
    await wait_until(lambda: _is_recorded(fleet, redeemed))
    assert await fleet.pool.fetch("SELECT epoch FROM partitions ORDER BY id") == epochs
    assert await fleet.pool.fetchval("SELECT count(*) FROM quarantine") == 0


async def test_even_leases_stay(fleet: Fleet) -> None:
    """While no worker comes or goes, no lease moves."""
    await fleet.start("a")
    await fleet.start("b")
    await fleet.start("c")
    await fleet.until_shared(2, 1, 1)
    fences = await fleet.pool.fetch("SELECT fence FROM partitions ORDER BY id")
    await until_read(fleet, 10)
    assert await fleet.pool.fetch("SELECT fence FROM partitions ORDER BY id") == fences


async def test_a_worker_that_has_ended_shows_nothing(fleet: Fleet) -> None:
    """With its leases a worker gives up their gauges."""
    fleet.settings = fleet.settings._replace(standbys=1)
    await fleet.start("a")
    await fleet.until_shared(4)
    await wait_until(lambda: _GAUGE in generate_latest())
    await fleet.stop("a")
    assert _GAUGE not in generate_latest()


async def test_a_worker_shows_what_it_has_not_recorded(fleet: Fleet) -> None:
    """A worker shows the unrecorded events of the partitions whose leases it renews; others may record the rest."""
    worker = await fleet.start("a")
    shared = worker._shared
    await fleet.until_shared(4)
    known = [(partition, 0, 0) for partition in range(4)]
    await wait_until(lambda: shared.take_known_backlog() == known)
    await cancel(worker._keeping)
    await wait_until(lambda: shared.take_known_backlog() == [])
    await fleet.kill("a")


async def test_a_worker_ends_though_a_task_fails(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is cancelled ends, even if one of its tasks fails while it is."""

    async def watch_lease(_: PartitionWorker) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise Broken

    monkeypatch.setattr(PartitionWorker, "_watch_lease", watch_lease)
    worker = await fleet.start("a")
    await fleet.until_shared(4)
    ending = asyncio.create_task(fleet.kill("a"))
    done, _ = await asyncio.wait([ending], timeout=PATIENCE_S)
    worker._stopping.set()
    await ending
    assert done


async def test_a_worker_that_does_not_reach_redis(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not ready, and releases its leases: another records instead. Once it reaches Redis it gets its share; then
    both end at once, whether they reach Redis or not."""
    monkeypatch.setattr(lease_keeper, "RELEASE_S", 0.2)
    a, b = await fleet.start("a"), await fleet.start("b")
    await fleet.until_shared(2, 2)
    await fleet.learn()
    b.cut(*range(4))
    await fleet.until_shared(4, 0)
    await until_readiness(b, '{"status": "not_ready", "failing": ["redis"]}')
    await until_readiness(a, '{"status": "ready", "failing": []}')
    redeemed = [(caller.workspace, await fleet.redeem(caller.partition)) for caller in fleet.callers]
    await wait_until(lambda: _is_recorded(fleet, redeemed))
    b.cut()
    await fleet.until_shared(2, 2)
    a.cut(*range(4))
    await fleet.until_shared(4, 0)
    await fleet.stop("a")
    await fleet.until_shared(4)
    b.cut(*range(4))
    await wait_until(lambda: fleet.pool.fetchval("SELECT bool_and(lease_holder IS NULL) FROM partitions"))
    await fleet.stop("b")


async def test_workers_that_reach_different_partitions(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has the leases of the partitions whose Redis it alone reaches, however many: no lease moves to and fro."""
    monkeypatch.setattr(lease_keeper, "RELEASE_S", 0.2)
    a, b = await fleet.start("a"), await fleet.start("b")
    await fleet.until_shared(2, 2)
    a.cut(1, 2, 3)
    b.cut(0)

    async def is_shared() -> bool:
        holders = await fleet.pool.fetch("SELECT lease_holder FROM partitions ORDER BY id")
        return [row["lease_holder"] for row in holders] == ["a", "b", "b", "b"]

    await wait_until(is_shared)
    reading = asyncio.create_task(until_read(fleet, 20))
    while not reading.done():
        assert await is_shared()
    await reading
    await until_readiness(a, '{"status": "ready", "failing": ["redis"]}')
    a.cut()
    b.cut()
    await fleet.until_shared(2, 2)


async def until_readiness(worker: Worker, body: str) -> None:
    """Wait until the worker's health endpoint replies this."""

    async def is_reply() -> bool:
        return await worker.keeper.check_readiness() == ("not_ready" not in body, body.encode())

    await wait_until(is_reply)


async def until_read(fleet: Fleet, times: int) -> None:
    """Wait until each worker has read the leases so many times more."""
    keepers = [worker.keeper for worker in fleet.workers.values()]
    goals = [keeper._readings + times + 1 for keeper in keepers]  # the last is sent when those before it were read
    await wait_until(lambda: all(keeper._readings >= goal for keeper, goal in zip(keepers, goals, strict=True)))


async def _is_recorded(fleet: Fleet, redeemed: list[tuple[int, str]]) -> bool:
    recorded = await fleet.recorded()
    assert len(set(recorded)) == len(recorded)
    return set(recorded) >= set(redeemed)  # the reply to the last was not awaited


async def test_idle_partitions_share_their_polls(fleet: Fleet, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four idle partitions cost Redis and Postgres little more than one: their checks and leases are shared."""
    statements: Counter[str] = Counter()
    execute = asyncpg.Connection._do_execute

    async def count(connection: asyncpg.Connection, query: str, *args: Any, **options: Any) -> Any:
        statements[query.splitlines()[0]] += 1
        return await execute(connection, query, *args, **options)

    await fleet.start("a")
    await fleet.until_shared(4)
    await fleet.link.stop()
    monkeypatch.setattr(lease_keeper, "RENEW_S", 0.5)
    monkeypatch.setattr(asyncpg.Connection, "_do_execute", count)

    async def is_idle() -> bool:
        """Whether a while takes few commands, as it does once the last tasks have found that nothing is to do."""
        await redis.config_resetstat()
        statements.clear()
        await until_read(fleet, 4)
        commands = sum(row["calls"] for row in (await redis.info("commandstats")).values())
        return commands < 2 * 20 and statements.total() < 2 * 8  # without sharing 126 and 77 a second

    await wait_until(is_idle, "few polls")
