"""A redeem spends one use, answers with its amounts, and is in the outbox once."""

import json
from typing import Any

import pytest

from service.engine.domain.times import from_ms
from service.engine.formats.event_id import parse_event_id
from service.engine.formats.events import Redeemed
from service.engine.formats.redemption_id import id_from_numbers
from service.engine.operations import table
from tests.harness import kinds
from tests.harness.cases import MISSING, TOKENS, USES, VALUES, posts
from tests.harness.described import ITEM, LINE, ORDER, Description, Good
from tests.harness.redemptions import redeemed_text
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop
from tests.lua.outbox import parse_entry

DESCRIBED = (
    Description(
        row=table.REDEEM,
        path="/v1/coupons/redeem/{free4}",
        body={"userId": "{ann}", "orderId": "{order}", "orderValue": 5},
        goods=(
            Good({"userId": "u"}, {"userId": kinds.ID, "expectedFinalAmount": kinds.MONEY} | ORDER, "userId"),
            Good({"userId": "u", "items": [ITEM]}, LINE, " ".join(LINE)),
        ),
        refusals=posts(
            "/v1/coupons/redeem/{code}",
            *MISSING,
            *USES,
            *TOKENS,
            *VALUES,
            ("order_value_required", {"code": "{priced}"}),
            userId="{ann}",
            orderId="{new}",
        ),
        refused="behind",
        writes=True,
        ask=lambda shop, _, code, *__, **more: shop.redeem(code, "ann", orderId=code, **more),
    ),
)


async def test_a_redemption_answers_with_all_of_the_request(still: Shop, uses: int | None) -> None:
    """A redeem answers 201 with the redemption, and its event carries every part of it."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    body = {"orderId": "A-1", "orderValue": "99.90", "metadata": {"till": [1, None, "ä b"]}}
    status, redemption = await still.redeem("CODE-1", "ann", **body)
    assert status == 201
    own_id = redemption["redemptionId"]
    assert redemption == {
        "redemptionId": own_id,
        "code": "CODE-1",
        "bookId": str(book.book_id),
        "userId": "ann",
        "orderId": "A-1",
        "orderValue": "99.90",
        "currency": "USD",
        "discountAmount": "0.00",
        "finalAmount": "99.90",
        "balanceAfter": None,
        "redeemedAt": from_ms(NOW_MS),
        "rolledBackAt": None,
        "ipAddress": "192.0.2.1",
        "userAgent": "tests",
        "metadata": {"till": [1, None, "ä b"]},
        "durability": "accepted",
    }
    event = await still.last_event()
    assert event["d"] == redeemed_text(value_e4=999_000, at_ms=NOW_MS, max_uses=uses or 0)
    entry_id, _ = (await still.events())[-1]
    assert own_id == id_from_numbers(*parse_event_id(entry_id), NOW_MS)
    assert json.loads(event["r"]) == {"ip": "192.0.2.1", "ua": "tests", "metadata": {"till": [1, None, "ä b"]}}
    assert "i" not in event


async def test_a_redemption_without_order_and_value(still: Shop) -> None:
    """Without an order value finalAmount is null; the event has '-' for order and value, and slot 0."""
    await still.book("CODE-1")
    _, redemption = await still.redeem("CODE-1", "ann")
    assert (redemption["orderId"], redemption["orderValue"], redemption["finalAmount"]) == (None, None, None)
    assert redemption["discountAmount"] == "0.00"
    (event,) = await redeemed_events(still)
    assert (event.order, event.value_e4, event.currency, event.discount_e4, event.slot, event.max_uses) == (
        None, None, "USD", 0, 0, 1,
    )  # fmt: skip


async def redeemed_events(shop: Shop) -> list[Redeemed]:
    events = [parse_entry(*entry) for entry in await shop.read_outbox_entries()]
    return [event for event in events if isinstance(event, Redeemed)]


async def test_a_repeat_for_the_same_order_is_the_same_redemption(still: Shop, uses: int | None) -> None:
    """The same user, code and order are answered 200 with the redemption that stands, whatever else is wrong by now."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses, max_redemptions=2)
    _, first = await still.redeem("CODE-1", "ann", orderId="A-1", orderValue="5")
    events = len(await still.events())
    await still.change(book, status="inactive", max_redemptions=1)
    assert await still.redeem("CODE-1", "ann", orderId="A-1", lockToken="never-was") == (200, first)
    assert len(await still.events()) == events
    await still.refuses("book_inactive", still.redeem("CODE-1", "bob", orderId="A-1"))
    await still.rollback(first["redemptionId"])
    await still.refuses("book_inactive", still.redeem("CODE-1", "ann", orderId="A-1"))


