"""What stops the flusher: gaps, lost anchors, lost leases, refused events and unknown epochs."""

import asyncio
from typing import Any

import pytest

from service.engine.record.facts import event_writer
from service.engine.record.partitions.partition_rows import LeaseLost
from service.engine.worker import write_behind
from service.engine.worker.write_behind import AnchorLost, OutboxGap, TooManyRefused
from tests.harness.waiting import PATIENCE_S, wait_until
from tests.integration.recording.flush_fixtures import (
    OUTBOX,
    MakeFlusher,
    RecordedShop,
    caught_up,
    has_recorded,
    redeemed,
    selling,
)


@pytest.mark.parametrize("missing", [1, 5, 10])
async def test_a_gap_stops_the_record(shop: RecordedShop, make_flusher: MakeFlusher, missing: int):
    """The flusher records the events before a missing one, and none after it."""
    await shop.sell(10)
    await shop.redis.xdel(OUTBOX, f"{shop.epoch}-{missing}")
    await shop.append(redeemed("LAST"))
    with pytest.raises(OutboxGap):
        await (await make_flusher()).run()
    assert await shop.cursor() == (shop.epoch, missing - 1)
    assert await shop.facts() == shop.appended[: missing - 1]


@pytest.mark.parametrize("kind", ["emptied", "shorter", "another"])
async def test_a_lost_anchor_stops_the_record(
    shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """Of a Redis that is empty, lost its last events, or has others under the same ids, nothing is recorded."""
    monkeypatch.setattr(write_behind, "BLOCK_MS", 20)
    monkeypatch.setattr(write_behind, "CHECK_S", 0)
    await shop.sell(10)
    flusher = await make_flusher()
    task = asyncio.create_task(flusher.run())
    try:
        await wait_until(lambda: has_recorded(flusher, 10))
        if kind == "shorter":
            await shop.redis.xdel(OUTBOX, f"{shop.epoch}-10")
        else:
            await shop.redis.delete(OUTBOX)
        if kind == "another":
            await shop.fence(shop.epoch)
            await shop.sell(20)
        with pytest.raises(AnchorLost):
            await asyncio.wait_for(task, PATIENCE_S)
    finally:
        task.cancel()
    assert await shop.facts() == shop.appended[:10]


async def test_a_stale_fence_cant_write(shop: RecordedShop, make_flusher: MakeFlusher):
    """A worker whose lease another has taken ends and writes nothing more."""
    first = await make_flusher()
    await shop.sell(5)
    await first.start()
    assert await first.step() == 5
    second = await make_flusher()
    await shop.sell(5)
    with pytest.raises(write_behind.CursorMoved):
        await first.step()
    assert await shop.cursor() == (shop.epoch, 5)
    with pytest.raises(LeaseLost):
        await first.run()
    await caught_up(shop, second)
    assert await shop.facts() == shop.appended


async def test_a_worker_that_loses_its_lease_while_running(shop: RecordedShop, make_flusher: MakeFlusher):
    """Workers that take the lease from each other under traffic record each event once; those that lost it end."""
    tasks = []
    async with selling(shop):
        for _ in range(8):
            began, flusher = await shop.cursor(), await make_flusher()
            tasks.append(asyncio.create_task(flusher.run()))
            await wait_until(lambda flusher=flusher, began=began: flusher.cursor > began)
    await wait_until(lambda: flusher.cursor == (shop.epoch, len(shop.appended)))
    running = set(tasks)
    async with asyncio.timeout(PATIENCE_S):
        while len(running) > 1:
            _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    (last,) = running
    assert [type(task.exception()) for task in tasks if task is not last] == [LeaseLost] * 7
    last.cancel()
    assert await shop.facts() == shop.appended


async def test_a_worker_that_slept_past_its_anchor(
    shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
):
    """A worker that resumes after another trimmed its anchor raises LeaseLost, not AnchorLost."""
    monkeypatch.setattr(write_behind, "KEEP_EVENTS", 0)
    sleeper = await make_flusher()
    await sleeper.start()
    other = await make_flusher()
    for _ in range(5):
        await shop.sell(200)
        await other.start()
        await other.step()
    assert (await shop.outbox())[0] > 0
    with pytest.raises(AnchorLost):
        await sleeper.step()
    with pytest.raises(LeaseLost):
        await sleeper._step_or_start()


async def test_poison_goes_to_quarantine(shop: RecordedShop, make_flusher: MakeFlusher):
    """Events that Postgres rejects go into quarantine with the reason; all others are recorded."""
    await shop.sell(40)
    good = list(shop.appended)
    twice = redeemed("CODE-7")
    poison = [
        "R 1 2 nonsense",
        redeemed("SECRET", discount_e4=1_000_001),
        redeemed("SECRET").replace("R 1 2", "R 1 3000000000"),
        twice,
        redeemed("SECRET", order="o2"),
    ]
    for i, event in enumerate(poison):
        if i == 4:
            await shop.append(redeemed("ORDER", order="o2"))
            good.append(shop.appended[-1])
        await shop.append(event)
        await shop.sell(9)
        good += shop.appended[-9:]
    flusher = await make_flusher()
    await caught_up(shop, flusher)
    assert await shop.facts() == good
    kept = await shop.quarantined()
    assert [row[3].decode() for row in kept] == poison
    assert [row[2] for row in kept] == [
        "MalformedEvent a field can't be read (ValueError)",
        "CheckViolationError redemptions_check",
        "NumericValueOutOfRangeError",
        "UniqueViolationError single_uses_pkey",
        "UniqueViolationError order_uses_pkey",
    ]


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"e": "K 1 5"}, "a field can't be read (DecodeError)"), ({"e": "K 1 5\n{}", "more": ""}, "its kind is unknown")],
)
async def test_an_entry_with_other_parts(
    shop: RecordedShop, make_flusher: MakeFlusher, fields: dict[str, str], why: str
):
    """An entry with a missing line or an extra field goes into quarantine; those around it are recorded."""
    await shop.sell(3)
    await shop.redis.xadd(OUTBOX, fields, id=f"{shop.epoch}-*")  # type: ignore[arg-type]
    shop.appended.append("")
    await shop.sell(3)
    await caught_up(shop, await make_flusher())
    assert [row[1:3] for row in await shop.quarantined()] == [(4, f"MalformedEvent {why}")]
    assert await shop.facts() == [event for event in shop.appended if event]


