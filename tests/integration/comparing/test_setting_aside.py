"""Events that can't be recorded or applied again go into quarantine; the partition opens without them."""

from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from service.engine.operations import assign, coupon_view, redeem, rollback
from service.engine.record.partitions.failing_tasks import read_failing
from service.engine.worker.opening import restorer, unappliable_events
from service.engine.worker.opening.unappliable_events import TooManyFailed
from tests.harness.redemptions import redeemed_text
from tests.integration.opening.opening_fixtures import PartitionSetup, assert_blocked, without


async def redeem_into_quarantine(setup: PartitionSetup) -> None:
    """Redeem CODE-40, of which Postgres has another redemption, for o40, so that the event goes into quarantine."""
    blocker = "INSERT INTO single_uses VALUES ($1, 'CODE-40', gen_random_uuid())"
    await setup.pool.execute(blocker, setup.caller.workspace)
    await setup.do(redeem.REDEEM, "CODE-40", userId="ann", orderId="o40")
    await setup.record()
    await setup.pool.execute("DELETE FROM single_uses WHERE code = 'CODE-40'")


async def read_reasons(setup: PartitionSetup) -> list[str]:
    rows = await setup.pool.fetch("SELECT reason FROM quarantine ORDER BY epoch, seq")
    return [row["reason"] for row in rows]


@pytest.mark.parametrize("lost", ["all", "tail"])
async def test_a_rollback_of_a_quarantined_redemption_closes_nothing(setup: PartitionSetup, lost: str) -> None:
    """After a loss of Redis the partition opens with one alarm and the code blocked. A second loss adds nothing."""
    kept = await setup.snapshot()
    await redeem_into_quarantine(setup)
    await setup.do(rollback.ROLLBACK_ORDER, "o40")
    await setup.do(redeem.REDEEM, "CODE-41", userId="ann", orderId="o41")
    await setup.record()
    before = await setup.everything()
    for turn in range(2):
        await (setup.redis.flushall() if lost == "all" else setup.put_back(kept))
        with capture_logs() as logs:
            await setup.reopen()
        alarms = [entry for entry in logs if entry["event"] == "event_not_redone"]
        assert [entry["reason"] for entry in alarms] == ([] if turn else ["redemption_missing"])
        assert "CODE-40" not in str(logs)
        assert await read_reasons(setup) == [
            "UniqueViolationError single_uses_pkey",
            "redemption_missing",
        ]
        await assert_blocked(setup, "CODE-40")
        after = await setup.everything()
        assert without(after, b"CODE-40") == without(before, b"CODE-40")


async def test_a_gift_of_a_quarantined_checkout_is_blocked_too(setup: PartitionSetup) -> None:
    """All codes of a quarantined event are blocked; an unreadable event blocks none."""
    event = redeemed_text(code="CODE-50", order="o50", gift="FEW-3")
    insert = "INSERT INTO quarantine VALUES (0, 1, $1, $2, 'test', $3, '{}')"
    await setup.pool.execute(insert, 900, "refused", event.encode())
    for seq, garbage in enumerate(
        (b"", b"\xff\xfe", b"R 1 x", b"A 99999999999 1 C", b"Z 1 1 CODE-51 u", b"R 1 1 GONE-1"), 901
    ):
        await setup.pool.execute(insert, seq, "refused", garbage)
    await setup.pool.execute(insert, 990, "unrecorded", b"A 1 1 CODE-52 ann 1 1")
    await setup.rebuild()
    await assert_blocked(setup, "CODE-50", "FEW-3", "CODE-52")
    assert b'"available"' in await setup.do(coupon_view.READ, "CODE-51")


async def test_a_worker_that_died_before_the_quarantine(setup: PartitionSetup) -> None:
    """The mark names the skipped event, and the next worker puts it into quarantine."""
    kept = await setup.snapshot()
    await redeem_into_quarantine(setup)
    await setup.do(rollback.ROLLBACK_ORDER, "o40")
    await setup.record()
    row = await setup.pool.fetchrow("SELECT epoch, seq FROM rollbacks WHERE code = 'CODE-40'")
    assert row
    await setup.put_back(kept)
    event = f"{row['epoch']}-{row['seq']}"
    await setup.redis.set("{p0}:mend", f"{event} {event}:redemption_missing")
    await setup.reopen()
    assert (await read_reasons(setup))[1:] == ["redemption_missing"]
    await assert_blocked(setup, "CODE-40")


