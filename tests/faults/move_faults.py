"""A workspace that moves to another partition, while processes and servers are killed."""

import asyncio
import random
from collections.abc import Sequence

from redis.exceptions import RedisError

from service.formats import key_names
from service.record.partitions.moves import order_move, read_move
from tests.faults.looking import Drill
from tests.faults.nodes import wait_until
from tests.faults.process_faults import kill_api
from tests.faults.stage import Stage
from tests.harness.running import HOME, PARTITIONS
from tests.waiting import until

VICTIMS = ("", "", "", "", "worker", "API", "Redis", "Postgres")
"""What is killed at any moment of a move; nothing in half of them."""
LONGEST_S = 1.5
"""A move of this load's workspace takes about a second."""
MOVED_S = 300.0


async def workspace_moved(stage: Stage, drill: Drill, dice: random.Random) -> None:
    """The load's workspace moves to another partition or node, and back. Then only its own partition has its keys."""
    workspace = await stage.pool.fetchval("SELECT workspace FROM workspaces WHERE name = 'drill'")
    other = dice.choice([partition for partition in range(PARTITIONS) if _is_elsewhere(stage, partition)])
    drill.is_elsewhere = True
    for source, target in ((HOME, other), (other, HOME)):
        await drill.begin_fault(dice.randrange(20, 60))
        assert await order_move(stage.pool, workspace, source, target)
        if victim := dice.choice(VICTIMS):
            await asyncio.sleep(dice.uniform(0, LONGEST_S))
            await _kill(stage, victim, dice, (source, target))

        async def is_done() -> bool:
            move = await read_move(stage.pool, workspace)
            assert move is None or move.state != "failed", move
            return move is not None and move.state == "done"

        await wait_until(is_done, "a move", MOVED_S)
        names = await _names(stage, source, key_names.prefix(source, workspace))
        if names - {key_names.left(key_names.prefix(source, workspace))}:
            drill.wrong.append(f"left behind in partition {source}: {sorted(names)[:5]}")
        await drill.until_more(20)
    drill.is_elsewhere = False


def _is_elsewhere(stage: Stage, partition: int) -> bool:
    """Whether it is another partition than the load's, and of another node, if there are several."""
    if stage.is_clustered:
        return stage.cluster.primary_of(partition) is not stage.cluster.primary_of(HOME)
    return partition != HOME


async def _kill(stage: Stage, victim: str, dice: random.Random, partitions: Sequence[int]) -> None:
    """Kill a process or server, and start it again; of a cluster the primary of one of these partitions."""
    if victim == "worker":
        await stage.kill_worker(wait_for_lease=False)
    elif victim == "API":
        await kill_api(stage, dice.randrange(len(stage.apis)))
    elif victim == "Redis" and stage.is_clustered:
        partition = dice.choice(partitions)
        node = stage.cluster.primary_of(partition)
        node.kill()
        away = (RedisError, LookupError)
        await asyncio.to_thread(until, lambda: stage.cluster.primary_of(partition) is not node, "a failover", away=away)
        await stage.heal()
    elif victim == "Redis":
        await stage.primary.kill()
        await stage.primary.start()
    else:
        await stage.database.kill()
        await stage.database.start_again()


async def _names(stage: Stage, partition: int, prefix: str) -> set[str]:
    if stage.is_clustered:
        return set(await asyncio.to_thread(stage.cluster.primary_of(partition).run, "KEYS", f"{prefix}*"))
    return {name async for name in stage.primary.client.scan_iter(f"{prefix}*", 1000)}
