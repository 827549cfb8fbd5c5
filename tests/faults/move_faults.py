"""A workspace that moves to another partition, while processes and servers are killed."""

import asyncio
import random
import signal

from loadtests.harness.running import HOME, PARTITIONS
from service.formats import key_names
from service.record.partitions.moves import order_move, read_move
from tests.faults.looking import Drill
from tests.faults.nodes import until
from tests.faults.process_faults import until_live
from tests.faults.stage import Stage

VICTIMS = ("", "", "", "", "worker", "API", "Redis", "Postgres")
"""What is killed at any moment of a move; nothing in half of them."""
LONGEST_S = 1.5
"""A move of this load's workspace takes about a second."""


async def workspace_moved(stage: Stage, drill: Drill, dice: random.Random) -> None:
    """The load's workspace moves to another partition and back. Then only its own partition has its keys."""
    workspace = await stage.pool.fetchval("SELECT workspace FROM workspaces WHERE name = 'drill'")
    other = dice.choice([partition for partition in range(PARTITIONS) if partition != HOME])
    drill.is_elsewhere = True
    for source, target in ((HOME, other), (other, HOME)):
        await drill.begin_fault(dice.randrange(20, 60))
        assert await order_move(stage.pool, workspace, source, target)
        if victim := dice.choice(VICTIMS):
            await asyncio.sleep(dice.uniform(0, LONGEST_S))
            await kill(stage, victim, dice)

        async def is_done() -> bool:
            move = await read_move(stage.pool, workspace)
            assert move is None or move.state != "failed", move
            return move is not None and move.state == "done"

        await until(is_done, "a move")
        names = await _names(stage, key_names.prefix(source, workspace))
        if names - {key_names.left(key_names.prefix(source, workspace))}:
            drill.wrong.append(f"left behind in partition {source}: {sorted(names)[:5]}")
        await drill.until_more(20)
    drill.is_elsewhere = False


async def kill(stage: Stage, victim: str, dice: random.Random) -> None:
    if victim == "worker":
        await stage.kill_worker(wait_for_lease=False)
    elif victim == "API":
        number = dice.randrange(len(stage.apis))
        await stage.apis[number].signal(signal.SIGKILL)
        stage.apis[number].start()
        await until_live(stage, number)
    elif victim == "Redis":
        await stage.primary.kill()
        await stage.primary.start()
    else:
        await stage.database.kill()
        await stage.database.start_again()


async def _names(stage: Stage, prefix: str) -> set[str]:
    return {name async for name in stage.primary.client.scan_iter(f"{prefix}*", 1000)}