async def test_the_holder_redeems_by_token_or_by_user_and_order(still: Shop, uses: int | None) -> None:
    """A live lock serves its token, and its user and order without a token; it ends with the redeem."""
    await still.book("CODE-1", "CODE-2", "CODE-3", max_redemptions_per_code=uses, require_lock=True)
    _, lock = await still.lock("CODE-1", "ann", orderId="A-1")
    token = lock["lockToken"]
    assert (await still.redeem("CODE-1", "ann", orderId="A-1", lockToken=token))[0] == 201
    assert (await still.coupon("CODE-1"))[1]["lock"] is None
    assert (await still.extend("CODE-1", token))[1] == "lock_lost"
    await still.lock("CODE-2", "ann", orderId="A-2")
    assert (await still.redeem("CODE-2", "ann", orderId="A-2"))[0] == 201
    _, lock = await still.lock("CODE-3", "ann")
    assert (await still.redeem("CODE-3", "ann", orderId="A-3", lockToken=lock["lockToken"]))[0] == 201


@pytest.mark.parametrize("uses", [1, 2])
async def test_a_used_up_coupon_is_refused(still: Shop, uses: int) -> None:
    """A single-use coupon is redeemed, one with several uses exhausted; neither can be locked or redeemed again."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    last: dict[str, Any] = {}
    for n in range(uses):
        await still.wait(1)
        _, last = await still.redeem("CODE-1", f"u{n}", orderId=f"A-{n}")
    refusal, status = ("coupon_redeemed", "redeemed") if uses == 1 else ("coupon_exhausted", "exhausted")
    await still.refuses(refusal, still.redeem("CODE-1", "ann"))
    await still.refuses(refusal, still.lock("CODE-1", "ann"))
    await still.refuses(refusal, still.assign("CODE-1", "ann"))
    await still.refuses("out_of_stock", still.assign_any(book, "ann"))
    _, coupon = await still.coupon("CODE-1")
    assert (coupon["status"], coupon["redemptions"], coupon["maxRedemptions"]) == (status, uses, uses)
    assert coupon["userId"] is None  # redeeming doesn't assign
    assert coupon["lastRedemption"] == {
        name: last[name] for name in ("redemptionId", "userId", "orderId", "redeemedAt")
    }
    stats = await still.stats(book)
    assert (stats["redemptions"], stats["redeemed" if uses == 1 else "exhausted"]) == (uses, 1)


@pytest.mark.parametrize(
    ("currency", "digits", "value"), [("JPY", 0, "100"), ("KWD", 3, "100.001"), ("CLF", 4, "1.0001")]
)
async def test_amounts_have_their_currencys_digits(still: Shop, currency: str, digits: int, value: str) -> None:
    """Currencies with 0, 3 and 4 digits, of the discount and of the workspace: more digits are invalid."""
    own: dict[str, Any] = {"currency": currency, "digits": digits}
    await still.book("CODE-1", discount={"type": "percentage", "value_e4": 500_000, **own})
    await still.put_workspace(currency=currency, digits=digits)
    await still.book("CODE-2", "CODE-3", discount={"type": "fixed", "value_e4": 10_000, **own})
    await still.book("CODE-4")
    for n, code in enumerate(["CODE-1", "CODE-2", "CODE-4"]):
        named = {"currency": currency} if n % 2 else {}
        too_fine = value + ("1" if "." in value else ".1")
        await still.refuses("invalid", still.redeem(code, "ann", orderValue=too_fine, **named))
        await still.refuses("invalid", still.validate(code, orderValue=too_fine, **named))
        await still.refuses("currency_mismatch", still.redeem(code, "ann", orderValue="1", currency="USD"))
        assert (await still.validate(code, orderValue=value, currency=currency))[1]["valid"]
        _, redemption = await still.redeem(code, "ann", orderValue=value, **named)
        assert (redemption["currency"], redemption["orderValue"]) == (currency, value)
        assert len(redemption["discountAmount"].partition(".")[2]) == digits
    assert (await still.redeem("CODE-3", "ann", orderValue=value + ("0" if digits else ".000")))[0] == 201


async def test_orders_take_their_coupons_in_slots(still: Shop) -> None:
    """With couponsPerOrder 2 an order takes two coupons, the third is refused; a place given back is taken again."""
    await still.put_workspace(coupons_per_order=2)
    await still.book("CODE-1", "CODE-2", "CODE-3", "CODE-4")
    first = (await still.redeem("CODE-1", "ann", orderId="A-1"))[1]["redemptionId"]
    second = (await still.redeem("CODE-2", "bob", orderId="A-1"))[1]["redemptionId"]
    await still.refuses("order_already_used", still.redeem("CODE-3", "ann", orderId="A-1"))
    await still.rollback(first)
    assert (await still.redeem("CODE-3", "ann", orderId="A-1"))[0] == 201
    await still.rollback(second, restore=False)
    await still.refuses("order_already_used", still.redeem("CODE-4", "ann", orderId="A-1"))
    assert [event.slot for event in await redeemed_events(still)] == [1, 2, 1]


@pytest.mark.parametrize("offset_ms", [0, 86_400_000_000, -86_400_000_000])
async def test_windows_are_half_open(still: Shop, offset_ms: int) -> None:
    """By the workspace's clock a code works from validFrom until just before validUntil or its own expiry."""
    now = NOW_MS + offset_ms
    await still.set_offset(offset_ms)
    rules = {"valid_from_ms": now + 1, "valid_until_ms": now + 3, "max_redemptions_per_code": None}
    book = await still.book("CODE-1", "CODE-2", **rules)
    await still.add(book, "CODE-2", expires_ms=now + 2)
    await still.refuses("not_started", still.redeem("CODE-1", "ann"))
    await still.refuses("not_started", still.lock("CODE-1", "ann"))
    await still.wait(1)
    assert (await still.redeem("CODE-1", "ann"))[0] == 201
    assert (await still.redeem("CODE-2", "ann"))[0] == 201
    await still.wait(1)
    assert (await still.redeem("CODE-1", "ann"))[0] == 201
    await still.refuses("expired", still.redeem("CODE-2", "ann"))
    assert (await still.coupon("CODE-2"))[1]["status"] == "expired"
    await still.wait(1)
    await still.refuses("expired", still.redeem("CODE-1", "ann"))
    assert (await still.coupon("CODE-1"))[1]["status"] == "expired"


async def test_a_coupon_that_is_assigned_is_its_users(still: Shop) -> None:
    """Only its user redeems an assigned coupon; an unassigned one any user, unless the book requires an assignment."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3", require_assignment=True)
    await still.assign("CODE-1", "ann")
    await still.refuses("coupon_assigned_to_other", still.redeem("CODE-1", "bob"))
    await still.refuses("coupon_assigned_to_other", still.lock("CODE-1", "bob"))
    assert (await still.redeem("CODE-1", "ann"))[0] == 201
    await still.refuses("coupon_not_assigned", still.redeem("CODE-2", "ann"))
    await still.refuses("coupon_not_assigned", still.lock("CODE-2", "ann"))
    await still.change(book, require_assignment=False)
    assert (await still.redeem("CODE-2", "ann"))[0] == 201
