"""Waiting until an event is recorded."""

import asyncio

import pytest

from service.engine.formats.event_id import EventId
from service.engine.record.facts import recorded_wait
from service.engine.record.facts.recorded_wait import AnswerScope, Recorded
from service.engine.record.partitions.partition_rows import begin_epoch, enter_epoch
from tests.harness.redemptions import redeemed_text
from tests.harness.waiting import PATIENCE_S, wait_until
from tests.integration.recording.record_fixtures import Record, assigned

LONG_MS = round(PATIENCE_S * 1000)


@pytest.fixture
def partitions() -> int:
    return 2


async def test_waiting_until_recorded(kept: Record):
    """A wait ends with True once the event is recorded, not before, and with False at its deadline."""
    recorded = Recorded(kept.pool)
    waits = [asyncio.create_task(recorded.wait(0, kept.epoch, seq, LONG_MS)) for seq in (3, 1, 2)]
    assert await recorded.wait(0, kept.epoch, 0, LONG_MS)  # by a reading after which they still wait
    assert not any(wait.done() for wait in waits)
    await kept.write(assigned("CODE-1"), assigned("CODE-2"))
    assert await waits[1]
    assert await waits[2]
    assert not waits[0].done()
    await kept.write(assigned("CODE-3"))
    assert await waits[0]
    assert not await recorded.wait(0, kept.epoch, 4, 30)
    assert not await recorded.wait(1, kept.epoch, 1, 30)
    assert recorded._poller is not None
    await wait_until(recorded._poller.done)


async def test_waiting_for_an_event_of_a_closed_epoch(kept: Record):
    """The wait for an event of a closed epoch is True up to the epoch's recorded end; a later event is lost: False."""
    await kept.write(assigned("CODE-1"), assigned("CODE-2"))
    epoch = await begin_epoch(kept.pool, 0, kept.fence, "b")
    assert await enter_epoch(kept.pool, 0, kept.fence, EventId(kept.epoch, 2), epoch, b"b")
    recorded = Recorded(kept.pool)
    waits = [
        recorded.wait(0, kept.epoch, 2, LONG_MS),
        recorded.wait(0, kept.epoch, 3, LONG_MS),
        recorded.wait(0, epoch, 0, LONG_MS),
    ]
    assert await asyncio.gather(*waits) == [True, False, True]


async def test_waiting_is_bounded(kept: Record, monkeypatch: pytest.MonkeyPatch):
    """Past MAX_WAITERS, and without Postgres, a wait ends with False and no error."""
    monkeypatch.setattr(recorded_wait, "MAX_WAITERS", 2)
    recorded = Recorded(kept.pool)
    first = [asyncio.create_task(recorded.wait(0, kept.epoch, 1, 200)) for _ in range(2)]
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        assert not await recorded.wait(0, kept.epoch, 1, 2 * LONG_MS)
    kept.pool.terminate()
    assert await asyncio.gather(*first) == [False, False]
    assert not await recorded.wait(0, kept.epoch, 1, 50)
    await recorded.close()


_INSERT = "INSERT INTO quarantine VALUES (0, $1, $2, $3, 'test', $4, '{}')"
_SOLD = redeemed_text(book=2, gift="GIFT-1").encode()


@pytest.mark.parametrize(
    ("event", "after", "coupons", "recorded"),
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
    kept: Record, event: bytes, after: int, coupons: list[tuple[str, str]], recorded: bool
):
    """The cursor passes an event in quarantine. It makes an answer unrecorded if it is after the request's start, about
    its codes or their users, in its workspace."""
    await kept.write(assigned("CODE-1"), assigned("CODE-2"))
    await kept.pool.execute(_INSERT, kept.epoch, 1, "refused", event)
    waiting = Recorded(kept.pool)
    assert await waiting.wait(0, kept.epoch, 2, LONG_MS)
    about = AnswerScope((kept.epoch, after), coupons)
    assert await waiting.wait_recorded(0, (kept.epoch, 2), LONG_MS, 1, about) is recorded


@pytest.mark.parametrize("cause", ["unrecorded", "not_redone"])
async def test_other_causes_of_quarantine_are_recorded(kept: Record, cause: str):
    """An event of a lost Redis, or one that can't be applied again, does not make an answer unrecorded."""
    await kept.write(assigned("CODE-1"))
    await kept.pool.execute(_INSERT, kept.epoch, 1, cause, _SOLD)
    about = AnswerScope((kept.epoch, 0), [("CODE-1", "ann")])
    assert await Recorded(kept.pool).wait_recorded(0, (kept.epoch, 1), LONG_MS, 1, about)


async def test_an_unreadable_quarantine_is_not_recorded(kept: Record, monkeypatch: pytest.MonkeyPatch):
    """An answer is not recorded after its deadline, nor while the quarantine can't be read."""
    await kept.write(assigned("CODE-1"))
    waiting = Recorded(kept.pool)
    about = AnswerScope((kept.epoch, 0), [])
    assert not await waiting.wait_recorded(0, (kept.epoch, 2), 20, 1, about)

    async def fails(*_: object) -> bool:
        raise ConnectionResetError

    monkeypatch.setattr(recorded_wait, "is_quarantined", fails)
    assert not await waiting.wait_recorded(0, (kept.epoch, 1), LONG_MS, 1, about)
