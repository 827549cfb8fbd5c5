"""Waiting until an event is recorded."""

import asyncio

import pytest

from service.record import waiting
from service.record.partitions import (
    begin_epoch,
    enter_epoch,
)
from service.record.waiting import Recorded
from tests.integration.record_fixtures import Record, assigned


async def test_waiting_until_recorded(kept: Record):
    """Who waits for an event is woken when it is recorded, not before, and False when the time is over."""
    recorded = Recorded(kept.pool)
    waiters = [asyncio.create_task(recorded.wait(0, kept.epoch, seq, 5000)) for seq in (3, 1, 2)]
    await asyncio.sleep(0.05)
    assert not any(waiter.done() for waiter in waiters)
    await kept.write(assigned("CODE-1"), assigned("CODE-2"))
    assert await waiters[1]
    assert await waiters[2]
    assert not waiters[0].done()
    await kept.write(assigned("CODE-3"))
    assert await waiters[0]
    assert not await recorded.wait(0, kept.epoch, 4, 30)
    assert not await recorded.wait(1, kept.epoch, 1, 30)
    await asyncio.sleep(0.05)
    assert recorded._poller is not None
    assert recorded._poller.done()


async def test_waiting_for_an_event_of_a_closed_epoch(kept: Record):
    """An event of a closed epoch is recorded if its record went so far; past its end it was lost, and we say so."""
    await kept.write(assigned("CODE-1"), assigned("CODE-2"))
    epoch = await begin_epoch(kept.pool, 0, kept.fence, "b")
    assert await enter_epoch(kept.pool, 0, kept.fence, (kept.epoch, 2), epoch, b"b")
    recorded = Recorded(kept.pool)
    asked = [
        recorded.wait(0, kept.epoch, 2, 1000),
        recorded.wait(0, kept.epoch, 3, 1000),
        recorded.wait(0, epoch, 0, 1000),
    ]
    assert await asyncio.gather(*asked) == [True, False, True]


async def test_waiting_is_bounded(kept: Record, monkeypatch: pytest.MonkeyPatch):
    """Past the bound, and while Postgres is away, the answer is False and no error."""
    monkeypatch.setattr(waiting, "MAX_WAITERS", 2)
    recorded = Recorded(kept.pool)
    first = [asyncio.create_task(recorded.wait(0, kept.epoch, 1, 200)) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(0.1):
        assert not await recorded.wait(0, kept.epoch, 1, 10_000)
    kept.pool.terminate()
    assert await asyncio.gather(*first) == [False, False]
    assert not await recorded.wait(0, kept.epoch, 1, 50)
    await recorded.close()
