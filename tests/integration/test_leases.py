"""Leases are spread over the workers, while requests are decided."""

import asyncio
import contextlib

import pytest

from tests.integration.fleet import Fleet
from tests.integration.waiting import until


@pytest.fixture
def partitions() -> int:
    return 4


async def test_leases_follow_the_workers(fleet: Fleet) -> None:
    """Leases are even after a worker joins, ends or dies; each redemption meanwhile is recorded once, in order, and no
    lease moves without need."""
    await fleet.start("a")
    await fleet.until_shared(4)
    await fleet.learn()
    epochs = await fleet.pool.fetch("SELECT epoch FROM partitions ORDER BY id")
    redeemed: list[tuple[int, str]] = []
    trading = asyncio.create_task(fleet.trade(redeemed))
    await fleet.start("b")
    await fleet.until_shared(2, 2)
    await fleet.start("c")
    await fleet.until_shared(2, 1, 1)
    await fleet.kill("b")
    await fleet.until_shared(2, 2)
    await fleet.stop("a")
    await fleet.until_shared(4)
    trading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await trading
    assert len(redeemed) > 20
    await until(lambda: _is_recorded(fleet, redeemed))
    assert await fleet.pool.fetch("SELECT epoch FROM partitions ORDER BY id") == epochs
    assert await fleet.pool.fetchval("SELECT count(*) FROM quarantine") == 0


async def test_even_leases_stay(fleet: Fleet) -> None:
    """While no worker comes or goes, no lease moves."""
    await fleet.start("a")
    await fleet.start("b")
    await fleet.start("c")
    await fleet.until_shared(2, 1, 1)
    fences = await fleet.pool.fetch("SELECT fence FROM partitions ORDER BY id")
    await asyncio.sleep(1)
    assert await fleet.pool.fetch("SELECT fence FROM partitions ORDER BY id") == fences


async def _is_recorded(fleet: Fleet, redeemed: list[tuple[int, str]]) -> bool:
    recorded = await fleet.recorded()
    assert len(set(recorded)) == len(recorded)
    return set(recorded) >= set(redeemed)  # the reply to the last was not awaited
