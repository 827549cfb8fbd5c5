"""Events go from the outbox into Postgres exactly once, whatever fails."""

import asyncio
import contextlib
import random
from typing import Any

import asyncpg
import pytest

from service.engine.formats.event_id import EventId
from service.engine.record.facts import event_writer
from service.engine.record.partitions.partition_rows import begin_epoch
from service.engine.worker import write_behind
from service.engine.worker.write_behind import Flusher
from tests.harness.service_fixture import database
from tests.harness.waiting import PATIENCE_S, running, wait_until
from tests.integration.recording.flush_fixtures import OUTBOX, MakeFlusher, RecordedShop, caught_up, has_recorded


async def test_all_events_are_recorded_in_order(shop: RecordedShop, make_flusher: MakeFlusher):
    """Postgres has each event of the outbox once and in order, with the cursor at the last."""
    flusher = await make_flusher()
    async with running(flusher.run()):
        for count in (1, 20, 300):
            await shop.sell(count)
            await wait_until(lambda: has_recorded(flusher, len(shop.appended)))
    assert await shop.facts() == shop.appended
    assert await shop.cursor() == (shop.epoch, 321)
    assert (flusher.unrecorded.events, flusher.unrecorded.seconds) == (0, 0.0)


async def test_more_than_a_batch(shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch):
    """An outbox longer than a batch is recorded in several batches, and the pending events are counted in between."""
    monkeypatch.setattr(write_behind, "BATCH_EVENTS", 100)
    flusher = await make_flusher()
    await shop.sell(250)
    await flusher.start()
    assert [await flusher.step() for _ in range(2)] == [100, 100]
    assert (flusher.cursor, flusher.unrecorded.events) == ((shop.epoch, 200), 50)
    assert flusher.unrecorded.seconds > 0
    assert [await flusher.step() for _ in range(2)] == [50, 0]
    assert await shop.facts() == shop.appended


async def test_killed_between_the_rows_and_the_end(
    shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
):
    """A backend that dies after the rows and before the commit leaves nothing, and the repeat writes once."""
    copied, original = [], event_writer._copy

    async def copy_and_die(connection: Any, table: str, *rest: Any) -> None:
        await original(connection, table, *rest)
        if table == "redemptions":
            copied.append(await shop.pool.fetchval("SELECT count(*) FROM redemptions"))
            if len(copied) == 1:
                await shop.pool.fetch("SELECT pg_terminate_backend($1)", connection.get_server_pid())

    monkeypatch.setattr(event_writer, "_copy", copy_and_die)
    await shop.sell(50)
    await caught_up(shop, await make_flusher())
    assert copied == [0, 0]
    assert await shop.facts() == shop.appended


@pytest.mark.parametrize("committed", [True, False])
async def test_a_commit_in_doubt(
    shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch, committed: bool
):
    """After a commit's reply is lost, the worker reads the cursor to see whether it happened, and writes once."""
    original, calls = write_behind.record, []

    async def answer_lost(*args: Any) -> bool:
        calls.append(args)
        if len(calls) > 1 or committed:
            assert await original(*args)
        if len(calls) == 1:
            raise ConnectionResetError
        return True

    monkeypatch.setattr(write_behind, "record", answer_lost)
    await shop.sell(10)
    flusher = await make_flusher()
    await caught_up(shop, flusher)
    assert len(calls) == (1 if committed else 2)
    assert await shop.facts() == shop.appended


async def test_a_commit_that_arrives_late(
    shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
):
    """A lost transaction that commits after the cursor was read again makes the worker start over."""
    original, calls = write_behind.record, []

    async def lost_first(connection: Any, *args: Any) -> bool:
        calls.append(args)
        if len(calls) == 1:
            raise ConnectionResetError
        if len(calls) == 2:  # the cursor was read again
            async with database(shop.database_url) as other:
                assert await original(other, *calls[0])
        return await original(connection, *args)

    monkeypatch.setattr(write_behind, "record", lost_first)
    await shop.sell(10)
    await caught_up(shop, await make_flusher())
    assert await shop.facts() == shop.appended


