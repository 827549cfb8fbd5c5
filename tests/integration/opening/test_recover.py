"""What only Redis has is carried over into an older Postgres, or dropped (docs/internals/decisions/0077-recover.md)."""

from service.engine.hot.connection import Broken
from service.engine.operations import assign, redeem, rollback, unassign
from service.engine.record.partitions.openings import order_rebuild
from service.engine.worker.opening.surplus_survey import SurplusReport, SurplusSurvey
from service.server.in_postgres.code_rows import add_codes
from service.server.reconcile.comparison import reconcile
from service.server.requests.code_requests import CodeLine
from tests.integration.opening.opening_fixtures import PartitionSetup, assert_blocked, restored, trim

_LOST = ["CODE-40", "CODE-41", "CODE-42", "CODE-44", "CODE-9", "MANY-1", "LATE-1"]
"""Codes that are sold by lost events."""


async def _sell(setup: PartitionSetup) -> None:
    """Sell codes in every way. Of what comes first, the outbox keeps nothing."""
    workspace = setup.caller.workspace
    await add_codes(setup.pool, workspace, 0, 1, [CodeLine("LATE-1")])
    await setup.reopen()
    for n in range(40, 43):
        await setup.do(redeem.REDEEM, f"CODE-{n}", userId="ann", orderId=f"lost-{n}", orderValue="10.00")
    await setup.do(assign.ASSIGN_CODE, "CODE-43", userId="cid")
    await setup.do(assign.ASSIGN_CODE, "CODE-44", userId="cid")
    await setup.do(redeem.REDEEM, "CODE-44", userId="cid")
    await setup.do(redeem.REDEEM, "CODE-9", userId="ann", orderId="kept")
    await setup.do(rollback.ROLLBACK_ORDER, "kept", restore=False)
    await setup.do(redeem.REDEEM, "MANY-1", userId="dan")
    await setup.do(redeem.REDEEM, "LATE-1", userId="ann")
    await setup.do(rollback.ROLLBACK_ORDER, "o5")
    await setup.do(unassign.UNASSIGN, "CODE-1")
    await setup.record()
    await trim(setup)
    await setup.do(redeem.REDEEM, "CODE-50", "key-50", userId="ann", orderId="o50", orderValue="10.00")
    await setup.do(assign.ASSIGN_CODE, "CODE-51", userId="eve")
    await setup.record()


async def _plan(setup: PartitionSetup) -> SurplusReport:
    async with setup.server() as server:
        survey = SurplusSurvey(server, setup.pool)
        assert [one.is_whole async for page in survey.outbox() for one in page] == [True] * 3
        found = [sold async for page in survey.codes() for sold in page]
    assert len([sold for sold in found if not sold.is_whole]) == survey.report.blocked
    return survey.report


async def test_the_plan_tells_all(setup: PartitionSetup, older: str) -> None:
    """The figures are what was done since the back-up, and reading them changes nothing."""
    await _sell(setup)
    before = await setup.stored()
    async with restored(setup, older):
        report = await _plan(setup)
        assert await setup.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    assert await setup.stored() == before
    assert report.counts() == {
        "recorded": 3,  # with the anchor, which is the end of CODE-1's assignment
        "assigned": 2,  # CODE-43 and CODE-44
        "blocked": len(_LOST),
        "freed": len(_LOST) - 1 + 3,  # those without LATE-1, which Postgres does not have; CODE-43, CODE-50, CODE-51
        "returned": 1,  # the order o5
        "orders": 3,
        "users": 3,  # ann, cid and dan
        "unknown_codes": 1,
        "unknown_books": 0,
        "absent_books": 0,
    }
    assert sorted(code for _, code in report.listed) == sorted(_LOST)


async def test_all_is_carried_over(setup: PartitionSetup, older: str) -> None:
    """What the outbox has is recorded, as are assignments; every other sold code is blocked, with its event and order.
    A worker that dies at any step leaves nothing out, and does nothing twice."""
    await _sell(setup)
    async with restored(setup, older):
        await order_rebuild(setup.pool, 0, "an operator chose", "apply")
        for step in range(4, 200, 5):
            try:
                await setup.open(dies_after=step)
                break
            except Broken:
                continue
        await setup.learn()
        await assert_blocked(setup, *[code for code in _LOST if code != "LATE-1"])
        for code in ("CODE-50", "CODE-43", "CODE-51"):
            refusal = await setup.refusal(redeem.REDEEM, code, userId="bob")
            assert refusal in ("coupon_redeemed", "coupon_assigned_to_other")
        assert await setup.refusal(redeem.REDEEM, "LATE-1", userId="bob") == "coupon_not_found"
        rows = await setup.pool.fetch("SELECT d, resolution FROM quarantine ORDER BY d")
        words = [row["d"].decode().split(" ") for row in rows]
        assert sorted(word[3] for word in words) == sorted(_LOST)
        assert {word[3]: word[5] for word in words if len(word) > 5} == {
            f"CODE-{n}": f"lost-{n}" for n in range(40, 43)
        }
        assert {row["resolution"] for row in rows} == {None}
        facts = await setup.pool.fetch("SELECT kind, code, user_id FROM facts WHERE code IN ('CODE-43', 'CODE-50')")
        assert sorted(map(tuple, facts)) == [("A", "CODE-43", "cid"), ("R", "CODE-50", "ann")]
        outcome = await reconcile(setup.valkey_url, setup.pool, 0, repair=False)
        assert (outcome.differing, outcome.unsettled) == ({}, 0)


async def test_all_is_discarded(setup: PartitionSetup, older: str) -> None:
    """Exactly what the plan announces is free again. The outbox's events are kept, and block nothing."""
    await _sell(setup)
    async with restored(setup, older):
        freed = (await _plan(setup)).freed
        await order_rebuild(setup.pool, 0, "an operator chose", "discard")
        await setup.reopen()
        free = ["CODE-40", "CODE-41", "CODE-42", "CODE-43", "CODE-44", "CODE-9", "CODE-50", "CODE-51", "MANY-1"]
        for code in free:
            await setup.do(redeem.REDEEM, code, userId="bob")
        assert len(free) == freed
        rows = await setup.pool.fetch("SELECT resolution FROM quarantine")
        assert [row["resolution"] for row in rows] == ["release"] * 3
