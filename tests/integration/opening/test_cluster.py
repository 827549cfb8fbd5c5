"""Partitions on a cluster of three primaries with a replica each: nodes die, and slots move, under traffic."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from service.common.config import Settings
from service.engine.domain.errors import Refusal
from service.engine.hot.connection import ask_report
from service.engine.hot.fencing import FRESH_S
from service.engine.hot.fitness import ask_replication
from service.engine.hot.inspection import RedisInspector
from service.engine.hot.redis_server import Fenced
from service.engine.record.partitions.partition_rows import read_partition
from service.engine.worker import partition_worker
from service.server.doctor.checks import _examine, _judge_replicas
from service.server.reconcile.comparison import reconcile
from tests.harness.cluster import Cluster, start_cluster
from tests.harness.plugin import require
from tests.harness.reaching import reach
from tests.harness.running import data_folder
from tests.harness.servers import VALKEY
from tests.harness.waiting import PATIENCE_S, cancel, elapse, wait_until
from tests.integration.opening.fleet import Fleet, pause_sale, start_fleet

PARTITIONS, CODES = 4, 600


@pytest.fixture
def partitions() -> int:
    return PARTITIONS


@pytest.fixture(scope="module")
def cluster_of() -> Iterator[Callable[[str], Cluster]]:
    """The cluster of a program; each is started once. Twelve servers that wait would slow the tests of other files."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(binary: str) -> Cluster:
            return stack.enter_context(start_cluster(Path(binary), stack.enter_context(data_folder())))

        yield start


@pytest_asyncio.fixture
async def cluster(request: pytest.FixtureRequest, cluster_of: Callable[[str], Cluster]) -> Cluster:
    """An empty cluster in good health: of Valkey, or of the program that is the parameter."""
    program = getattr(request, "param", "valkey-server")
    cluster = await asyncio.to_thread(cluster_of, str(VALKEY) if program == "valkey-server" else require(program))
    await asyncio.to_thread(cluster.heal)
    cluster.empty()
    return cluster


