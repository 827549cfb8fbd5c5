"""Openings of many partitions at once."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from service.engine.hot.redis_server import Server
from service.engine.record.partitions.openings import order_rebuild
from service.engine.worker.opening import restorer
from service.engine.worker.opening.opening_turns import OPENINGS_AT_ONCE
from service.engine.worker.opening.restorer import Restorer
from tests.harness.waiting import PATIENCE_S, wait_until
from tests.integration.opening.fleet import Fleet
from tests.integration.opening.test_connection import connected


@pytest.fixture
def partitions() -> int:
    return 9


@pytest.mark.parametrize("is_ordered", [False, True])
async def test_all_partitions_are_rebuilt_at_once(
    fleet: Fleet, redis: Redis, monkeypatch: pytest.MonkeyPatch, is_ordered: bool
) -> None:
    """One worker rebuilds more partitions than it has connections to Postgres, four at a time. If Redis is empty, all
    are closed at once; if rebuilds were ordered, each is closed when its turn comes."""
    monkeypatch.setattr(restorer, "PROGRESS_S", 0)
    redoes, holding, most = Restorer._apply_facts, 0, 0
    is_expected = asyncio.Event()

    async def redo(*args: Any) -> int:
        nonlocal holding, most
        holding += 1
        most = max(most, holding)
        async with asyncio.timeout(PATIENCE_S):
            await is_expected.wait()  # with a connection to Postgres
        try:
            return await redoes(*args)
        finally:
            holding -= 1

    await fleet.start("a")
    await fleet.until_shared(9)
    await fleet.learn()
    redeemed = [await fleet.redeem(partition) for partition in range(fleet.partitions)]
    await wait_until(lambda: fleet.pool.fetchval("SELECT count(*) = $1 FROM redemptions", len(redeemed)))
    before = await fleet.read_epochs()
    monkeypatch.setattr(Restorer, "_apply_facts", redo)

    async def is_closed() -> bool:
        closed = await fleet.list_turned(before)
        return holding == OPENINGS_AT_ONCE and len(closed) == (OPENINGS_AT_ONCE if is_ordered else fleet.partitions)

    if is_ordered:
        for partition in before:
            await order_rebuild(fleet.pool, partition, "a test")
    else:
        await redis.flushall()
    await wait_until(is_closed)
    is_expected.set()
    await fleet.until_opened(before)
    assert most == OPENINGS_AT_ONCE
    assert await fleet.pool.fetch("SELECT task, reason FROM failing_tasks") == []
    await fleet.learn()
    assert {await fleet.redeem(partition) for partition in range(fleet.partitions)} - {*redeemed}


@pytest.mark.parametrize("joins", [True, False])
async def test_a_rewrite_that_is_under_way(joins: bool) -> None:
    """It serves an opening that needs a file without an old end, but not a rebuild, whose writes it may lack."""
    state = "aof_enabled:1\r\naof_rewrite_in_progress:{}\r\naof_rewrite_scheduled:0\r\naof_last_bgrewrite_status:ok\r\n"
    async with connected(lambda _: b"+Background append only file rewriting started\r\n") as (server, connection):
        server.info = state.format(1).encode()
        rewriting = asyncio.create_task(Server(connection, 0).rewrite_file(joins=joins))
        await wait_until(lambda: any(b"INFO" in chunk for chunk in server.chunks))
        server.info = state.format(0).encode()
        assert await rewriting
        assert server.commands == ([] if joins else [["BGREWRITEAOF"]])
