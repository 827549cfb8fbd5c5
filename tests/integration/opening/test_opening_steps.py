"""What an opening keeps of a Redis, applies again, and rebuilds. test_interleavings.py stops it at each step."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from service.engine.formats import key_names
from service.engine.hot.redis_server import Fenced
from service.engine.operations import assign, checkout, coupon_view, redeem, rollback, unassign
from service.engine.record.partitions.openings import order_rebuild
from service.engine.record.partitions.partition_rows import LeaseLost, close_partition, read_partition
from service.engine.worker.opening import partition_opening as opening
from service.engine.worker.opening.restorer import Restorer
from service.server.in_postgres.code_rows import add_codes
from service.server.requests.code_requests import CodeLine
from tests.integration.opening.opening_fixtures import PartitionSetup, assert_blocked, without

_MARK = "{p0}:mend"
_DAMAGES: dict[str, Sequence[tuple[str, ...]]] = {
    **{
        f"a list as {kind}": [("DEL", name := key_names.Key(0, 0, kind).name), ("LPUSH", name, "x")]
        for kind in key_names.OWN
    },
    "the mark of an unfinished rebuild": [("SET", _MARK, "whole"), ("DEL", "{w}c:CODE-1")],
    "another layout of the keys": [("SET", key_names.layout(0), "0"), ("SET", "{w}c:CODE-9", "of an older layout")],
}


@pytest.mark.parametrize("damage", _DAMAGES)
async def test_a_damaged_redis_is_rebuilt(setup: PartitionSetup, damage: str) -> None:
    """A Redis with this damage is rebuilt whole from the record, though its anchor is there."""
    before = await setup.everything()
    for command in _DAMAGES[damage]:
        await setup.redis.execute_command(*(part.replace("{w}", setup.caller.prefix) for part in command))
    await setup.open()
    assert await setup.recovery() == "whole"
    assert await setup.everything() == before
    assert await setup.redis.get(_MARK) is None
    assert await setup.redis.get(key_names.layout(0)) == key_names.LAYOUT.encode()
    await setup.learn()
    assert b'"available"' in await setup.do(coupon_view.READ, "CODE-9")


@pytest.mark.parametrize("kind", ["b", "c", "d", "n", "o", "s", "u"])
async def test_a_key_of_another_type_ends_in_a_rebuild(setup: PartitionSetup, kind: str) -> None:
    """If a recovery meets a list, it orders a rebuild: the next opening deletes all keys, and opens."""
    behind = await setup.snapshot()
    await setup.do(redeem.REDEEM, "CODE-1", userId="ann", orderId="o1")
    await setup.do(redeem.REDEEM, "MANY-1", userId="u0", orderId="o20")
    await setup.do(assign.ASSIGN_CODE, "CODE-20", userId="ann")
    await setup.record()
    expected = await setup.everything()
    await setup.put_back(behind)
    for key in [key for name in behind if (key := key_names.parse_key(name.decode())) and key.kind == kind]:
        await setup.redis.delete(key.name)
        await setup.redis.lpush(key.name, "x")
    with pytest.raises(Fenced, match="another type"):
        await setup.open()
    await setup.open()
    assert await setup.everything() == expected
    assert await setup.recovery() == "whole"


async def test_the_pause_for_other_processes(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts from when the partition is closed. What is configured until its end is in Redis when the gate opens."""
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)

    async def close(*args: Any) -> None:
        await close_partition(*args)
        clock.now = 100.0

    async def configure(begun: opening.Begun) -> None:
        assert begun.settled_at == 100.0
        assert (await read_partition(setup.pool, 0)).state == "closed"
        await add_codes(setup.pool, setup.caller.workspace, 0, 1, [CodeLine("LATE-1")])

    monkeypatch.setattr(opening, "time", clock)
    monkeypatch.setattr(opening, "close_partition", close)
    monkeypatch.setattr(opening.Begun, "wait_until_settled", configure)
    await setup.reopen()
    assert b'"available"' in await setup.do(coupon_view.READ, "LATE-1")


