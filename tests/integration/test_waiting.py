"""Waiting until an event is recorded."""

import asyncio

import pytest

from service.formats.event_id import EventId
from service.record.facts import recorded_wait
from service.record.facts.recorded_wait import AnswerScope, Recorded
from service.record.partitions.partition_rows import (
    begin_epoch,
    enter_epoch,
)
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
    assert await enter_epoch(kept.pool, 0, kept.fence, EventId(kept.epoch, 2), epoch, b"b")
    recorded = Recorded(kept.pool)
    asked = [
        recorded.wait(0, kept.epoch, 2, 1000),
        recorded.wait(0, kept.epoch, 3, 1000),
        recorded.wait(0, epoch, 0, 1000),
    ]
    assert await asyncio.gather(*asked) == [True, False, True]


async def test_waiting_is_bounded(kept: Record, monkeypatch: pytest.MonkeyPatch):
    """Past the bound, and while Postgres is away, the answer is False and no error."""
    monkeypatch.setattr(recorded_wait, "MAX_WAITERS", 2)
    recorded = Recorded(kept.pool)
    first = [asyncio.create_task(recorded.wait(0, kept.epoch, 1, 200)) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(0.1):
        assert not await recorded.wait(0, kept.epoch, 1, 10_000)
    kept.pool.terminate()
    assert await asyncio.gather(*first) == [False, False]
    assert not await recorded.wait(0, kept.epoch, 1, 50)
    await recorded.close()


_INSERT = "INSERT INTO quarantine VALUES (0, $1, $2, $3, $4, '{}')"
_SOLD = b"R 1 2 CODE-1 ann A-1 - - USD 2 0 1800000000000 1 5 6 1 7 3 GIFT-1 8"


@pytest.mark.parametrize(
    ("told", "after", "coupons", "recorded"),
    [
        (_SOLD, 0, [], False),
        (_SOLD, 1, [], True),
        (_SOLD, 1, [("CODE-1", "ann")], False),
        (_SOLD, 1, [("OTHER-1", "bob"), ("CODE-1", "")], False),
        (_SOLD, 1, [("GIFT-1", "ann")], False),
        (_SOLD, 1, [("CODE-1", "bob"), ("CODE", "ann"), ("ODE-1", "ann")], True),
        (_SOLD.replace(b"R 1", b"R 2"), 0, [("CODE-1", "ann")], True),
        (_SOLD.replace(b"R 1", b"R 11"), 0, [("CODE-1", "ann")], True),
        (b"\xff garbage", 0, [], False),
        (b"", 0, [], False),
        (b"\xff garbage", 1, [("CODE-1", "ann")], True),
        (b"S 1 2 low codes 3 5", 0, [], True),
        (b"B 1 2 CODE-1 ann", 1, [("CODE-1", "ann")], False),
    ],
)
async def test_an_event_in_quarantine_is_not_recorded(
    kept: Record, told: bytes, after: int, coupons: list[tuple[str, str]], recorded: bool
):
    """The cursor passes it, which is enough for reads. What is after the request's start counts, and what is about its
    codes and their users; another workspace's doesn't."""
    await kept.write(assigned("CODE-1"), assigned("CODE-2"))
    await kept.pool.execute(_INSERT, kept.epoch, 1, "test", told)
    waiting = Recorded(kept.pool)
    assert await waiting.wait(0, kept.epoch, 2, 1000)
    about = AnswerScope((kept.epoch, after), coupons)
    assert await waiting.wait_recorded(0, (kept.epoch, 2), 1000, 1, about) is recorded


@pytest.mark.parametrize("reason", ["lost with its Redis: never recorded", "not redone: code_missing"])
async def test_what_was_set_aside_otherwise_says_nothing(kept: Record, reason: str):
    """What another Redis decided is not this answer's; what can't be applied again is recorded."""
    await kept.write(assigned("CODE-1"))
    await kept.pool.execute(_INSERT, kept.epoch, 1, reason, _SOLD)
    about = AnswerScope((kept.epoch, 0), [("CODE-1", "ann")])
    assert await Recorded(kept.pool).wait_recorded(0, (kept.epoch, 1), 1000, 1, about)


async def test_a_quarantine_that_cant_be_read_says_no(kept: Record, monkeypatch: pytest.MonkeyPatch):
    """Nor is an answer recorded whose time is over."""
    await kept.write(assigned("CODE-1"))
    waiting_for = Recorded(kept.pool)
    about = AnswerScope((kept.epoch, 0), [])
    assert not await waiting_for.wait_recorded(0, (kept.epoch, 2), 20, 1, about)

    async def fails(*_: object) -> bool:
        raise ConnectionResetError

    monkeypatch.setattr(recorded_wait, "is_quarantined", fails)
    assert not await waiting_for.wait_recorded(0, (kept.epoch, 1), 1000, 1, about)
