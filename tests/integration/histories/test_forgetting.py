"""Orders are forgotten after `orderDays`: their redemptions stand, and their ids may be used anew."""

from typing import Any

import msgspec
import pytest
import pytest_asyncio

from service.hot.connection import Broken
from service.hot.projection import RedisProjector
from service.operations import gift, redeem, rollback
from service.reconcile.comparison import Busy, reconcile
from service.record.config.workspace_rows import patch_workspace
from tests.integration.histories.forgetting_fixtures import ORDER_DAYS, Forgetting
from tests.integration.histories.retiring_fixtures import end_book, move, where_is
from tests.integration.opening.opening_fixtures import Place


@pytest_asyncio.fixture
async def later(place: Place, monkeypatch: pytest.MonkeyPatch) -> Forgetting:
    forgetting = Forgetting(place, monkeypatch)
    await forgetting.age()
    return forgetting


async def do(place: Place, *request: Any, **body: Any) -> Any:
    """The decoded body of an answer."""
    return msgspec.json.decode(await place.do(*request, **body))


async def agrees(place: Place) -> bool:
    """Whether Redis has what Postgres says, and Postgres has taken every event."""
    assert await place.pool.fetchval("SELECT count(*) FROM quarantine") == 0
    outcome = await reconcile(place.valkey_url, place.pool, 0, repair=False)
    return (outcome.differing, outcome.unsettled) == ({}, 0)


async def take_again(place: Place, code: str, order: str) -> Any:
    """Redeem another code for an order."""
    made = await do(place, redeem.REDEEM, code, userId="zoe", orderId=order, orderValue="1.00")
    await place.record()
    return made


async def redemption_of(place: Place, code: str) -> str:
    return str(await place.pool.fetchval("SELECT redemption_id FROM redemptions WHERE code = $1", code))


async def test_a_forgotten_order_may_be_used_anew(place: Place, later: Forgetting) -> None:
    """An order is remembered for `orderDays`. Then its id takes a coupon and a gift again; the code, its redemption and
    all counts stay as they are, and a rebuild brings none of it back."""
    others, book = await later.others(), await place.pool.fetchval("SELECT book_id FROM books WHERE book = 3")
    assert await place.refusal(redeem.REDEEM, "CODE-50", userId="zoe", orderId="o5") == "order_already_used"
    assert await place.refusal(rollback.ROLLBACK_ORDER, "o2") == "already_rolled_back"
    remembered = await later.orders()
    assert await later.forget(ORDER_DAYS - 6 / 24)
    assert await later.orders() == remembered
    assert await later.forget()
    assert await later.orders() == {}
    assert await place.pool.fetchval("SELECT count(*) FROM order_uses") == 0
    assert await later.others() == others
    assert await agrees(place)
    assert await place.refusal(redeem.REDEEM, "CODE-5", userId="ann", orderId="o5") == "coupon_redeemed"
    for order in ("o2", "o5", "o9"):
        assert await place.refusal(rollback.ROLLBACK_ORDER, order) == "order_not_found"
    await take_again(place, "CODE-50", "o5")
    before = await place.pool.fetchval("SELECT code FROM assignments WHERE order_id = 'o10'")
    given = await do(place, gift.GIFT, "bob", bookId=str(book), orderId="o10")
    await place.record()
    assert given["code"] != before
    assert (await do(place, gift.GIFT, "bob", bookId=str(book), orderId="o10"))["code"] == given["code"]
    assert await place.refusal(redeem.REDEEM, "CODE-51", userId="zoe", orderId="o5") == "order_already_used"
    held = await place.everything()
    await place.rebuild()
    assert await place.recovery() == "whole"
    assert await place.everything() == held
    assert await agrees(place)


async def test_a_repeat_is_a_repeat_while_the_order_is_remembered(place: Place, later: Forgetting) -> None:
    """The same redemption again is answered with the first one, until the order is forgotten: then it is another."""
    same = {"userId": "bob", "orderId": "o11", "orderValue": "3"}
    first = str(await place.pool.fetchval("SELECT redemption_id FROM redemptions WHERE order_id = 'o11'"))
    assert (await do(place, redeem.REDEEM, "MANY-1", **same))["redemptionId"] == first
    await later.forget()
    second = (await do(place, redeem.REDEEM, "MANY-1", **same))["redemptionId"]
    assert second != first
    assert (await do(place, redeem.REDEEM, "MANY-1", **same))["redemptionId"] == second
    await place.record()
    assert await agrees(place)


async def test_a_late_rollback_leaves_the_new_use_alone(place: Place, later: Forgetting) -> None:
    """A redemption of a forgotten order is rolled back by its id, with its use and without; the order keeps what it has
    taken since, also if the rollback is applied again."""
    old, other = await redemption_of(place, "CODE-5"), await redemption_of(place, "CODE-6")
    await later.forget()
    new = await take_again(place, "CODE-50", "o5")
    before = await place.snapshot()
    for redemption, restore in ((old, True), (other, False)):
        assert (await do(place, rollback.ROLLBACK, redemption, restore=restore))["rolledBackAt"]
        await place.record()
        assert await place.refusal(rollback.ROLLBACK, redemption) == "already_rolled_back"
    assert list(await later.orders()) == ["o:o5"]
    assert await place.refusal(redeem.REDEEM, "CODE-51", userId="zoe", orderId="o5") == "order_already_used"
    held = await place.everything()
    assert await agrees(place)
    await place.put_back(before)
    await place.reopen()
    assert await place.recovery() == "tail"
    assert await place.everything() == held
    (rolled_back,) = (await do(place, rollback.ROLLBACK_ORDER, "o5"))["items"]
    assert rolled_back["redemptionId"] == new["redemptionId"]
    await take_again(place, "CODE-5", "o6")
    assert await agrees(place)


