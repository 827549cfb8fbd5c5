"""The number of partitions changes while requests go on."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from uuid import uuid4

import click
import pytest
from redis.asyncio import Redis

from service.cli.resizing import resize_partitions
from service.formats import key_names
from service.hot.redis_server import Server
from service.record.config.workspace_rows import create_workspace
from service.record.partitions import resizes
from service.record.partitions.moves import order_move
from service.record.partitions.partition_rows import read_partitions
from service.worker import partition_removal
from tests.integration.fleet import Fleet
from tests.integration.moving_fixtures import Shop, Stop, buy, is_recorded, open_shop
from tests.waiting import cancel, wait_until


@pytest.fixture
def partitions() -> int:
    return 2


@pytest.fixture
async def shop(fleet: Fleet, redis: Redis) -> AsyncIterator[Shop]:
    async with open_shop(fleet, redis) as shop:
        yield shop


async def _resize(fleet: Fleet, number: int) -> None:
    await resize_partitions(fleet.settings, number, dry_run=False)


async def _keys(redis: Redis, partition: int) -> set[bytes]:
    return {name async for name in redis.scan_iter(f"{key_names.partition_prefix(partition)}*", count=1000)}


async def _is_even(fleet: Fleet, partitions: int) -> bool:
    """Whether all workspaces are in the first partitions, in numbers that differ by one at most."""
    placed = Counter(one.partition for one in await resizes.read_placements(fleet.pool))
    counts = [placed[partition] for partition in range(partitions)]
    return sum(counts) == placed.total() and max(counts) - min(counts) <= 1


async def _are_open(fleet: Fleet, number: int) -> bool:
    rows = await read_partitions(fleet.pool)
    return len(rows) == number and all(row.state == "open" and row.lease_live for row in rows)


async def test_partitions_come_and_go(shop: Shop, redis: Redis, capsys: pytest.CaptureFixture[str]) -> None:
    """Under traffic two partitions become four, then one, then two: the workspaces are spread evenly each time, removed
    partitions leave no key, one that is created again works, and each code is sold once."""
    fleet, bought = shop.fleet, list[str]()
    buying = asyncio.create_task(buy(shop, bought))
    await _resize(fleet, 4)
    rows = await read_partitions(fleet.pool)
    assert [(row.id, row.state) for row in rows] == [(number, "open") for number in range(4)]
    assert await _is_even(fleet, 4)
    async with fleet.pool.acquire() as connection:
        trial = connection.transaction()
        await trial.start()
        new = {(await create_workspace(connection, f"new-{number}")).partition for number in range(40)}
        await trial.rollback()
    assert new == {0, 1, 2, 3}

    await _resize(fleet, 1)
    assert await _is_even(fleet, 1)
    assert [row.id for row in await read_partitions(fleet.pool)] == [0]
    for removed in (1, 2, 3):
        assert await _keys(redis, removed) == set()
    so_far = len(bought)
    await wait_until(lambda: len(bought) > so_far)

    await _resize(fleet, 2)
    assert await _is_even(fleet, 2)
    so_far = len(bought)
    await wait_until(lambda: len(bought) > so_far)
    shop.is_closing = True
    await buying
    await wait_until(lambda: is_recorded(shop, bought))
    assert await fleet.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    output = capsys.readouterr().out
    assert "There are 4 partitions. " in output
    assert "There is 1 partition. " in output
    assert await fleet.pool.fetchval("SELECT resized_by FROM settings") is None


@pytest.mark.parametrize(
    ("where", "name", "after"),
    [
        (partition_removal, "close_for_removal", True),
        (Server, "move_gate", True),
        (partition_removal, "mark_removed", False),
    ],
)
async def test_a_worker_dies_during_a_removal(
    shop: Shop, redis: Redis, monkeypatch: pytest.MonkeyPatch, where: object, name: str, after: bool
) -> None:
    """Whenever the worker dies, the next one removes the partition; the command, run again, has nothing else to do."""
    fleet = shop.fleet
    await _resize(fleet, 3)
    with monkeypatch.context() as patch:
        stop = Stop(patch, where, name, after=after)
        resizing = asyncio.create_task(_resize(fleet, 2))
        await stop.is_reached.wait()
        await fleet.kill("a")
        await cancel(resizing)
    await fleet.pool.execute("DELETE FROM workers")  # as it expires
    await fleet.start("b")
    await wait_until(lambda: _are_open(fleet, 2))
    await _resize(fleet, 2)
    assert await _keys(redis, 2) == set()
    assert await _is_even(fleet, 2)


async def test_a_partition_is_wanted_again_while_it_is_removed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition whose keys are gone, and that another command wants by then, is not marked as removed, and opens."""
    fleet = shop.fleet
    await _resize(fleet, 3)
    stop = Stop(monkeypatch, partition_removal, "mark_removed", after=False)
    resizing = asyncio.create_task(_resize(fleet, 2))
    await stop.is_reached.wait()
    await cancel(resizing)
    async with fleet.pool.acquire() as connection:
        assert await resizes.claim_resize(connection, 3, uuid4()), "the killed command has ended its claim"
    stop.go_on()
    await wait_until(lambda: _are_open(fleet, 3))
    await fleet.learn()
    assert await order_move(fleet.pool, shop.caller.workspace, 0, 2)
    await wait_until(lambda: shop.caller.partition == 2)


async def test_two_commands_at_once(shop: Shop) -> None:
    """While a command has the claim, another is refused, and a dry run is not. Nothing is placed in a partition that is
    to be removed."""
    fleet = shop.fleet
    async with fleet.pool.acquire() as connection:
        assert await resizes.claim_resize(connection, 1, uuid4())
        with pytest.raises(click.ClickException, match="Another `scrip partitions resize` runs"):
            await _resize(fleet, 3)
        await resize_partitions(fleet.settings, 3, dry_run=True)
        assert await fleet.pool.fetchval("SELECT partitions FROM settings") == 1
        assert not await order_move(connection, shop.caller.workspace, 0, 1)
        assert (await create_workspace(connection, "new")).partition == 0
        await connection.execute("UPDATE settings SET resized_until = now() - interval '1 s'")
    await _resize(fleet, 1)
    assert await _is_even(fleet, 1)
    assert await fleet.pool.fetchval("SELECT count(*) FROM partitions WHERE removed_at IS NULL") == 1