async def test_nothing_of_a_code_is_logged(
    shop: RecordedShop, make_flusher: MakeFlusher, capsys: pytest.CaptureFixture[str]
):
    """The alarm about a quarantined event names its id and the reason, not its code, user or order."""
    await shop.append(redeemed("SECRETCODE", discount_e4=1_000_001))
    await caught_up(shop, await make_flusher())
    output = "".join(capsys.readouterr())
    assert "event_quarantined" in output
    assert f"{shop.epoch}-1" in output
    assert "SECRETCODE" not in output


async def test_many_refusals_in_a_row_stop_the_worker(
    shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
):
    """After so many refused events of several workspaces the worker stops instead of quarantining all of them; those of
    one workspace delay others no longer than that takes, up to a bound of their own."""
    monkeypatch.setattr(write_behind, "MAX_REFUSED_IN_A_ROW", 10)
    monkeypatch.setattr(write_behind, "MAX_REFUSED_OF_ONE", 40)
    refused = [redeemed(f"X-{i}", discount_e4=1_000_001) for i in range(80)]
    await shop.sell(5)
    await shop.append(*refused[:30])
    await shop.sell(5)
    await caught_up(shop, await make_flusher())
    assert await shop.cursor() == (shop.epoch, 40)
    await shop.append(*(text.replace("R 1 ", f"R {1 + number % 2} ", 1) for number, text in enumerate(refused)))
    with pytest.raises(TooManyRefused):
        await (await make_flusher()).run()
    assert await shop.cursor() == (shop.epoch, 60)


async def test_many_refusals_of_one_workspace_stop_the_worker(
    shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
):
    """After MAX_REFUSED_OF_ONE refused events in a row the worker stops, also if they are of one workspace."""
    monkeypatch.setattr(write_behind, "MAX_REFUSED_OF_ONE", 10)
    await shop.sell(5)
    await shop.append(*(redeemed(f"X-{i}", discount_e4=1_000_001) for i in range(30)))
    with pytest.raises(TooManyRefused):
        await (await make_flusher()).run()
    assert await shop.cursor() == (shop.epoch, 15)
    assert len(await shop.quarantined()) == 10


@pytest.mark.parametrize("commits", [False, True])
async def test_a_batch_that_takes_too_long_is_halved(
    shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch, commits: bool
):
    """While more than 20 events at once take too long, the next batch has half as many; later ones grow again. A commit
    whose reply came too late is not repeated."""
    sizes = _record_at_most(20, monkeypatch, commits=commits)
    await shop.sell(300)
    await caught_up(shop, await make_flusher())
    assert await shop.facts() == shop.appended
    assert sizes[:1] == [300] if commits else sizes[:8] == [300, 150, 75, 37, 18, 21, 10, 12]


async def test_an_opening_records_in_smaller_batches(
    shop: RecordedShop, make_flusher: MakeFlusher, monkeypatch: pytest.MonkeyPatch
):
    """A drain halves a batch that takes too long, down to one event; if that takes too long, the error is raised."""
    monkeypatch.setattr(write_behind, "BATCH_EVENTS", 40)
    sizes = _record_at_most(20, monkeypatch)
    await shop.sell(50)
    with pytest.raises(OutboxGap):
        await (await make_flusher()).drain(shop.epoch + 1)
    assert await shop.facts() == shop.appended
    assert sizes == [40, 20, 23, 11, 13, 6]
    await shop.sell(40)
    sizes = _record_at_most(0, monkeypatch)
    with pytest.raises(write_behind.BatchTooSlow):
        await (await make_flusher()).drain(shop.epoch + 1)
    assert sizes == [40, 20, 10, 5, 2, 1]


def _record_at_most(most: int, monkeypatch: pytest.MonkeyPatch, *, commits: bool = False) -> list[int]:
    """Let larger batches take too long, before or after their commit; return the sizes of all, as they are tried."""
    sizes: list[int] = []

    async def record_slowly(*args: Any) -> bool:
        sizes.append(len(args[6]))
        if sizes[-1] > most and not commits:
            raise TimeoutError
        moved = await event_writer.record(*args)
        if sizes[-1] > most:
            raise TimeoutError
        return moved

    monkeypatch.setattr(write_behind, "record", record_slowly)
    return sizes


async def test_draining_an_outbox_that_ends_too_soon(shop: RecordedShop, make_flusher: MakeFlusher):
    """A drain without the new epoch's first entry raises OutboxGap, and keeps what it recorded."""
    await shop.sell(3)
    flusher = await make_flusher()
    with pytest.raises(OutboxGap):
        await flusher.drain(shop.epoch + 1)
    assert await shop.facts() == shop.appended


async def test_an_epoch_that_postgres_doesnt_know(shop: RecordedShop, make_flusher: MakeFlusher):
    """An entry of an epoch that Postgres did not begin is not entered."""
    await shop.fence(shop.epoch + 100)
    flusher = await make_flusher()
    await flusher.start()
    with pytest.raises(write_behind.CursorMoved):
        await flusher.step()
