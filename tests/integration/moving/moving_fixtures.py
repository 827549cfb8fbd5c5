"""A workspace whose clients go on while it moves, and points at which a worker stops."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from redis.asyncio import Redis

from service.access.caller import Caller
from service.api.recall import decide
from service.domain.decoding import convert
from service.domain.errors import Refusal
from service.formats import key_names
from service.operations import lock, redeem
from service.operations.base import Call, Operation
from service.record.partitions.moves import Move, order_move, read_move
from service.record.partitions.openings import order_rebuild
from service.record.partitions.partition_rows import read_partition
from tests.integration.opening.fleet import Fleet
from tests.waiting import elapse, running, wait_until


class MovingShop:
    """A workspace's clients, whose API process reads its partition again and again."""

    def __init__(self, fleet: Fleet, redis: Redis, partition: int) -> None:
        self.fleet, self.redis, self.caller = fleet, redis, fleet.callers[partition]
        self.refused = 0
        self.is_closing = False

    async def do(self, operation: Operation, code: str, /, key: str = "", **body: Any) -> Any:
        """Run an operation until it is not refused as `recovering`; return its answer's body."""

        async def answer() -> Any:
            command = operation.prepare(
                Call(self.caller, key, "f" if key else "-"), code, convert(body, operation.request)
            )
            try:
                reply = await decide(self.fleet.decider, self.fleet.pool, self.caller, command)
            except Refusal as refusal:
                if refusal.code != "recovering":
                    raise
                self.refused += 1
                return None
            return command.render(reply, "recorded")

        return (await wait_until(answer, "an answer that is not `recovering`")).body

    async def refusal(self, operation: Operation, code: str, /, **body: Any) -> str:
        """The code with which an operation is refused; '' if it is not."""
        try:
            await self.do(operation, code, **body)
        except Refusal as refusal:
            return refusal.code
        return ""

    async def follow(self) -> None:
        """Read the epochs and the workspace's partition, as an API process does."""
        while True:
            await self.fleet.learn()
            row = await self.fleet.pool.fetchrow("SELECT * FROM workspaces WHERE workspace = $1", self.caller.workspace)
            if row["partition"] != self.caller.partition:
                about = (row["workspace"], row["workspace_id"], row["partition"])
                self.caller = Caller(uuid4(), *about, "live", self.caller.scopes)
            await elapse(0.05, "the pace of an API process")

    async def keys(self, partition: int) -> dict[str, Any]:
        """The workspace's keys in a partition, without the partition's prefix."""
        prefix = key_names.prefix(partition, self.caller.workspace)
        found: dict[str, Any] = {}
        async for name in self.redis.scan_iter(f"{prefix}*", count=1000):
            found[name.decode().removeprefix(prefix)] = await self._value(name)
        return found

    async def _value(self, name: bytes) -> Any:
        match await self.redis.type(name):
            case b"string":
                return await self.redis.get(name)
            case b"hash":
                return await self.redis.hgetall(name)
            case _:
                return await self.redis.zrange(name, 0, -1, withscores=True)

    async def move(self, target: int) -> Move:
        """Move the workspace, and wait until it has moved."""
        workspace = self.caller.workspace
        assert await order_move(self.fleet.pool, workspace, self.caller.partition, target)

        async def is_done() -> bool:
            move = await read_move(self.fleet.pool, workspace)
            assert move
            assert move.state != "failed"
            return move.state == "done"

        await wait_until(is_done)
        await wait_until(self._follows(target))
        move = await read_move(self.fleet.pool, workspace)
        assert move
        return move

    def _follows(self, target: int) -> Callable[[], Awaitable[bool]]:
        async def follows() -> bool:
            return self.caller.partition == target

        return follows


@asynccontextmanager
async def open_shop(fleet: Fleet, redis: Redis) -> AsyncIterator[MovingShop]:
    """The first partition's workspace, on a worker."""
    await fleet.start("a")
    await fleet.until_shared(fleet.partitions)
    await fleet.learn()
    shop = MovingShop(fleet, redis, 0)
    async with running(shop.follow()):
        yield shop


async def buy(shop: MovingShop, bought: list[str], *, may_lose_lock: bool = False) -> None:
    """Lock and redeem one code after another, until the shop closes. A rebuild may lose a lock: then lock again."""
    for number in range(100, 1000):
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
        await elapse(0.02, "the pace of the load")


async def is_recorded(shop: MovingShop, bought: list[str]) -> bool:
    recorded = [code for workspace, code in await shop.fleet.recorded() if workspace == shop.caller.workspace]
    return recorded == sorted(bought)


async def rebuild(fleet: Fleet, *partitions: int) -> None:
    for partition in partitions:
        before = (await read_partition(fleet.pool, partition)).epoch
        await order_rebuild(fleet.pool, partition, "a test ordered it")

        async def is_open(partition: int = partition, before: int = before) -> bool:
            row = await read_partition(fleet.pool, partition)
            return row.state == "open" and row.epoch > before

        await wait_until(is_open)


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
