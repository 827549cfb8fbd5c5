"""Opening a partition, killed at each of its commands to Redis."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.domain.books import CreateBook
from service.domain.codes import CodeLine
from service.domain.decoding import convert
from service.domain.errors import Refusal
from service.domain.identity import SCOPES, Caller
from service.hot.connection import Broken, Link, connect
from service.hot.deciding import Decider, Reply
from service.hot.scripts import Scripts
from service.hot.server import Server
from service.operations import assign, checkout, coupon, gift, lock, redeem, rollback, unassign
from service.operations.base import Call, Operation
from service.record import pool as postgres
from service.record.books import create_book
from service.record.codes import add_codes
from service.record.partitions import ensure_partitions, read_partition, take_lease
from service.record.workspaces import create_workspace
from service.worker import opening
from service.worker.flush import Flusher
from service.worker.opening import Opening


class Dying(Server):
    """A server whose worker dies before its n-th command."""

    left = -1

    async def command(self, *command: Any) -> Any:
        self._count()
        return await super().command(*command)

    async def run(self, scripts: Scripts, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        self._count()
        return await super().run(scripts, script, names, args)

    def _count(self) -> None:
        if self.left == 0:
            raise Broken
        self.left -= 1


@dataclass
class Place:
    """A partition with some traffic behind it."""

    pool: asyncpg.Pool
    redis: Redis
    valkey_url: str
    link: Link
    decider: Decider
    caller: Caller

    async def open(self, dies_after: int = -1) -> None:
        """Open as a worker that dies after so many commands. Raises Broken when it did."""
        fence = await take_lease(self.pool, 0, uuid4().hex, 0)
        assert fence is not None
        connection = await connect(self.valkey_url, "tests")
        server = Dying(connection, 0)
        server.left = dies_after
        try:
            await Opening(server, self.pool, Flusher(self.redis, self.pool, 0, fence), fence).run()
        finally:
            connection.close()

    async def learn(self) -> None:
        """What an API process learns from Postgres."""
        row = await read_partition(self.pool, 0)
        if row.state == "open":
            self.decider.learn(0, row.epoch, row.nonce)
        else:
            self.decider.forget(0)

    async def do(self, operation: Operation, code: str, /, key: str = "", **body: Any) -> Any:
        """Run an operation; its answer's body."""
        call = Call(self.caller, key, "f" if key else "-")
        command = operation.prepare(call, code, convert(body, operation.request))
        reply = await self.decider.run(0, command.script, command.keys, command.args)
        return command.render(reply, "recorded").body

    async def everything(self) -> dict[str, Any]:
        """All that Redis holds of the workspace."""
        found: dict[str, Any] = {}
        async for name in self.redis.scan_iter(match=f"{self.caller.prefix}*"):
            match await self.redis.type(name):
                case b"string":
                    record = await self.redis.get(name)
                    assert isinstance(record, bytes)
                    found[name] = _without_key(record)
                case b"hash":
                    found[name] = await self.redis.hgetall(name)
                case b"set":
                    found[name] = await self.redis.smembers(name)
                case b"zset":
                    found[name] = await self.redis.zrange(name, 0, -1, withscores=True)
        return found


def _without_key(record: bytes) -> bytes:
    """A redemption's record without the Idempotency-Key in it, which has an entry of its own."""
    return re.sub(rb'"key":"[^"]*","op":"[^"]*"', b"", record)


