"""A rollback happens once. With restore everything gets its use back, without it nothing does."""

from typing import Any

import pytest
from uuid_utils import uuid7

from service.engine.domain.times import from_ms
from service.engine.formats import key_names
from service.engine.formats.event_id import parse_event_id
from service.engine.formats.events import RequestPart, RolledBack
from service.engine.formats.redemption_id import id_from_numbers
from service.engine.operations import table
from tests.harness import kinds
from tests.harness.cases import NOBODYS, Case, posts
from tests.harness.described import Description, Good
from tests.harness.ends import FAR_IDS
from tests.harness.script_runner import EPOCH, NOW_MS
from tests.harness.shop import Shop
from tests.lua.outbox import parse_entry

_FIELDS = {"reason": kinds.text(0, 500), "restore": kinds.SWITCH}
DESCRIBED = (
    Description(
        row=table.ROLLBACK,
        scopes="manage",
        path="/v1/redemptions/{redemption}/rollback",
        body={},
        another="redemption_not_found",
        goods=(Good({}, _FIELDS),),
        refusals=(
            *(
                Case("redemption_not_found", "POST", f"/v1/redemptions/{name}/rollback", {})
                for name in (NOBODYS, FAR_IDS[1], "x")
            ),
            *posts("/v1/redemptions/{rolled}/rollback", ("already_rolled_back", {})),
            *posts("/v1/redemptions/{rolled}/rollback", ("already_rolled_back", {"restore": False, "reason": "again"})),
        ),
        refused="behind",
        writes=True,
        before=lambda shop, _, code: shop.redeem(code, "ann", orderId=code),
        ask=lambda shop, _, __, sold, **more: shop.rollback(sold[1]["redemptionId"], **more),
    ),
    Description(
        row=table.ROLLBACK_ORDER,
        scopes="manage",
        path="/v1/orders/{used_order}/rollback",
        body={},
        another="order_not_found",
        goods=(Good({}, _FIELDS),),
        refusals=(
            *(Case("order_not_found", "POST", f"/v1/orders/{name}/rollback", {}) for name in ("{new}", "a%20b")),
            *posts("/v1/orders/{undone}/rollback", ("already_rolled_back", {"restore": False})),
        ),
        refused="behind",
        writes=True,
        before=lambda shop, _, code: shop.redeem(code, "ann", orderId=code),
        ask=lambda shop, _, code, *__, **more: shop.rollback_order(code, **more),
    ),
)


@pytest.mark.parametrize("restore", [True, False])
async def test_what_a_rollback_answers_and_writes(still: Shop, uses: int | None, restore: bool) -> None:
    """It answers the redemption and rolledBackAt; its event names restore and reason; the assignment stays."""
    discount = {"type": "fixed", "value_e4": 12_300}
    book = await still.book("CODE-1", max_redemptions_per_code=uses, discount=discount)
    await still.assign("CODE-1", "ann")
    _, redemption = await still.redeem("CODE-1", "ann", orderId="A-1", orderValue="10")
    own_id = redemption["redemptionId"]
    await still.wait(5)
    status, body = await still.rollback(own_id.upper(), restore=restore, reason="returned")
    assert (status, body) == (200, {**redemption, "rolledBackAt": from_ms(NOW_MS + 5)})
    entry = (await still.read_outbox_entries())[-1]
    request = RequestPart(ip="192.0.2.1", ua="tests", reason="returned")
    assert parse_entry(*entry) == RolledBack(
        epoch=EPOCH, seq=4, request=request, workspace=1, book=1, code="CODE-1", user="ann", at_ms=NOW_MS + 5,
        order="A-1", redemption_id=own_id, restore=restore,
    )  # fmt: skip
    _, coupon = await still.coupon("CODE-1")
    assert (coupon["userId"], coupon["lastRedemption"], coupon["redemptions"]) == ("ann", None, int(not restore))
    stats = await still.stats(book)
    assert (stats["redemptions"], stats["rolled_back"], stats["users"], stats["taken"]) == (0, 1, 0, int(not restore))
    await still.refuses("already_rolled_back", still.rollback(own_id))
    await still.refuses("already_rolled_back", still.rollback_order("A-1"))


@pytest.mark.parametrize("restore", [True, False])
async def test_what_gets_its_use_back(still: Shop, restore: bool) -> None:
    """With restore the code, the user, the book and the order can be used again; without, each refuses by its name."""
    await still.book("CODE-1")
    await still.book("CODE-2", "CODE-3", max_redemptions_per_user=1)
    await still.book("CODE-4", "CODE-5", max_redemptions=1)
    await still.book("CODE-6", "CODE-7")
    used = [("CODE-1", "bob", None), ("CODE-2", "ann", None), ("CODE-4", "ann", None), ("CODE-6", "ann", "A-1")]
    for code, user, order in used:
        _, redemption = await still.redeem(code, user, **({"orderId": order} if order else {}))
        roll_back, name = (still.rollback_order, order) if order else (still.rollback, redemption["redemptionId"])
        assert (await roll_back(name, restore=restore))[0] == 200
    asks: list[tuple[str, str, dict[str, Any]]] = [
        ("CODE-1", "coupon_redeemed", {}),
        ("CODE-3", "user_redemption_limit", {}),
        ("CODE-5", "out_of_stock", {}),
        ("CODE-6", "coupon_redeemed", {"orderId": "A-2"}),
        ("CODE-7", "order_already_used", {"orderId": "A-1"}),
    ]
    for code, refusal, more in asks:
        if restore:
            assert (await still.redeem(code, "ann", **more))[0] == 201
        else:
            await still.refuses(refusal, still.redeem(code, "ann", **more))


