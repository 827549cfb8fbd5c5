"""Faults of a cluster: its primaries die one after another, and a slot moves."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator, Collection

from service.engine.record.partitions.partition_rows import read_partitions
from tests.harness.cluster import ClusterNode
from tests.harness.running import HOME
from tests.lab.faults.beside import selling_beside
from tests.lab.faults.deployment import Deployment
from tests.lab.faults.looking import Drill


async def primaries_killed(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL of each primary in turn, each of which comes back as a replica. Partitions of the others stay open."""
    for node in _shuffled_primaries(deployment, dice):
        await drill.begin_fault(dice.randrange(5, 40))
        epochs = await _epochs(deployment)
        dead = _partitions_of(deployment, node, epochs)
        node.kill()
        for partition in dead:
            await deployment.until_reopened(epochs[partition], partition)
        await deployment.heal()
        after = await _epochs(deployment)
        assert {partition for partition in epochs if epochs[partition] != after[partition]} == dead


async def primary_lost_without_postgres(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """The APIs can't reach Postgres, but the worker can. The load's primary is killed, or stopped until its partitions
    are open elsewhere. The APIs refuse these until they reach Postgres again."""
    await deployment.until_fenced()
    epoch, node = (await deployment.row()).epoch, deployment.cluster.primary_of(HOME)
    deployment.database.front.hold()
    await drill.begin_fault(dice.randrange(5, 40))
    stops = dice.random() < 0.5
    node.signal(signal.SIGSTOP if stops else signal.SIGKILL)
    await deployment.until_reopened(epoch)
    if stops:
        node.signal(signal.SIGCONT)
    await asyncio.sleep(dice.uniform(0, 1))
    deployment.database.front.flow()


async def slot_moved(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """The load's slot moves to another node, whole or key by key, and back. The other partitions stay open."""
    epochs = await _epochs(deployment)
    for _ in range(2):
        await drill.begin_fault(dice.randrange(5, 40))
        before = (await deployment.row()).epoch
        await _move(deployment, HOME, dice)
        await deployment.until_reopened(before)
        await drill.until_more(20)
    epochs.pop(HOME)
    assert epochs.items() <= (await _epochs(deployment)).items()


async def all_killed(deployment: Deployment, drill: Drill, dice: random.Random) -> None:
    """SIGKILL of each primary and a move of a slot, while workers and APIs are killed, too. Buyers in the partitions
    that are not concerned, by an API of their own, are refused nothing."""
    deployment.add_workers(2)
    api, url = deployment.make_api()
    try:
        async with selling_beside(deployment, drill.wrong, [url]) as beside, _processes_killed(deployment, dice):
            for node in _shuffled_primaries(deployment, dice):
                await drill.begin_fault(dice.randrange(5, 40))
                epochs = await _epochs(deployment)
                dead = _partitions_of(deployment, node, epochs)
                async with beside.closed(dead, may_lack=2):
                    node.kill()
                    for partition in dead:
                        await deployment.until_reopened(epochs[partition], partition)
                await deployment.heal()
            await drill.begin_fault(dice.randrange(5, 40))
            epochs = await _epochs(deployment)
            moved = dice.choice([*epochs])
            async with beside.closed({moved}):
                await _move(deployment, moved, dice)
                await deployment.until_reopened(epochs[moved], moved)
            drill.closed_beside_s += beside.closed_s
    finally:
        await api.close()


@contextlib.asynccontextmanager
async def _processes_killed(deployment: Deployment, dice: random.Random) -> AsyncIterator[None]:
    """Kill a worker or an API of the load every few seconds inside the block, and start it again."""

    ending = asyncio.Event()

    async def kill() -> None:
        while not ending.is_set():
            process = dice.choice(deployment.processes)
            await process.signal(signal.SIGKILL)
            process.start()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(dice.uniform(2, 6)):
                    await ending.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(kill())
        yield
        ending.set()


def _shuffled_primaries(deployment: Deployment, dice: random.Random) -> list[ClusterNode]:
    primaries = [node for node in deployment.cluster.nodes if node.leads]
    return dice.sample(primaries, len(primaries))


def _partitions_of(deployment: Deployment, node: ClusterNode, partitions: Collection[int]) -> set[int]:
    return {partition for partition in partitions if deployment.cluster.primary_of(partition) is node}


async def _move(deployment: Deployment, partition: int, dice: random.Random) -> None:
    target = deployment.cluster.other_primary(deployment.cluster.primary_of(partition))
    if dice.random() < 0.5 and "valkey" in deployment.binary.name:  # Redis moves slots only key by key
        await asyncio.to_thread(deployment.cluster.move_whole, partition, target)
    else:
        await asyncio.to_thread(_move_keys, deployment, partition, target)


def _move_keys(deployment: Deployment, partition: int, target: ClusterNode) -> None:
    source = deployment.cluster.begin_move(partition, target)
    while deployment.cluster.move_keys(partition, source, target, 200):
        pass
    deployment.cluster.end_move(partition, source, target)


async def _epochs(deployment: Deployment) -> dict[int, int]:
    return {row.id: row.epoch for row in await read_partitions(deployment.pool)}