async def _more(setup: PartitionSetup) -> None:
    """Nine more facts of all kinds, and configuration; recorded."""
    workspace, book = setup.caller.workspace, 1
    await add_codes(setup.pool, workspace, 0, book, [CodeLine("LATE-1"), CodeLine("LATE-2", owner_id="zoe")])
    await setup.reopen()
    await setup.do(assign.ASSIGN_CODE, "LATE-1", "late-1", userId="ann")
    await setup.do(redeem.REDEEM, "CODE-20", "late-2", userId="ann", orderId="late", orderValue="7.00")
    await setup.do(redeem.REDEEM, "MANY-1", userId="u9")
    await setup.do(unassign.UNASSIGN, "LATE-2")
    await setup.do(rollback.ROLLBACK_ORDER, "o5", "late-3")
    few = await setup.pool.fetchval("SELECT book_id FROM books WHERE name = 'f'")
    bought = {"orderValue": "3", "giftBookId": str(few), "userId": "bob"}
    await setup.do(checkout.CHECKOUT, "", "late-4", code="CODE-21", orderId="late-c", **bought)
    await setup.do(checkout.CHECKOUT, "", "late-5", orderId="late-n", orderValue="3", userId="bob")
    await setup.do(rollback.ROLLBACK_ORDER, "late-c")
    assert await setup.record() > 8


@pytest.mark.parametrize("other", ["user", "time", "ahead"])
async def test_a_forked_redis_is_rebuilt(setup: PartitionSetup, other: str) -> None:
    """A Redis that differs from the record, or is ahead, is rebuilt; its other events are quarantined and blocked."""
    kept = await setup.snapshot()
    fork = f"CODE-{30 if other == 'user' else 31}"
    await setup.do(assign.ASSIGN_CODE, fork, userId="ann")
    forked = await setup.snapshot()
    await setup.put_back(kept)
    await setup.do(
        assign.ASSIGN_CODE, fork if other == "time" else "CODE-30", userId="bob" if other == "user" else "ann"
    )
    await setup.record()
    await _more(setup)
    before = await setup.everything()
    await setup.put_back(forked)
    if other == "ahead":
        await setup.redis.xadd("{p0}:outbox", {"e": "A 1 1 CODE-40 ann 1 1\n{}"}, id=f"{10**6}-1")
    await setup.open()
    assert await setup.recovery() == "whole"
    aside = [fork, "CODE-40"] if other == "ahead" else [fork]
    names = [code.encode() for code in aside]
    assert without(await setup.everything(), *names) == without(before, *names)
    await setup.learn()
    await assert_blocked(setup, *aside)
    assert await setup.pool.fetchval("SELECT count(*) FROM quarantine") == len(aside)

    await order_rebuild(setup.pool, 0, "an operator ordered it")
    with capture_logs() as logs:
        await setup.open()
    assert "rebuilt" in (events := [entry["event"] for entry in logs])
    assert "events_set_aside" not in events  # they were logged once


async def test_recovered_facts_are_not_applied_again(setup: PartitionSetup) -> None:
    """A Redis as it was at the end of a recovery gets the recovered facts no second time."""
    kept = await setup.snapshot()
    await _more(setup)
    await setup.put_back(kept)
    await setup.open()
    assert await setup.recovery() == "tail"
    mended = await setup.snapshot()
    await setup.learn()
    await setup.do(assign.ASSIGN_CODE, "CODE-50", userId="ann")
    assert await setup.record() == 1
    before = await setup.everything()
    await setup.put_back(mended)
    await setup.open()
    assert await setup.everything() == before


async def test_a_recovery_from_another_postgres_is_not_entered(
    setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Postgres was restarted during a recovery, the opening fails and the next one recovers again."""
    before, cursor = await setup.everything(), (await read_partition(setup.pool, 0)).cursor
    mended = Restorer.append_recovery_entry

    async def started_anew(self: Restorer) -> None:
        await mended(self)
        await setup.pool.execute("VACUUM FULL config_versions")

    await setup.redis.flushall()
    with monkeypatch.context() as patched:
        patched.setattr(Restorer, "append_recovery_entry", started_anew)
        with pytest.raises(LeaseLost, match="restarted while"):
            await setup.open()
    assert (await read_partition(setup.pool, 0)).cursor == cursor
    await setup.open()
    assert await setup.everything() == before
