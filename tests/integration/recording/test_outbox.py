"""The outbox on its own connection."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from service.engine.formats import key_names
from service.engine.hot.connection import Broken
from service.engine.hot.outbox import Outbox
from tests.harness.waiting import wait_until

LONG_MS = 600_000


@pytest_asyncio.fixture
async def outbox(redis: Redis, valkey_url: str) -> AsyncIterator[Outbox]:
    """An outbox with five entries, whose value is no text."""
    for seq in range(5):
        await redis.xadd(key_names.outbox(0), {"e": b"\xff%d" % seq}, id=f"7-{seq}")
    outbox = Outbox(valkey_url, 0)
    yield outbox
    outbox.close()


async def test_entries_come_as_they_are(outbox: Outbox):
    """entries() returns at most so many entries from an id on, in order, as bytes."""
    assert await outbox.entries(b"7-3", 9) == [
        [b"7-3", [b"e", b"\xff3"]],
        [b"7-4", [b"e", b"\xff4"]],
    ]
    assert len(await outbox.entries(b"0-0", 2)) == 2
    assert await outbox.last() == b"7-4"
    assert [await outbox.has_more(after, 1) for after in (b"7-3", b"7-4")] == [True, False]


async def test_trimming(outbox: Outbox, redis: Redis):
    """trim() deletes the entries before an id, or only whole nodes; an empty outbox has no last entry."""
    await outbox.trim(b"7-2", exactly=False)
    assert await redis.xlen(key_names.outbox(0)) == 5
    await outbox.trim(b"7-2", exactly=True)
    assert await redis.xlen(key_names.outbox(0)) == 3
    await redis.delete(key_names.outbox(0))
    assert await outbox.last() is None


async def test_a_cancelled_wait(outbox: Outbox, redis: Redis):
    """A cancelled wait does not delay the next call."""
    waiting = asyncio.create_task(outbox.has_more(b"7-4", LONG_MS))
    await wait_until(lambda: _is_blocked(redis))
    waiting.cancel()
    await asyncio.wait([waiting])
    assert await outbox.last() == b"7-4"


async def test_a_connection_that_breaks(outbox: Outbox, redis: Redis):
    """The call whose connection breaks raises Broken; the next call opens another connection."""
    waiting = asyncio.create_task(outbox.has_more(b"7-4", LONG_MS))
    await wait_until(lambda: _is_blocked(redis))
    await redis.client_kill_filter(_type="normal", skipme=True)
    with pytest.raises(Broken):
        await waiting
    assert await outbox.last() == b"7-4"


async def _is_blocked(redis: Redis) -> bool:
    return bool((await redis.info("clients"))["blocked_clients"])