@pytest.mark.parametrize("mark", ["nonsense", "7", "7-x 7-2:failed"])
async def test_an_invalid_mark_means_a_rebuild(setup: PartitionSetup, mark: str) -> None:
    """After an opening with an invalid mark Redis holds the same as before."""
    before = await setup.everything()
    await setup.redis.delete("{p0}:outbox")
    await setup.redis.set("{p0}:mend", mark)
    await setup.open()
    assert await setup.everything() == before


async def test_many_failures_in_a_row_end_the_opening(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """MAX_FAILED_IN_A_ROW events in a row that fail in Redis end the opening with an error."""
    monkeypatch.setattr(unappliable_events, "MAX_FAILED_IN_A_ROW", 3)
    kept = await setup.snapshot()
    for n in range(4):
        await setup.do(assign.ASSIGN_CODE, f"CODE-{60 + n}", userId="stray")
    await setup.record()
    await setup.put_back(kept)
    await setup.redis.hset(f"{setup.caller.prefix}u:stray", "a1", "no number")
    with pytest.raises(TooManyFailed):
        await setup.open()
    await setup.redis.delete(f"{setup.caller.prefix}u:stray")
    await setup.redis.flushall()
    await setup.open()


@pytest.mark.parametrize(
    ("damage", "repair", "thing"),
    [
        (
            """UPDATE books SET discount = '{"type": "of a later version"}' WHERE book = 2""",
            "UPDATE books SET discount = NULL WHERE book = 2",
            "book",
        ),
        ("UPDATE workspaces SET limits = '{\"books\": 5}'", "UPDATE workspaces SET limits = NULL", "workspace"),
    ],
    ids=["book", "workspace"],
)
async def test_unreadable_configuration_closes_nothing_else(
    setup: PartitionSetup, damage: str, repair: str, thing: str
) -> None:
    """A book or workspace with unreadable settings refuses its own requests, and is set aside; the partition opens with
    all facts. As soon as the settings can be read, the worker writes them."""
    await setup.pool.execute(damage)
    await setup.redis.flushall()
    await setup.reopen()
    (aside,) = await read_failing(setup.pool, 0)
    assert (aside.task, aside.thing.split()[0]) == ("projecting", thing)
    if thing == "book":
        assert await setup.refusal(redeem.REDEEM, "MINE-1", userId="eve") == "unavailable"
        assert b'"redemptions":4' in await setup.do(coupon_view.READ, "MANY-1")
        await setup.do(redeem.REDEEM, "CODE-40", userId="ann")
        assert await read_reasons(setup) == []
    else:
        assert await setup.refusal(redeem.REDEEM, "CODE-40", userId="ann")
    await setup.pool.execute(repair)
    await setup.catch_up()
    assert await read_failing(setup.pool, 0) == []
    await setup.do(redeem.REDEEM, "CODE-41", userId="ann")
    await setup.do(redeem.REDEEM, "MINE-1", userId="eve")


async def test_an_answer_that_cant_be_restored_is_skipped(
    setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many answers Redis rejects one: the others are restored, and the log masks the key."""
    monkeypatch.setattr(restorer, "KEYS_A_RUN", 500)
    pages = restorer.key_pages

    async def with_one_that_is_wrong(*args: Any, **options: Any) -> Any:
        async with aclosing(pages(*args, **options)) as all_pages:
            async for page in all_pages:
                wrong = msgspec.structs.replace(page[0], key="A-KEY-OF-SOMEBODY", ttl_ms=2**63 - 1)
                yield [*page[:2], wrong, *page[2:]]

    before = {name for name in await setup.everything() if b":i:" in name}
    monkeypatch.setattr(restorer, "key_pages", with_one_that_is_wrong)
    await setup.redis.flushall()
    with capture_logs() as logs:
        await setup.open()
    assert [entry["key"] for entry in logs if entry["event"] == "answer_left_out"] == ["…BODY"]
    assert {name for name in await setup.everything() if b":i:" in name} == before