async def test_connections_that_break(shop: RecordedShop, make_flusher: MakeFlusher):
    """Broken connections to both servers delay the record and change nothing in it."""
    flusher = await make_flusher()
    other = await asyncpg.connect(shop.database_url)
    async with running(flusher.run()):
        for i in range(10):
            await shop.sell(30)
            if i % 2:
                await other.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'scrip'"
                )
            else:
                await shop.redis.client_kill_filter(_type="normal", skipme=True)
                await shop.redis.connection_pool.disconnect()  # its own others among them
            await wait_until(lambda: has_recorded(flusher, len(shop.appended)))
    await other.close()
    await shop.pool.expire_connections()  # the test's own may be among the broken
    assert await shop.facts() == shop.appended


async def test_random_cancels(shop: RecordedShop, make_flusher: MakeFlusher):
    """3,000 events, recorded by workers that are cancelled at random moments, are in Postgres once each, in order."""
    rng = random.Random(20_261_120)
    for _ in range(60):
        await shop.sell(50)
        flusher = await make_flusher()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(rng.expovariate(1 / 0.06)):
                await flusher.run()
    await caught_up(shop, await make_flusher())
    assert await shop.facts() == shop.appended
    assert await shop.pool.fetchval("SELECT count(*) FROM single_uses") == 3_000
    assert await shop.pool.fetchval("SELECT recorded_events FROM partitions") == 3_000


async def test_a_cancellation_that_is_swallowed(make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch):
    """A cancelled worker ends, even if a library swallows the cancellation."""
    begun = asyncio.Event()

    async def swallow(_flusher: Flusher) -> int:
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return 1

    monkeypatch.setattr(Flusher, "step", swallow)
    task = asyncio.create_task((await make_flusher()).run())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(task), PATIENCE_S)


async def test_draining_into_a_new_epoch(shop: RecordedShop, make_flusher: MakeFlusher):
    """A drain into a new epoch records earlier events, across epochs that never opened, and where each ended."""
    flusher = await make_flusher()
    old = shop.epoch
    await shop.sell(7)
    epochs = [await begin_epoch(shop.pool, 0, flusher._fence, "b") for _ in range(2)]
    for epoch in epochs:
        await shop.fence(epoch)
    await flusher.drain(epochs[1])
    assert await shop.cursor() == (epochs[1], 0)
    ends = await shop.pool.fetch("SELECT epoch, last_seq FROM closed_epochs WHERE epoch > 0 ORDER BY 1")
    assert [tuple(row) for row in ends] == [(old, 7), (epochs[0], 0)]
    await shop.sell(3)
    assert await flusher.step() == 3
    assert await shop.facts() == shop.appended


async def test_trimming_keeps_what_it_should(
    shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
):
    """Trimming keeps unrecorded events, the anchor, and KEEP_EVENTS recorded events."""
    monkeypatch.setattr(write_behind, "KEEP_EVENTS", 500)
    monkeypatch.setattr(write_behind, "BATCH_EVENTS", 200)
    flusher = await make_flusher()
    await shop.sell(3000)
    await flusher.start()
    for _ in range(10):
        await flusher.step()
    assert flusher.cursor == (shop.epoch, 2000)
    kept = await shop.outbox()
    assert kept == list(range(kept[0], 3001))
    assert 1500 <= kept[0] <= 1600
    monkeypatch.setattr(write_behind, "KEEP_S", 0)
    for _ in range(5):
        await flusher.step()
    assert await shop.redis.xlen(OUTBOX) >= 1
    assert (await shop.outbox())[-1] == 3000
    await flusher.step()
    assert await shop.facts() == shop.appended


@pytest.mark.parametrize(
    ("pending", "states"),
    [
        ([0, 799_999, 800_000, 999_999, 1_000_000, 900_000, 899_999, 720_000, 719_999], "OOFFBBFFO"),
        ([1_000_000, 0, 720_000, 800_000, 719_999], "BOOFO"),
    ],
)
def test_the_gate_follows_what_is_pending(pending: list[int], states: str):
    """Locks stop at 800,000 unrecorded events, writes at a million, and a tenth less opens again."""
    flusher = Flusher(None, None, 0, 1)  # type: ignore[arg-type] # nothing is read
    letters = ""
    for events in pending:
        flusher.unrecorded.see_tail(EventId(0, events))
        letters += flusher.gate_state()[0].upper()
    assert letters == states
