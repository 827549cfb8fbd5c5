"""A workspace moves while its keys change fast, users are deleted, or Postgres ends a connection."""

import asyncio
from typing import Any

import pytest

from service.hot.key_copies import Copies
from service.operations import redeem
from service.record.facts.user_deletion import begin_erasure, is_erased
from service.record.partitions import moves
from service.record.partitions.moves import Move, Switch, read_move
from service.worker.moving import key_copier, workspace_mover
from service.worker.moving.workspace_mover import WorkspaceMover
from tests.integration.moving.moving_fixtures import MovingShop, Stop, begin_move, buy, stop_and_compare
from tests.waiting import elapse, wait_until


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every round of copying counts as lost. The list gets a word for each pause."""
    pauses: list[str] = []
    original = WorkspaceMover._paused

    def pause(*args: Any) -> Any:
        pauses.append("pause")
        return original(*args)

    monkeypatch.setattr(WorkspaceMover, "_paused", pause)
    monkeypatch.setattr(key_copier, "LONG_S", -1.0)
    monkeypatch.setattr(key_copier, "LEAST_GAIN", -1.0)
    monkeypatch.setattr(key_copier, "LOST_ROUNDS", 1)
    monkeypatch.setattr(key_copier, "OPEN_S", 0.1)
    return pauses


async def test_the_workspace_is_paused_while_copying_falls_behind(
    shop: MovingShop, monkeypatch: pytest.MonkeyPatch, paused: list[str]
) -> None:
    """If keys change faster than they are copied, the workspace refuses its requests for moments, and opens again; no
    pause begins once other changes of configuration wait. Each code is sold once, and nothing is lost."""
    bought: list[str] = []
    buying = asyncio.create_task(buy(shop, bought))
    stop, moving = await begin_move(shop, monkeypatch, Switch, "move_codes", after=False)
    await wait_until(lambda: len(paused) > 2)
    so_far = len(bought)
    await wait_until(lambda: len(bought) > so_far + 5)
    stop.go_on()
    move = await moving
    assert move.attempts == 1
    await stop_and_compare(shop, buying, bought)


async def test_a_worker_dies_during_a_pause(
    shop: MovingShop, monkeypatch: pytest.MonkeyPatch, paused: list[str]
) -> None:
    """The next worker opens the workspace again, and moves it."""
    bought: list[str] = []
    buying = asyncio.create_task(buy(shop, bought))
    with monkeypatch.context() as patch:
        Stop(patch, Switch, "move_codes", after=False)  # so that the keys of purchases are copied until a pause
        _, moving = await begin_move(shop, patch, Copies, "leave", after=True)
        assert paused
        await shop.fleet.replace("next")
        await moving
    await stop_and_compare(shop, buying, bought)


@pytest.mark.parametrize(("where", "name"), [(Copies, "copy_from"), (Switch, "move_codes")])
async def test_a_user_is_deleted_during_a_move(
    shop: MovingShop, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    """The deletion does not wait for the end of the move, neither while keys are copied nor while rows are moved; the
    move goes on afterwards, in the same attempt."""
    await shop.do(redeem.REDEEM, "CODE-1", userId="ann", orderId="o1")
    stop, moving = await begin_move(shop, monkeypatch, where, name, after=False)
    last = await shop.fleet.decider.tail(0)
    pseudonym = await begin_erasure(shop.fleet.pool, shop.caller.workspace, 0, "ann", last)
    await wait_until(lambda: is_erased(shop.fleet.pool, shop.caller.workspace, pseudonym))
    assert shop.caller.partition == 0
    stop.go_on()
    move = await moving
    assert move.attempts == 1
    rows = await shop.fleet.pool.fetch("SELECT partition, user_id FROM redemptions")
    assert [tuple(row) for row in rows] == [(1, pseudonym)]


async def test_other_processes_know_when_rows_are_moved(shop: MovingShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletions wait for this stage of a move, not for the copying of keys."""
    stages = [Stop(monkeypatch, Copies, "copy_from", after=False), Stop(monkeypatch, Switch, "move_codes", after=False)]
    moving = asyncio.create_task(shop.move(1))
    for stage, is_switching in zip(stages, (False, True), strict=True):
        await stage.is_reached.wait()
        assert await moves.is_switching(shop.fleet.pool, shop.caller.workspace) is is_switching
        stage.go_on()
    await moving
    assert not await moves.is_switching(shop.fleet.pool, shop.caller.workspace)


async def test_a_slow_closing_keeps_its_transaction(shop: MovingShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Postgres does not end the transaction as idle, although the last copies take longer than the bound."""
    monkeypatch.setattr(moves, "_CLOSING", moves._CLOSING | {"idle_in_transaction_session_timeout": "500ms"})
    monkeypatch.setattr(workspace_mover, "KEEP_S", 0.1)
    arrive = Copies.arrive

    async def arrive_late(self: Copies) -> Any:
        await elapse(1.0, "a slow server")
        return await arrive(self)

    monkeypatch.setattr(Copies, "arrive", arrive_late)
    move = await shop.move(1)
    assert move.attempts == 1


async def test_a_lost_connection_shows_at_once(shop: MovingShop, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Postgres ends the move's connection, the attempt ends at once with that reason; the next one moves it."""
    _, moving = await begin_move(shop, monkeypatch, Switch, "move_codes", after=False)
    assert await shop.fleet.pool.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'"
    )
    await wait_until(lambda: _has_reason(shop, "interrupted: Postgres has ended the connection"), patience_s=10)
    assert (await moving).attempts == 2


async def _has_reason(shop: MovingShop, reason: str) -> Move | None:
    move = await read_move(shop.fleet.pool, shop.caller.workspace)
    return move if move and move.reason == reason else None