@pytest_asyncio.fixture
async def place(
    database_url: str, redis: Redis, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """A partition that was opened, and in which each kind of event has happened and is recorded."""
    monkeypatch.setattr(opening, "SETTLE_S", 0)
    monkeypatch.setattr(opening, "EVENTS_A_RUN", 2)
    pool = await postgres.connect(database_url)
    await ensure_partitions(pool, 1)
    async with pool.acquire() as connection:
        row = await create_workspace(connection, "shop")
    book, _ = await create_book(pool, row.workspace, 0, convert({"name": "b", "maxRedemptionsPerUser": 9}, CreateBook))
    many, _ = await create_book(pool, row.workspace, 0, convert({"name": "m", "maxRedemptionsPerCode": 5}, CreateBook))
    await add_codes(pool, row.workspace, 0, book.book, [CodeLine(f"CODE-{n}") for n in range(100)])
    await add_codes(pool, row.workspace, 0, many.book, [CodeLine("MANY-1"), CodeLine("MINE-1", owner_id="eve")])
    few, _ = await create_book(pool, row.workspace, 0, convert({"name": "f", "lowStockThreshold": 3}, CreateBook))
    await add_codes(pool, row.workspace, 0, few.book, [CodeLine(f"FEW-{n}") for n in range(5)])
    link = Link(valkey_url, "tests")
    await link.start()
    caller = Caller(uuid4(), row.workspace, row.workspace_id, 0, "live", frozenset(SCOPES))
    place = Place(pool, redis, valkey_url, link, Decider(link), caller)
    await place.open()
    await place.learn()
    await place.do(assign.ASSIGN_CODE, "CODE-1", "key-1", userId="ann")
    for n in range(2, 8):
        await place.do(redeem.REDEEM, f"CODE-{n}", f"key-{n}", userId="ann", orderId=f"o{n}", orderValue="10.00")
    for n in range(3):
        await place.do(redeem.REDEEM, "MANY-1", userId=f"u{n}")
    await place.do(rollback.ROLLBACK_ORDER, "o2", "key-b")
    await place.do(rollback.ROLLBACK_ORDER, "o3", restore=False)
    await place.do(unassign.UNASSIGN, "MINE-1", "key-u")
    for user in ("ann", "bob"):
        await place.do(assign.ASSIGN_CODE, "CODE-8", userId=user)
        if user == "ann":
            await place.do(unassign.UNASSIGN, "CODE-8")
    given = {"bookId": str(few.book_id), "orderId": "o4"}
    await place.do(gift.GIFT, "ann", "key-g", **given)
    await place.do(rollback.ROLLBACK_ORDER, "o4", "key-o")
    bought = {"orderValue": "3", "giftBookId": str(few.book_id), "userId": "bob"}
    await place.do(checkout.CHECKOUT, "", "key-c", code="CODE-99", orderId="o9", **bought)
    await place.do(checkout.CHECKOUT, "", "key-d", orderId="o10", **bought)
    await place.do(checkout.CHECKOUT, "", code="MANY-1", orderId="o11", **bought)
    fence = await take_lease(pool, 0, "flush", 0)
    assert fence is not None
    flusher = Flusher(redis, pool, 0, fence)
    await flusher.start()
    assert await flusher.step() == 23
    yield place
    await link.stop()
    await pool.close()


async def test_killed_anywhere_while_rebuilding_the_gate_is_closed_or_the_job_is_done(place: Place) -> None:
    """After FLUSHALL, a worker killed before any of its commands leaves a Redis that answers nothing or everything; and
    the next worker leaves all as it was."""
    before = await place.everything()
    dies_after, done = 0, False
    while not done:
        await place.redis.flushall()
        await place.learn()
        try:
            await place.open(dies_after)
            done = True
        except Broken:
            await place.learn()
            with pytest.raises(Refusal, match="recovering"):
                await place.do(coupon.READ, "CODE-9")
        await place.open()
        assert await place.everything() == before, dies_after
        dies_after += 1
    assert dies_after > 40
    await place.learn()
    assert b'"available"' in await place.do(coupon.READ, "CODE-9")
    assert b'"available"' in await place.do(coupon.READ, "MINE-1")
    assert b'"userId":"bob"' in await place.do(coupon.READ, "CODE-8")


async def test_killed_anywhere_while_reopening_nothing_is_lost(place: Place) -> None:
    """With Redis whole and events not yet recorded, a worker killed before any of its commands loses none of them, nor
    a lock."""
    await place.do(lock.LOCK, "CODE-10", userId="ann")
    dies_after, done = 0, False
    while not done:
        await place.learn()
        await place.do(redeem.REDEEM, f"CODE-{11 + dies_after}", userId=f"v{dies_after}")
        redeemed = await place.everything()
        try:
            await place.open(dies_after)
            done = True
        except Broken:
            await place.open()
        dies_after += 1
        assert await place.everything() == redeemed, dies_after
        assert await place.pool.fetchval("SELECT count(*) FROM redemptions") == 11 + dies_after
    assert dies_after > 30
