"""Faults of a cluster: its primaries die one after another, and a slot moves."""

import asyncio
import random
import signal

from loadtests.harness.cluster import ClusterNode
from loadtests.harness.running import HOME
from service.record.partitions.partition_rows import read_partitions
from tests.faults.looking import Drill
from tests.faults.nodes import until
from tests.faults.stage import Stage


async def primaries_killed(stage: Stage, drill: Drill, dice: random.Random) -> None:
    """SIGKILL of each primary in turn, each of which comes back as a replica. Partitions of the others stay open."""
    partitions = [row.id for row in await read_partitions(stage.pool)]
    primaries = [node for node in stage.cluster.nodes if node.leads]
    for node in dice.sample(primaries, len(primaries)):
        await drill.begin_fault(dice.randrange(5, 40))
        epochs = await _epochs(stage)
        dead = [partition for partition in partitions if stage.cluster.primary_of(partition) is node]
        node.kill()
        for partition in dead:
            await _until_reopened(stage, partition, epochs[partition])
        await stage.heal()
        assert {partition for partition, epoch in (await _epochs(stage)).items() if epoch != epochs[partition]} == {
            *dead
        }


async def primary_lost_without_postgres(stage: Stage, drill: Drill, dice: random.Random) -> None:
    """The APIs can't reach Postgres, but the worker can. The load's primary is killed, or stopped until its partitions
    are open elsewhere. The APIs refuse these until they reach Postgres again."""
    await stage.until_fenced("cluster")
    epoch, node = (await stage.row()).epoch, stage.cluster.primary_of(HOME)
    stage.database.front.hold()
    await drill.begin_fault(dice.randrange(5, 40))
    stops = dice.random() < 0.5
    node.signal(signal.SIGSTOP if stops else signal.SIGKILL)
    await _until_reopened(stage, HOME, epoch)
    if stops:
        node.signal(signal.SIGCONT)
    await asyncio.sleep(dice.uniform(0, 1))
    stage.database.front.flow()


async def slot_moved(stage: Stage, drill: Drill, dice: random.Random) -> None:
    """The partition's slot moves to another node, whole or key by key, and back. The other partitions stay open."""
    epochs = await _epochs(stage)
    for _ in range(2):
        await drill.begin_fault(dice.randrange(5, 40))
        before = (await stage.row()).epoch
        target = stage.cluster.other_primary(stage.cluster.primary_of(0))
        if dice.random() < 0.5 and "valkey" in stage.binary.name:  # Redis moves slots only key by key
            await asyncio.to_thread(stage.cluster.move_whole, 0, target)
        else:
            await asyncio.to_thread(_move_keys, stage, target)
        await _until_reopened(stage, 0, before)
        await drill.until_more(20)
    epochs.pop(0)
    assert epochs.items() <= (await _epochs(stage)).items()


def _move_keys(stage: Stage, target: ClusterNode) -> None:
    source = stage.cluster.begin_move(0, target)
    while stage.cluster.move_keys(0, source, target, 200):
        pass
    stage.cluster.end_move(0, source, target)


async def _epochs(stage: Stage) -> dict[int, int]:
    return {row.id: row.epoch for row in await read_partitions(stage.pool)}


async def _until_reopened(stage: Stage, partition: int, epoch: int) -> None:
    """Another epoch than this one is open."""

    async def reopened() -> bool:
        row = (await read_partitions(stage.pool))[partition]
        return row.epoch > epoch and row.state == "open"

    await until(reopened, f"a new epoch of partition {partition}")
