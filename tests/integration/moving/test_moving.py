"""A workspace moves to another partition while requests go on."""

import asyncio
import itertools
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from service.access.caller import Caller
from service.formats import key_names
from service.hot.key_copies import Copies
from service.operations import assign, gift, lock, redeem, rollback
from service.record.config.user_rows import create_user
from service.record.config.workspace_rows import create_workspace, read_workspace
from service.record.facts.timeline_queries import events_of
from service.record.partitions import moves
from service.record.partitions.moves import Switch, read_move
from service.record.partitions.partition_rows import read_partition
from service.record.pool import Database
from service.worker.moving.workspace_mover import WorkspaceMover
from service.worker.write_behind import Flusher
from tests.integration.moving.moving_fixtures import MovingShop, begin_move, buy, rebuild, stop_and_compare
from tests.integration.opening.fleet import Fleet
from tests.integration.opening.opening_fixtures import ask, refusal_of
from tests.waiting import elapse, running, wait_until


async def _trade(shop: MovingShop, redemption: str = "") -> dict[str, Any]:
    """Some of everything that Redis stores of a workspace; return each answer. A repeat rolls the first one's back."""
    if not redemption:
        made = await shop.do(redeem.REDEEM, "CODE-4", userId="dan", orderId="o2")
        redemption = msgspec.json.decode(made)["redemptionId"]
    return {
        "redeemed": await shop.do(redeem.REDEEM, "CODE-1", key="k1", userId="ann", orderId="o1"),
        "locked": await shop.do(lock.LOCK, "CODE-2", key="k2", userId="bob", lockSeconds=300),
        "assigned": await shop.do(assign.ASSIGN_CODE, "CODE-3", key="k3", userId="cat"),
        "back": await shop.do(rollback.ROLLBACK, redemption, key="k4", reason="test"),
    }


async def test_everything_moves(shop: MovingShop) -> None:
    """Locks, answers of Idempotency-Keys, assignments, redemptions and pools are the same in the target as they were in
    the source; nothing of them is left there, and an API that has not learned of the move is refused. What a rebuild of
    either partition restores from Postgres is the same, apart from locks, which it never restores."""
    answers = await _trade(shop)
    await wait_until(lambda: shop.fleet.pool.fetchval("SELECT count(*) FROM idempotency_keys WHERE key = 'k4'"))
    old, before = shop.caller, await shop.keys(0)
    move = await shop.move(1)
    assert len(await events_of(shop.fleet.pool, old.workspace, "code", "CODE-3")) == 1
    assert len(await events_of(shop.fleet.pool, old.workspace, "user", "cat")) == 1
    assert len(await events_of(shop.fleet.pool, old.workspace, "key", "k3")) == 1
    assert move.closed_ms is not None
    after = await shop.keys(1)
    assert after.pop("w") != before.pop("w")  # it has a newer version
    assert after == before
    assert (await shop.keys(0)).keys() == {"m"}
    late = ask(shop.fleet.decider, shop.fleet.pool, old, lock.LOCK, "CODE-9", userId="eve")
    assert await refusal_of(late) == "recovering"

    assert await _trade(shop, msgspec.json.decode(answers["back"])["redemptionId"]) == answers
    await shop.do(redeem.REDEEM, "CODE-2", userId="bob", lockToken=msgspec.json.decode(answers["locked"])["lockToken"])
    await shop.do(redeem.REDEEM, "CODE-5", userId="bob", orderId="o5")
    kept = {name: value for name, value in (await shop.keys(1)).items() if name != "i:k2"}
    await rebuild(shop.fleet, 0, 1)
    assert await shop.keys(1) == kept
    assert await shop.keys(0) == {}