@pytest_asyncio.fixture
async def shops(
    cluster: Cluster, pool: asyncpg.Pool, database_url: str, partitions: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator["Shops"]:
    """Open partitions of one worker, in which a process redeems one code after another.

    This process is the worker as well, and the machine is busy: Postgres may confirm an epoch late.
    """
    for fencing in ("postgres", "cluster"):
        monkeypatch.setitem(FRESH_S, fencing, PATIENCE_S)
    async with start_fleet(pool, database_url, cluster.url, partitions, monkeypatch, CODES) as fleet:
        await fleet.start("a")
        await fleet.until_shared(partitions)
        await fleet.learn()
        shops = Shops(fleet)
        for partition in range(partitions):
            await shops.until_sold(partition)
        yield shops
        await shops.close()


class Shops:
    """A buyer in each partition, who redeems codes two by two and repeats what was refused."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.redeemed: list[tuple[int, str]] = []
        self.unknown: set[tuple[int, str]] = set()
        self.refused: dict[int, list[str]] = {partition: [] for partition in range(fleet.partitions)}
        self._is_closing = False
        self._tasks = [asyncio.create_task(self._buy(partition)) for partition in range(fleet.partitions)]
        self._tasks.append(asyncio.create_task(self._learn()))

    async def _learn(self) -> None:
        while True:
            await self.fleet.learn()
            await elapse(0.1, "the pace of an API process")

    async def _buy(self, partition: int) -> None:
        """Two at once, which go out as one call (lua/run_requests.lua)."""
        for number in range(0, CODES, 2):
            if self._is_closing:
                return
            await asyncio.gather(*(self._redeem(partition, f"CODE-{number + more}") for more in range(2)))
            await pause_sale(number, CODES, 0.1)

    async def _redeem(self, partition: int, code: str) -> None:
        sold = self.fleet.callers[partition].workspace, code
        while not self._is_closing:
            try:
                await self.fleet.redeem(partition, code)
                self.redeemed.append(sold)
                return
            except Refusal as refusal:
                self.refused[partition].append(refusal.code)
                if refusal.code == "outcome_unknown":
                    self.unknown.add(sold)
                    return
            await elapse(0.02, "the pace of the load")

    async def until_sold(self, partition: int) -> None:
        """Wait until the partition has sold five more."""
        workspace = self.fleet.callers[partition].workspace

        def count() -> int:
            return sum(sold[0] == workspace for sold in self.redeemed)

        goal = count() + 5
        await wait_until(lambda: count() >= goal)

    async def close(self) -> None:
        self._is_closing = True
        *buying, learning = self._tasks
        await asyncio.gather(*buying)
        await cancel(learning)

    def newest(self, partitions: set[int]) -> set[tuple[int, str]]:
        """The last two that each of these partitions has sold: a replica may lack them."""
        workspaces = {self.fleet.callers[partition].workspace for partition in partitions}
        return {sold for one in workspaces for sold in [sold for sold in self.redeemed if sold[0] == one][-2:]}

    async def check(self, may_lack: AbstractSet[tuple[int, str]] = frozenset()) -> None:
        """Stop, and check that Postgres has what was redeemed, each once, and perhaps what has no known outcome."""
        await self.close()

        async def is_recorded() -> bool:
            return set(self.redeemed) - may_lack <= set(await self.fleet.recorded())

        await wait_until(is_recorded)
        recorded = await self.fleet.recorded()
        assert len(recorded) == len(set(recorded))
        assert set(recorded) <= set(self.redeemed) | self.unknown
        assert await self.fleet.pool.fetchval("SELECT count(*) FROM quarantine") == 0
        outcome = await reconcile(self.fleet.settings.redis_url or "", self.fleet.pool, 0, repair=False)
        assert not outcome.differing


def neighbours(cluster: Cluster) -> tuple[set[int], set[int]]:
    """The partitions on the primary of the first, and the others."""
    node = cluster.primary_of(0)
    same = {other for other in range(PARTITIONS) if cluster.primary_of(other) is node}
    return same, set(range(PARTITIONS)) - same


async def test_a_node_that_dies_closes_its_partitions_only(cluster: Cluster, shops: Shops) -> None:
    """A primary is killed under traffic: the partitions of other nodes refuse nothing and keep their epochs; its own
    are opened on its replica, and sell on. Everything is recorded once."""
    before, (dead, others) = await shops.fleet.read_epochs(), neighbours(cluster)
    assert dead
    assert others
    cluster.primary_of(0).kill()
    newest = shops.newest(dead)
    for partition in dead:
        await shops.until_sold(partition)
    for partition in others:
        await shops.until_sold(partition)
    assert set(await shops.fleet.list_turned(before)) == dead
    assert {partition for partition, codes in shops.refused.items() if codes} == dead, shops.refused
    await shops.check(may_lack=newest)


async def test_a_slot_is_moved_whole(cluster: Cluster, shops: Shops, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLUSTER MIGRATESLOTS under traffic: the partition is opened on the other node, with nothing to restore; the
    others refuse nothing and keep their epochs. The rare looks at an idle partition are not needed for it."""
    monkeypatch.setattr(partition_worker, "IDLE_POLL_S", 3600.0)
    before = await shops.fleet.read_epochs()
    target = cluster.other_primary(cluster.primary_of(0))
    await asyncio.to_thread(cluster.move_whole, 0, target)
    for partition in range(PARTITIONS):
        await shops.until_sold(partition)
    assert await shops.fleet.list_turned(before) == [0]
    assert {partition for partition, codes in shops.refused.items() if codes} == {0}, shops.refused
    assert set(shops.refused[0]) <= {"recovering", "unavailable"}
    assert await shops.fleet.pool.fetchval("SELECT count(*) FROM recoveries WHERE kind <> 'none'") == PARTITIONS
    await shops.check()
    await asyncio.to_thread(cluster.move_whole, 0, cluster.other_primary(target))


@pytest.mark.parametrize("cluster", ["valkey-server", "redis-server"], indirect=True)
async def test_a_slot_is_moved_key_by_key(cluster: Cluster, shops: Shops) -> None:
    """From a move's first command to its last the partition refuses, and no script changes a part of anything."""
    before, source = await shops.fleet.read_epochs(), cluster.primary_of(0)
    target, row = cluster.other_primary(source), await read_partition(shops.fleet.pool, 0)
    connection = await reach(cluster.url)
    worker = RedisInspector(connection, 0, row.epoch, row.nonce)
    await worker.start()
    assert await worker.repair([])
    cluster.begin_move(0, target)
    with pytest.raises(Fenced, match="TRYAGAIN"):  # though no key that it reads is missing
        await worker.repair([])
    connection.close()
    await wait_until(lambda: shops.refused[0])
    sold = list(shops.redeemed)
    while await asyncio.to_thread(cluster.move_keys, 0, source, target, 100):
        pass
    workspace = shops.fleet.callers[0].workspace
    assert not [one for one in shops.redeemed[len(sold) :] if one[0] == workspace]
    assert set(shops.refused[0]) <= {"recovering", "unavailable"}
    await asyncio.to_thread(cluster.end_move, 0, source, target)
    for partition in range(PARTITIONS):
        await shops.until_sold(partition)
    assert await shops.fleet.list_turned(before) == [0]
    assert {partition for partition, codes in shops.refused.items() if codes} == {0}, shops.refused
    await shops.check()


async def test_operators_see_each_node(cluster: Cluster, shops: Shops) -> None:
    """The doctor checks each primary and each partition."""
    await shops.check()
    fleet, url = shops.fleet, cluster.url
    settings = Settings(redis_url=fleet.settings.redis_url, database_url=fleet.settings.database_url)
    report = await _examine(settings)
    assert [check.name for check in report.checks].count("redis") == 3
    assert {check.partition for check in report.checks} >= set(range(PARTITIONS))
    assert report.unreachable == []
    assert [check.state for check in report.checks if check.name == "coverage"] == ["ok"] * 3
    assert [check.state for check in report.checks if check.name == "replicas"] == ["ok"] * 3
    connection = await reach(url)
    replication = await ask_replication(connection.call)
    assert _judge_replicas(replication, None, has_log=False).state == "warning"
    own = await ask_report(connection)
    assert own is not None
    assert own.count_replicas() == replication.count == 1
    missing = _judge_replicas(replication, own, has_log=False, known=2)
    assert (missing.state, missing.says) == ("warning", "1 of 2 connected")
    connection.close()
    for state, value in (("warning", "yes"), ("ok", "no")):
        cluster.primary_of(0).run("CONFIG", "SET", "cluster-require-full-coverage", value)
        assert state in [one.state for one in (await _examine(settings)).checks if one.name == "coverage"]
    assert [check for check in report.checks if check.partition is not None and check.state == "bad"] == []