@pytest.mark.parametrize("rebuilds", [False, True])
async def test_a_worker_may_die_at_any_run(place: Place, later: Forgetting, rebuilds: bool) -> None:
    """Workers that die one after another, each a run of a script later, forget all orders. No comparison reports drift
    in between, nor does a rebuild bring back what Postgres has forgotten."""
    others, half_done = await later.others(), 0
    for dies_after in range(20):
        try:
            if await later.forget(dies_after=dies_after):
                break
        except Broken:
            pass
        if rebuilds:
            await place.rebuild()
        try:
            assert await agrees(place)
        except Busy:
            half_done += 1
    assert (half_done > 1) is not rebuilds  # a rebuilt Redis has forgotten what Postgres has
    assert await later.forget()
    assert await later.orders() == {}
    assert await later.others() == others
    for n in range(3, 8):
        await take_again(place, f"CODE-5{n}", f"o{n}")
    assert await agrees(place)


async def test_a_redis_that_lost_it_forgets_again(place: Place, later: Forgetting) -> None:
    """If Redis loses its end, an order that was used anew since keeps its new place, and loses the old one."""
    before = await place.snapshot()
    await later.forget()
    await take_again(place, "CODE-50", "o5")
    held, orders = await place.everything(), await later.orders()
    await place.put_back(before)
    await place.reopen()
    assert await place.recovery() == "tail"
    assert len((await later.orders())["o:o5"].split()) == 2
    with pytest.raises(Busy):
        await agrees(place)
    assert await place.refusal(redeem.REDEEM, "CODE-51", userId="zoe", orderId="o5") == "order_already_used"
    assert await later.forget()
    assert await later.orders() == orders
    assert await place.everything() == held
    assert await agrees(place)


async def test_a_postgres_that_lost_it_remembers_again(place: Place, later: Forgetting) -> None:
    """If Postgres loses that orders were forgotten, Redis is rebuilt with them: neither has less than the other."""
    held = await place.everything()
    kept = await place.pool.fetch("SELECT * FROM order_uses")
    await later.forget()
    await place.pool.execute("UPDATE workspaces SET orders_since = NULL")
    await place.pool.execute(
        "UPDATE open_assignments AS open SET order_id = a.order_id FROM assignments a "
        "WHERE (a.workspace, a.epoch, a.seq) = (open.workspace, open.epoch, open.seq)"
    )
    await place.pool.executemany("INSERT INTO order_uses VALUES ($1, $2, $3, $4)", [tuple(row) for row in kept])
    await place.reopen()
    assert await place.pool.fetchval("SELECT reason FROM recoveries ORDER BY epoch DESC LIMIT 1") == (
        "it has forgotten orders that Postgres remembers"
    )
    assert await place.everything() == held
    assert await agrees(place)


async def test_a_book_returns_without_forgotten_orders(place: Place, later: Forgetting) -> None:
    """Orders forgotten while their book was retired stay so when it is back. A book of their gifts may leave."""
    await end_book(place, 31, 3)
    await move(place)
    assert await where_is(place, 3) == "returning"
    await move(place)
    others = await later.others()
    await end_book(place, 31)
    assert await move(place) == "retired"
    assert await later.forget()
    await take_again(place, "MANY-1", "o5")
    await end_book(place, -1)
    assert await move(place) is None
    assert list(await later.orders()) == ["o:o5"]
    assert (await later.others()).keys() >= {name for name in others if b":d:" in name}
    assert await agrees(place)
    await place.pool.execute("UPDATE books SET returned_at = NULL")
    await move(place)
    assert await where_is(place, 3) == "retired"
    assert await agrees(place)


async def test_a_changed_setting_applies_to_what_is_remembered(place: Place, later: Forgetting) -> None:
    """Fewer days forget orders that would have been remembered; more bring none back, and hold for what came since."""

    async def set_days(days: int) -> None:
        row = await patch_workspace(place.pool, place.caller.workspace, 0, {"order_days": days})
        projector = RedisProjector(place.decider.run)
        await projector.workspace(row)
        await projector.seen(0, row.version)

    await later.forget(30)
    assert "o:o5" in await later.orders()
    await set_days(1)
    await later.forget(1 - 2 / 24)
    assert await later.orders() == {}
    await set_days(ORDER_DAYS)
    await take_again(place, "CODE-50", "o5")
    await later.forget(30)
    assert list(await later.orders()) == ["o:o5"]
    assert await agrees(place)


async def test_only_old_places_of_an_order_are_forgotten(place: Place, later: Forgetting) -> None:
    """If an order may have two coupons, each has its own time: the earlier one's place is free, the later one's not."""
    await patch_workspace(place.pool, place.caller.workspace, 0, {"coupons_per_order": 2})
    await place.reopen()
    await take_again(place, "CODE-50", "o5")
    await later.forget()
    (left,) = [text for order, text in (await later.orders()).items() if order == "o:o5"]
    assert left.endswith(":2")
    assert await agrees(place)
    await take_again(place, "CODE-51", "o5")
    assert await place.refusal(redeem.REDEEM, "CODE-52", userId="zoe", orderId="o5") == "order_already_used"
    assert await agrees(place)


async def test_a_test_workspace_forgets_nothing(place: Place, later: Forgetting) -> None:
    """The clock of a test workspace may go back, so its orders are remembered for ever."""
    held = await place.everything()
    await place.pool.execute("UPDATE workspaces SET mode = 'test'")
    assert await later.forget(9999)
    assert await place.everything() == held
    assert await agrees(place)