async def test_gifts_caps_holds_and_quarantined_codes_move(shop: MovingShop) -> None:
    """A gift, a user at its cap, a lock and a code whose redemption is in quarantine are the same in the target, and so
    are the refusals. A rebuild of the target blocks that code."""
    fleet, workspace = shop.fleet, shop.caller.workspace
    await create_user(fleet.pool, workspace, 0, "full", 1, {})
    version = (await read_partition(fleet.pool, 0)).config_version
    await wait_until(lambda: _has_version(shop, version))
    await fleet.pool.execute("INSERT INTO single_uses VALUES ($1, 'CODE-8', gen_random_uuid())", workspace)
    await shop.do(redeem.REDEEM, "CODE-8", userId="ann")
    await wait_until(lambda: fleet.pool.fetchval("SELECT count(*) FROM quarantine"))
    await shop.do(assign.ASSIGN_CODE, "CODE-7", userId="full")
    locked = msgspec.json.decode(await shop.do(lock.LOCK, "CODE-9", userId="ann", lockSeconds=300))
    book_id = str(await fleet.pool.fetchval("SELECT book_id FROM books WHERE workspace = $1", workspace))
    given = msgspec.json.decode(await shop.do(gift.GIFT, "ann", bookId=book_id, orderId="g1"))
    refused = {
        "user_coupon_limit": (assign.ASSIGN_CODE, "CODE-11", {"userId": "full"}),
        "order_already_used": (gift.GIFT, "bob", {"bookId": book_id, "orderId": "g1"}),
        "coupon_redeemed": (redeem.REDEEM, "CODE-8", {"userId": "bob"}),
        "coupon_locked": (redeem.REDEEM, "CODE-9", {"userId": "bob"}),
        "coupon_assigned_to_other": (redeem.REDEEM, given["code"], {"userId": "bob"}),
    }

    async def refusals() -> list[str]:
        return [await refusal_of(shop.do(operation, name, **body)) for operation, name, body in refused.values()]

    assert await refusals() == [*refused]
    before = await shop.keys(0)
    await shop.move(1)
    assert {name: value for name, value in (await shop.keys(1)).items() if name != "w"} == {
        name: value for name, value in before.items() if name != "w"
    }
    assert await refusals() == [*refused]
    assert await fleet.pool.fetchval("SELECT partition FROM quarantine") == 1
    again = msgspec.json.decode(await shop.do(gift.GIFT, "ann", bookId=book_id, orderId="g1"))
    assert again["code"] == given["code"]
    await shop.do(redeem.REDEEM, "CODE-9", userId="ann", lockToken=locked["lockToken"])
    await rebuild(fleet, 1)
    of_rebuilt = {"coupon_redeemed": "coupon_inactive", "coupon_locked": "coupon_redeemed"}
    assert await refusals() == [of_rebuilt.get(code, code) for code in refused]


async def _has_version(shop: MovingShop, version: int) -> bool:
    return int(await shop.redis.get(key_names.config(shop.caller.partition)) or 0) >= version