async def test_a_redemption_that_never_was_is_not_found(still: Shop) -> None:
    """An unknown id, and what is no id of ours, is redemption_not_found; an unknown order is order_not_found."""
    for own_id in (str(uuid7()), "x", "{" + str(uuid7())[1:-1] + "}"):
        await still.refuses("redemption_not_found", still.rollback(own_id))
    for order in ("A-1", "no order", "", "a/b"):
        await still.refuses("order_not_found", still.rollback_order(order))


async def test_an_id_with_another_time_or_of_another_workspace_is_not_found(still: Shop) -> None:
    """Though it is made of an event that is in the outbox."""
    await still.book("CODE-1")
    await still.redeem("CODE-1", "ann")
    seq = parse_event_id((await still.events())[-1][0]).seq
    await still.refuses("redemption_not_found", still.rollback(id_from_numbers(EPOCH, seq, NOW_MS + 1)))
    fields = await still.last_event()
    other = await still.link.call(
        "XADD", key_names.outbox(0), f"{EPOCH}-*", "e", "{d}\n{r}".format(**fields).replace("R 1 ", "R 2 ", 1)
    )
    their_id = id_from_numbers(EPOCH, parse_event_id(other).seq, NOW_MS)
    await still.refuses("redemption_not_found", still.rollback(their_id))
    await still.link.call("XDEL", key_names.outbox(0), other)


async def test_a_code_that_left_with_its_book_has_nothing_to_roll_back(still: Shop) -> None:
    """Neither by the redemption nor by its order."""
    await still.book("CODE-1")
    _, redemption = await still.redeem("CODE-1", "ann", orderId="A-1")
    name = key_names.directory(still.caller.prefix, key_names.bucket("CODE-1"))
    entry = await still.link.call("HGET", name, "CODE-1")
    await still.link.call("HDEL", name, "CODE-1")
    await still.refuses("book_archived", still.rollback(redemption["redemptionId"]))
    await still.refuses("book_archived", still.rollback_order("A-1"))
    await still.link.call("HSET", name, "CODE-1", entry)


@pytest.mark.parametrize("is_recorded", [False, True])
async def test_an_order_is_rolled_back_as_a_whole(still: Shop, is_recorded: bool) -> None:
    """All redemptions that stand are rolled back, each with an event, also if only Postgres has the facts."""
    await still.put_workspace(coupons_per_order=4)
    await still.book("CODE-1", "CODE-2", max_redemptions_per_code=2)
    await still.book("CODE-3")
    ids = [
        (await still.redeem(code, user, orderId="A-1"))[1]["redemptionId"]
        for code, user in (("CODE-1", "ann"), ("CODE-1", "bob"), ("CODE-2", "ann"), ("CODE-3", "ann"))
    ]
    await still.rollback(ids[1], restore=False)
    if is_recorded:
        await still.record()
    before = len(await still.read_outbox_entries())
    await still.wait(1)
    status, body = await still.rollback_order("A-1", reason="cancelled")
    assert still.recalled == is_recorded
    assert (status, body["durability"]) == (200, "accepted")
    assert [item["redemptionId"] for item in body["items"]] == [ids[0], ids[2], ids[3]]
    assert {item["rolledBackAt"] for item in body["items"]} == {from_ms(NOW_MS + 1)}
    assert len({item["bookId"] for item in body["items"]}) == 2
    assert "durability" not in body["items"][0]
    events = [parse_entry(*entry) for entry in (await still.read_outbox_entries())[before:]]
    rolled_back = [event.redemption_id for event in events if isinstance(event, RolledBack)]
    assert rolled_back == [ids[0], ids[2], ids[3]]
    await still.refuses("already_rolled_back", still.rollback_order("A-1"))
    for n in range(3):
        assert (await still.redeem("CODE-2" if n else "CODE-1", f"u{n}", orderId="A-1"))[0] == 201
    assert (await still.redeem("CODE-3", "ann", orderId="A-1"))[1] == "order_already_used"  # one place was kept


async def test_facts_of_another_opening(still: Shop) -> None:
    """What was read for a Redis that was opened again since is asked for again: there the event may be another."""
    await still.book("CODE-1", "CODE-2")
    _, redeemed = await still.redeem("CODE-1", "ann")
    await still.record()
    right, wrong = dict(still.recorded), {name: record.replace("ann", "eve") for name, record in still.recorded.items()}

    async def reopened() -> None:
        still.recorded = right
        await still.load(EPOCH, "another")

    still.recorded, still.meanwhile = wrong, reopened
    status, rolled = await still.rollback(redeemed["redemptionId"])
    assert (status, rolled["userId"], still.recalled) == (200, "ann", 2)
