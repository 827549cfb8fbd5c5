"""A workspace whose clients go on while it moves, and points at which a worker stops."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.domain.errors import Refusal
from service.formats import key_names
from service.operations import lock, redeem
from service.operations.base import Operation
from service.record.partitions.moves import Move, order_move, read_move
from service.record.partitions.openings import order_rebuild
from tests.integration.opening.fleet import CODES, Fleet, pause_sale
from tests.integration.opening.opening_fixtures import ask, read_values
from tests.waiting import elapse, running, wait_until


class MovingShop:
    """A workspace's clients, whose API process reads its partition again and again."""

    def __init__(self, fleet: Fleet, redis: Redis, partition: int) -> None:
        self.fleet, self.redis, self.caller = fleet, redis, fleet.callers[partition]
        self.refused = 0
        self.is_closing = False

    async def do(self, operation: Operation, code: str, /, key: str = "", **body: Any) -> Any:
        """Run an operation whose answer has a body, until it is not refused as `recovering`; return the body."""

        async def answer() -> Any:
            try:
                return await ask(self.fleet.decider, self.fleet.pool, self.caller, operation, code, key, **body)
            except Refusal as refusal:
                if refusal.code != "recovering":
                    raise
                self.refused += 1

        return await wait_until(answer, "an answer that is not `recovering`")

    async def follow(self) -> None:
        """Read the epochs and the workspace's partition, as an API process does."""
        while True:
            await self.fleet.learn()
            here = "SELECT partition FROM workspaces WHERE workspace = $1"
            self.caller = replace(self.caller, partition=await self.fleet.pool.fetchval(here, self.caller.workspace))
            await elapse(0.05, "the pace of an API process")

    async def keys(self, partition: int) -> dict[str, Any]:
        """The workspace's keys in a partition, without the partition's prefix."""
        prefix = key_names.prefix(partition, self.caller.workspace)
        values = await read_values(self.redis, f"{prefix}*")
        return {name.decode().removeprefix(prefix): value for name, value in values.items()}

    async def move(self, target: int) -> Move:
        """Move the workspace, and wait until it has moved."""
        workspace = self.caller.workspace
        assert await order_move(self.fleet.pool, workspace, self.caller.partition, target)
        await wait_until(lambda: has_moved(self.fleet.pool, workspace))
        await wait_until(lambda: self.caller.partition == target)
        move = await read_move(self.fleet.pool, workspace)
        assert move
        return move


async def has_moved(pool: asyncpg.Pool, workspace: int) -> bool:
    """Whether the workspace's move is done; it must not fail."""
    move = await read_move(pool, workspace)
    assert move
    assert move.state != "failed", move
    return move.state == "done"


@pytest_asyncio.fixture
async def shop(fleet: Fleet, redis: Redis) -> AsyncIterator[MovingShop]:
    """The first partition's workspace, on a worker."""
    await fleet.start("a")
    await fleet.until_shared(fleet.partitions)
    await fleet.learn()
    shop = MovingShop(fleet, redis, 0)
    async with running(shop.follow()):
        yield shop


async def buy(shop: MovingShop, bought: list[str], *, may_lose_lock: bool = False) -> None:
    """Lock and redeem one code after another, until the shop closes. A rebuild may lose a lock: then lock again."""
    for number in range(100, CODES):
        if shop.is_closing:
            return
        code = f"CODE-{number}"
        while code not in bought:
            locked = msgspec.json.decode(await shop.do(lock.LOCK, code, userId="ann", lockSeconds=300))
            try:
                await shop.do(redeem.REDEEM, code, userId="ann", lockToken=locked["lockToken"], orderId=f"o-{number}")
            except Refusal as refusal:
                if not (may_lose_lock and refusal.code == "lock_lost"):
                    raise
            else:
                bought.append(code)
        await pause_sale(number, CODES, 0.02)


async def is_recorded(shop: MovingShop, bought: list[str]) -> bool:
    recorded = [code for workspace, code in await shop.fleet.recorded() if workspace == shop.caller.workspace]
    return recorded == sorted(bought)


async def rebuild(fleet: Fleet, *partitions: int) -> None:
    epochs = await fleet.read_epochs()
    for partition in partitions:
        await order_rebuild(fleet.pool, partition, "a test ordered it")
    await fleet.until_opened({partition: epochs[partition] for partition in partitions})


async def stop_and_compare(shop: MovingShop, buying: asyncio.Task[None], bought: list[str]) -> None:
    """End the purchases; compare the record with them, and Redis with a rebuilt one."""
    shop.is_closing = True
    await buying
    await wait_until(lambda: is_recorded(shop, bought))
    here = shop.caller.partition
    rows = await shop.fleet.pool.fetch("SELECT DISTINCT partition FROM redemptions")
    assert [row["partition"] for row in rows] == [here]
    kept = await shop.keys(here)
    assert "w" not in await shop.keys(1 - here)
    await rebuild(shop.fleet, here)
    assert await shop.keys(here) == {name: value for name, value in kept.items() if name != "m"}
    assert await shop.fleet.pool.fetchval("SELECT count(*) FROM quarantine") == 0


class Stop:
    """Stops the first mover that comes to a point, until `go_on`."""

    def __init__(self, patch: pytest.MonkeyPatch, where: Any, name: str, after: bool) -> None:
        self.is_reached, self._goes_on = asyncio.Event(), asyncio.Event()
        original = getattr(where, name)

        async def stopping(*args: Any) -> Any:
            result = await original(*args) if after else None
            if not self.is_reached.is_set():
                self.is_reached.set()
                await self._goes_on.wait()
            return result if after else await original(*args)

        patch.setattr(where, name, stopping)

    def go_on(self) -> None:
        self._goes_on.set()


async def begin_move(
    shop: MovingShop, patch: pytest.MonkeyPatch, where: Any, name: str, after: bool, target: int = 1
) -> tuple[Stop, asyncio.Task[Move]]:
    """Begin a move, and wait until it stops after, or before, this step."""
    stop = Stop(patch, where, name, after)
    moving = asyncio.create_task(shop.move(target))
    await stop.is_reached.wait()
    return stop, moving