async def test_a_move_under_traffic(shop: MovingShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While clients redeem, the workspace moves there and back and there. Each code is sold once, and nothing that was
    answered is lost; the other workspaces of both partitions are refused nothing."""
    neighbours: list[tuple[int, str]] = []
    bought: list[str] = []
    resident = shop.fleet.callers[1]
    buying = asyncio.create_task(buy(shop, bought))
    async with running(_redeem_forever(shop.fleet, resident, neighbours)):
        for target in (1, 0, 1):
            with monkeypatch.context() as patch:
                stop, moving = await begin_move(shop, patch, Copies, "leave", after=False, target=target)
                so_far = len(bought)
                await wait_until(lambda so_far=so_far: len(bought) > so_far + 2)  # changes that only the closing copies
                stop.go_on()
                await moving
            so_far = len(bought)
            await wait_until(lambda so_far=so_far: len(bought) > so_far + 5)
    assert len(neighbours) > 50
    await stop_and_compare(shop, buying, bought)


async def _redeem_forever(fleet: Fleet, caller: Caller, done: list[tuple[int, str]]) -> None:
    """Redeem another workspace's codes; a refusal ends it with an error."""
    for number in range(1000):
        await ask(fleet.decider, fleet.pool, caller, redeem.REDEEM, f"CODE-{number}", userId="zoe")
        done.append((caller.workspace, f"CODE-{number}"))
        await elapse(0.01, "the pace of the load")


async def test_nothing_is_closed_while_no_event_is_recorded(shop: MovingShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While events are not recorded, a workspace that is to move is served. It moves when they are recorded again."""
    step, records = Flusher.step, asyncio.Event()
    stop, moving = await begin_move(shop, monkeypatch, Copies, "copy_from", after=False)

    async def wait_for_records(self: Flusher) -> int:
        await records.wait()
        return await step(self)

    monkeypatch.setattr(Flusher, "step", wait_for_records)
    events = await shop.redis.xlen(key_names.outbox(1))
    stop.go_on()
    await wait_until(lambda: _has_more(shop, events))
    for number in range(10, 40):
        await shop.do(lock.LOCK, f"CODE-{number}", userId="bob", lockSeconds=300)
    assert shop.refused == 0
    records.set()
    await moving


async def _has_more(shop: MovingShop, events: int) -> bool:
    return await shop.redis.xlen(key_names.outbox(1)) > events


POINTS: tuple[tuple[Any, str, bool], ...] = (
    (Copies, "copy_from", False),
    (Copies, "leave", True),
    (Switch, "move_workspace", True),
    (WorkspaceMover, "_open", False),
    (WorkspaceMover, "_clear_source", False),
)
"""Steps of a move, and whether it stops after the step or before it."""


async def test_a_worker_dies_during_a_move(shop: MovingShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever the worker dies, the next one finishes the move, with clients buying all the time: nothing is lost or
    sold twice, and the workspace is in one partition only."""
    bought: list[str] = []
    buying = asyncio.create_task(buy(shop, bought))
    for number, point in enumerate(POINTS):
        target = 1 - shop.caller.partition
        with monkeypatch.context() as patch:
            _, moving = await begin_move(shop, patch, *point, target)
            await shop.fleet.replace(f"next-{number}")
            await moving
        so_far = len(bought)
        await wait_until(lambda so_far=so_far: len(bought) > so_far)
    await stop_and_compare(shop, buying, bought)


async def test_a_move_that_waits_delays_no_other(shop: MovingShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first move waits, the second workspace moves, and its old keys are removed although that failed once.
    The first one moves when it need not wait any more."""
    first = await _make_neighbour(shop)
    is_in_change, clear = moves.is_in_change, WorkspaceMover._clear_source
    waits, fails = [first], [shop.caller.workspace]

    async def is_first_in_change(database: Database, workspace: int) -> bool:
        return workspace in waits or await is_in_change(database, workspace)

    async def clear_second_time(self: WorkspaceMover, move: moves.Move) -> None:
        if fails:
            fails.clear()
            raise moves.CannotMove("a test")
        await clear(self, move)

    monkeypatch.setattr(moves, "is_in_change", is_first_in_change)
    monkeypatch.setattr(WorkspaceMover, "_clear_source", clear_second_time)
    assert await moves.order_move(shop.fleet.pool, first, 0, 1)
    await shop.move(1)
    assert not fails
    move = await read_move(shop.fleet.pool, first)
    assert move
    assert (move.state, move.attempts, move.reason[:6]) == ("ordered", 0, "waits:")
    waits.clear()
    await wait_until(lambda: _is_placed(shop, first, 1))


async def _make_neighbour(shop: MovingShop) -> int:
    """A workspace without books in the same partition."""
    ids = (uuid4() for _ in itertools.count())
    workspace_id = next(one for one in ids if key_names.partition_of(str(one), 2) == shop.caller.partition)
    async with shop.fleet.pool.acquire() as connection:
        return (await create_workspace(connection, workspace_id.hex, workspace_id=workspace_id)).workspace


async def _is_placed(shop: MovingShop, workspace: int, partition: int) -> bool:
    return (await read_workspace(shop.fleet.pool, workspace)).partition == partition


@pytest.mark.parametrize("partition", [0, 1])
async def test_a_partition_is_opened_during_a_move(
    shop: MovingShop, monkeypatch: pytest.MonkeyPatch, partition: int
) -> None:
    """If source or target is rebuilt while the workspace is closed, this attempt moves nothing; the next one does."""
    bought: list[str] = []
    buying = asyncio.create_task(buy(shop, bought, may_lose_lock=True))
    stop, moving = await begin_move(shop, monkeypatch, Copies, "arrive", after=True)
    await rebuild(shop.fleet, partition)
    stop.go_on()
    await moving
    move = await read_move(shop.fleet.pool, shop.caller.workspace)
    assert move
    assert move.attempts > 1
    await stop_and_compare(shop, buying, bought)


async def test_a_lost_move_is_found(shop: MovingShop) -> None:
    """A Redis that loses its end, and with it a move, is given what it lacks: the workspace is in the target, although
    the source's keys have its settings again, and the target's keys have nothing of it."""
    await _trade(shop)
    lost = await _dump(shop)
    await shop.move(1)
    kept = await shop.keys(1)
    epochs = await shop.fleet.read_epochs()
    await _put_back(shop, lost)
    await shop.fleet.until_opened(epochs)
    await shop.do(redeem.REDEEM, "CODE-7", userId="ann")
    after = await shop.keys(1)
    assert set(kept) - set(after) <= {"i:k2", "c:CODE-2", "l:1:u"}, "locks and their answers are lost"
    assert "w" not in await shop.keys(0)
    assert await shop.fleet.pool.fetchval("SELECT count(*) FROM quarantine") == 0


async def _dump(shop: MovingShop) -> dict[bytes, Any]:
    return {name: await shop.redis.dump(name) async for name in shop.redis.scan_iter("*", count=1000)}


async def _put_back(shop: MovingShop, lost: dict[bytes, Any]) -> None:
    """Make Redis what it was, without scripts, as a promoted replica that lagged."""
    async with shop.redis.pipeline(transaction=True) as pipe:
        pipe.flushall()
        pipe.script_flush()
        for name, stored in lost.items():
            pipe.restore(name, 0, stored)
        await pipe.execute()
