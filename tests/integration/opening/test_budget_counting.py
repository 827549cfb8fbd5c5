"""Budgets that are set later: counting survives a kill after each step, and a Redis that loses the counts refuses."""

import asyncio
from typing import Any

import pytest

from service.engine.domain.configuration import BookRow
from service.engine.domain.decoding import convert
from service.engine.hot.connection import Broken
from service.engine.operations import redeem, rollback
from service.engine.worker.projection_catchup import projector_of
from service.server.in_postgres import budget_rows
from service.server.in_postgres.book_rows import patch_book, read_book
from service.server.reconcile.comparison import reconcile
from service.server.requests.book_requests import PatchBook
from service.server.tasks import budget_counter
from service.server.tasks.budget_counter import BudgetCounter
from tests.integration.opening.opening_fixtures import Life, PartitionSetup

_LIMITS = [{"uses": 4, "per": "user", "period": "day"}, {"uses": 60, "per": "book", "period": "month"}]


async def bound(setup: PartitionSetup) -> BookRow:
    """Set limits of uses of the first book, after users have redeemed codes of it."""
    for number in range(20, 31):
        await setup.do(redeem.REDEEM, f"CODE-{number}", userId=f"user-{number % 5}", orderId=f"b-{number}")
    await setup.do(rollback.ROLLBACK_ORDER, "b-30")
    await setup.record()
    (book_id,) = await setup.pool.fetchrow("SELECT book_id FROM books WHERE book = 1") or [None]
    limits: Any = convert({"useLimits": _LIMITS}, PatchBook)
    row = await patch_book(setup.pool, setup.caller.workspace, 0, book_id, limits)
    await setup.catch_up()
    return row


async def count(setup: PartitionSetup, dies_after: int = -1) -> None:
    """Count as a worker that dies after so many commands. Raises Broken when it did."""
    async with setup.server() as server:
        scripts = await setup.scripts()
        counter = BudgetCounter(setup.pool, server, scripts, projector_of(server, scripts))
        await counter.load()
        server.life = Life(dies_after)
        assert await counter.count_all()


async def assert_counted(setup: PartitionSetup) -> None:
    """A comparison finds no difference; a user may redeem so often and no more."""
    await setup.record()
    outcome = await reconcile(setup.valkey_url, setup.pool, 0, repair=False)
    assert outcome.differing == {}
    for number in range(40, 42):
        await setup.do(redeem.REDEEM, f"CODE-{number}", userId="user-1", orderId=f"c-{number}")
    assert await setup.refusal(redeem.REDEEM, "CODE-42", userId="user-1") == "period_limit"


async def test_a_count_that_is_killed_after_each_step(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker goes on where the one before was, while users redeem and roll back."""
    for module in (budget_rows, budget_counter):
        monkeypatch.setattr(module, "USERS_A_PAGE", 2)
    row = await bound(setup)
    kills = 0
    for number in range(20):
        try:
            await count(setup, dies_after=2)
        except Broken:
            kills += 1
            await setup.do(redeem.REDEEM, f"CODE-{60 + number}", userId=f"late-{number}", orderId=f"d-{number}")
            if number == 2:
                await setup.do(rollback.ROLLBACK_ORDER, "b-29")
        else:
            break
    assert kills > 3
    assert (await read_book(setup.pool, row.workspace, row.book_id)).is_counted
    await assert_counted(setup)


async def test_two_workers_that_count_at_once(setup: PartitionSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither adds what the other has added."""
    for module in (budget_rows, budget_counter):
        monkeypatch.setattr(module, "USERS_A_PAGE", 2)
    await bound(setup)
    await asyncio.gather(*(count(setup) for _ in range(4)))
    await assert_counted(setup)


async def test_a_redis_that_has_lost_the_counts(setup: PartitionSetup) -> None:
    """It refuses until they are counted again; an emptied one has them from the events that are applied again."""
    before = await setup.snapshot()
    await bound(setup)
    await count(setup)
    await setup.record()
    await setup.put_back(before)
    await setup.reopen()
    assert await setup.recovery() == "tail"
    assert await setup.refusal(redeem.REDEEM, "CODE-40", userId="user-1") == "unavailable"
    await count(setup)
    await setup.rebuild()
    await assert_counted(setup)
