"""The number of partitions changes, while processes, servers and the command itself are killed."""

import asyncio
import random

from service.formats import key_names
from service.record.partitions.moves import order_move, read_move
from service.record.partitions.partition_rows import read_partitions
from service.record.partitions.resizes import read_placements
from tests.faults.looking import Drill
from tests.faults.move_faults import kill
from tests.faults.nodes import wait_until
from tests.faults.stage import Stage
from tests.harness.running import HOME, PARTITIONS
from tests.harness.workspaces import make_workspace

VICTIMS = ("", "", "", "", "", "command", "worker", "API", "Redis", "Postgres")
"""What is killed at any moment of a resize; nothing in half of them."""
LONGEST_S = 6.0
"""A resize of this load takes some seconds."""
WORKSPACES = 6
"""The load's, and some without requests."""
TRIES = 60


async def partitions_resized(stage: Stage, drill: Drill, dice: random.Random) -> None:
    """There are fewer partitions, so that the load's workspace moves, then more than at first, then as many as before.
    Each workspace is in one of them. In the end the load's workspace moves back."""
    for number in range(await stage.pool.fetchval("SELECT count(*) FROM workspaces"), WORKSPACES):
        async with stage.pool.acquire() as connection:
            await make_workspace(connection, f"beside-{number}", "live")
    drill.is_elsewhere = True
    for number in (dice.randrange(1, PARTITIONS), dice.randrange(PARTITIONS, 2 * PARTITIONS) + 1, PARTITIONS):
        await drill.begin_fault(dice.randrange(20, 60))
        await _resize(stage, number, dice)
        await _check(stage, drill, number)
        await drill.until_more(20)
    await _return_home(stage)
    drill.is_elsewhere = False


async def _resize(stage: Stage, number: int, dice: random.Random) -> None:
    """Run the command until it ends well, and kill something once, or nothing."""
    victim, delay_s = dice.choice(VICTIMS), dice.uniform(0, LONGEST_S)
    said: list[str] = []
    for _ in range(TRIES):
        command = await stage.start_command("partitions", "resize", str(number))
        ending = asyncio.create_task(command.communicate())
        if victim:
            await asyncio.wait([ending], timeout=delay_s)
            if victim != "command":
                await kill(stage, victim, dice)
            elif command.returncode is None:
                command.kill()
            victim = ""
        output, _ = await ending
        said.append(output.decode())
        if command.returncode == 0:
            return
        await asyncio.sleep(1)
    raise AssertionError(f"the number of partitions did not become {number}: {said[-3:]}")


async def _check(stage: Stage, drill: Drill, number: int) -> None:
    """Each workspace is in one of the wanted partitions, no other has any key, and no workspace has settings twice."""
    rows = await read_partitions(stage.pool)
    placed = {one.workspace: one.partition for one in await read_placements(stage.pool)}
    if [row.id for row in rows] != [*range(number)] or max(placed.values()) >= number:
        drill.wrong.append(f"{number} partitions are wanted, not {len(rows)}, with the workspaces in {placed}")
    async for name in stage.primary.client.scan_iter("{p*", 1000):
        key = key_names.parse_key(name)
        if key and (key.partition >= number or (key.kind == "w" and placed[key.workspace] != key.partition)):
            drill.wrong.append(f"left behind: {name}")


async def _return_home(stage: Stage) -> None:
    """Move the load's workspace to the partition in which the rest of a round expects it."""
    (load,) = [one for one in await read_placements(stage.pool) if one.name == "drill"]
    if load.partition == HOME:
        return
    assert await order_move(stage.pool, load.workspace, load.partition, HOME)

    async def is_done() -> bool:
        move = await read_move(stage.pool, load.workspace)
        assert move is None or move.state != "failed", move
        return move is not None and move.state == "done"

    await wait_until(is_done, "the move back", 300)
