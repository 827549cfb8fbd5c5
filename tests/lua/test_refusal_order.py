"""Of all refusals that apply, the first in the contract's order is named; validate lists every one of them.

Each test begins where many apply, and lifts them one after the other."""

from typing import Any

import pytest

from tests.harness.described import Ask
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop

DISCOUNT = {"type": "fixed", "value_e4": 50_000, "min_order_value_e4": 100_000}
ASKS = ["redeem", "lock", "validate"]


async def named(shop: Shop, ask: str, request: dict[str, Any], expected: list[str]) -> None:
    """Ask, and compare with what should be refused."""
    body = dict(request)
    code = body.pop("code")
    if ask == "validate":
        before = await shop.everything()
        status, body = await shop.validate(code, **body)
        assert (status, body["reasons"], body["valid"]) == (200, expected, not expected)
        assert await shop.everything() == before
        return
    if ask == "lock":
        body.pop("lockToken", None)
    asked = getattr(shop, ask)(code, body.pop("userId"), **body)
    if expected:
        await shop.refuses(expected[0], asked)
    else:
        assert (await asked)[0] == 201


@pytest.mark.parametrize("ask", ASKS)
async def test_the_refusals_of_a_request_without_a_lock(still: Shop, ask: str) -> None:
    """Coupon, book, window, assignment, lock, the user's limit, the book's total, the order: in that order."""
    rules = {"max_redemptions_per_user": 1, "max_redemptions": 2, "discount": DISCOUNT}
    book = await still.book("CODE-1", "CODE-2", "CODE-OFF", **rules)
    await still.add(book, "CODE-OFF", active=False, expires_ms=NOW_MS)
    _, token = await still.lock("CODE-1", "bob")
    assert (await still.redeem("CODE-2", "ann", orderValue="20", orderId="A-1"))[0] == 201
    request: dict[str, Any] = {"code": "CODE-1", "userId": "ann", "orderId": "A-1", "currency": "EUR"}

    async def change(**more: Any) -> None:
        nonlocal book
        book = await still.change(book, **more)

    async def switch(**more: Any) -> None:
        await still.add(book, "CODE-1", **more)

    async def ask_with(**more: Any) -> None:
        request.update(more)

    await switch(expires_ms=NOW_MS)
    await change(status="inactive", valid_from_ms=NOW_MS + 1, require_assignment=True, require_lock=True)
    lifts: list[tuple[str, Ask]] = [
        ("book_inactive", lambda: change(status="active")),
        ("not_started", lambda: change(valid_from_ms=NOW_MS)),
        ("expired", lambda: switch(expires_ms=NOW_MS + 1)),
        ("coupon_not_assigned", lambda: change(require_assignment=False)),
        ("coupon_locked", lambda: still.unlock("CODE-1", token["lockToken"])),
        ("lock_required", lambda: change(require_lock=False)),
        ("user_redemption_limit", lambda: change(max_redemptions_per_user=2)),
        ("out_of_stock", lambda: change(max_redemptions=3)),
        ("order_already_used", lambda: ask_with(orderId="A-2")),
        ("order_value_required", lambda: ask_with(orderValue="9.99")),
        ("currency_mismatch", lambda: ask_with(currency="USD")),
        ("order_value_too_low", lambda: ask_with(orderValue="10.00")),
    ]
    # The lock takes one of the book's total and is not the user's; of the two of the total one is spent.
    await change(max_redemptions=1)
    only_redeem = {"lock_required", "order_value_required"}
    if ask == "lock":
        lifts = [lift for lift in lifts if lift[0] not in only_redeem]
        request["orderValue"] = "9.99"
    expected = [name for name, _ in lifts if name != "order_value_too_low"]
    await named(still, ask, request, expected)
    switched_off = ["coupon_inactive", *(name for name in expected if name != "coupon_locked")]  # which ends its locks
    await named(still, ask, request | {"code": "CODE-OFF"}, switched_off)
    for at, (name, lift) in enumerate(lifts):
        # The value is judged once there is one, in the right currency.
        rest = [reason for reason, _ in lifts[at:]]
        if name != "order_value_too_low":
            rest = [reason for reason in rest if reason != "order_value_too_low"]
        await named(still, ask, request, rest)
        await lift()
        if name == "order_value_required" and ask != "lock":
            await named(still, ask, request, ["currency_mismatch"])
    await named(still, ask, request, [])


@pytest.mark.parametrize("ask", ["redeem", "validate"])
async def test_the_refusals_of_a_request_with_a_lost_lock(still: Shop, ask: str) -> None:
    """A token is judged before another's lock; a coupon that is another's, before the token."""
    book = await still.book("CODE-1")
    await still.assign("CODE-1", "bob")
    _, lock = await still.lock("CODE-1", "bob", orderId="A-1")
    await still.change(book, require_lock=True)
    request = {"code": "CODE-1", "userId": "ann", "lockToken": "never-was"}
    await named(still, ask, request, ["coupon_assigned_to_other", "lock_lost", "coupon_locked"])
    request["userId"] = "bob"
    await named(still, ask, request, ["lock_lost", "coupon_locked"])
    del request["lockToken"]
    await named(still, ask, request, ["coupon_locked", "lock_required"])
    await still.unlock("CODE-1", lock["lockToken"])
    await named(still, ask, request, ["lock_required"])
    await still.lock("CODE-1", "bob")
    await named(still, ask, request, [])


@pytest.mark.parametrize("uses", [1, 2])
@pytest.mark.parametrize("ask", ASKS)
async def test_the_refusals_of_a_code_that_is_used_up(still: Shop, ask: str, uses: int) -> None:
    """Used up comes after a lock that is lost or required, and before the limits."""
    rules = {"max_redemptions_per_code": uses, "max_redemptions_per_user": uses, "max_redemptions": uses}
    book = await still.book("CODE-1", **rules)
    ids = [(await still.redeem("CODE-1", "ann", orderId=f"A-{n}"))[1]["redemptionId"] for n in range(uses)]
    await still.change(book, require_lock=True)
    request = {"code": "CODE-1", "userId": "ann", "lockToken": "never-was", "orderId": "A-0"}
    used_up = "coupon_redeemed" if uses == 1 else "coupon_exhausted"
    rest = [used_up, "user_redemption_limit", "out_of_stock"]
    if ask == "redeem":
        request["orderId"] = "A-x"
        await named(still, ask, request, ["lock_lost", *rest])
        del request["lockToken"]
        await named(still, ask, request, ["lock_required", *rest])
    elif ask == "validate":
        await named(still, ask, request, ["lock_lost", *rest, "order_already_used"])
        del request["lockToken"]
        await named(still, ask, request, ["lock_required", *rest, "order_already_used"])
    await still.change(book, require_lock=False)
    del request["orderId"]
    await named(still, ask, request, rest)
    await still.rollback(ids[0])
    await named(still, ask, request, [])


@pytest.mark.parametrize("ask", ASKS)
async def test_the_refusals_of_a_card(still: Shop, ask: str) -> None:
    """Its amount comes first; held by others, and used up, have the places that these two have of other codes."""
    balance = {"type": "balance", "value_e4": 500_000, "min_order_value_e4": 100_000}
    book = await still.book("CARD-1", discount=balance, max_redemptions_per_code=None, max_redemptions=5)
    _, lock = await still.lock("CARD-1", "bob", orderId="B-1", orderValue="50")
    await still.redeem("CARD-1", "bob", orderId="B-1", orderValue="50", lockToken=lock["lockToken"], amount="20")
    _, lock = await still.lock("CARD-1", "bob", orderId="B-2", orderValue="50")
    await still.change(book, status="inactive", max_redemptions=2, require_lock=True)
    request: dict[str, Any] = {"code": "CARD-1", "userId": "ann", "orderId": "A-1", "currency": "EUR"}
    required = [] if ask == "lock" else ["lock_required"]
    rest = ["coupon_locked", *required, "out_of_stock", "order_value_required", "currency_mismatch"]
    if ask == "validate":
        await still.refuses("invalid", still.validate(**request | {"amount": "1.001"}))
    await named(still, ask, request, ["book_inactive", *rest])
    book = await still.change(book, status="active", max_redemptions=2, require_lock=True)
    await named(still, ask, request, rest)
    await still.redeem("CARD-1", "bob", orderId="B-2", lockToken=lock["lockToken"])
    await named(still, ask, request, [*required, "coupon_exhausted", *rest[1 + len(required) :]])
    await still.credit("CARD-1", "5")
    await still.change(book, max_redemptions=None, require_lock=False)
    await named(still, ask, request, ["order_value_required", "currency_mismatch"])
    await named(still, ask, request | {"orderValue": "20"}, ["currency_mismatch"])
    del request["currency"]
    await named(still, ask, request | {"orderValue": "9.99"}, ["order_value_too_low"])
    await named(still, ask, request | {"orderValue": "20", "amount": "7"}, [])


async def test_the_refusals_of_assigning_a_named_coupon(still: Shop) -> None:
    """Coupon, book, end of the window, another's lock, the user's codes, the user's coupons: in that order."""
    book = await still.book("CODE-1", "CODE-2", "CODE-OFF")
    await still.assign("CODE-2", "ann")
    _, lock = await still.lock("CODE-1", "bob")
    await still.user("ann", 1)
    await still.add(book, "CODE-OFF", active=False, expires_ms=NOW_MS)
    dark = await still.change(book, status="archived", max_codes_per_user=1, valid_from_ms=NOW_MS + 1)
    await still.refuses("coupon_inactive", still.assign("CODE-OFF", "ann"))
    await still.add(book, "CODE-1", expires_ms=NOW_MS)
    await still.refuses("book_inactive", still.assign("CODE-1", "ann"))
    lit = await still.change(dark, status="active")
    await still.refuses("expired", still.assign("CODE-1", "ann"))
    await still.add(book, "CODE-1")
    await still.refuses("coupon_locked", still.assign("CODE-1", "ann"))
    await still.unlock("CODE-1", lock["lockToken"])
    await still.refuses("user_code_limit", still.assign("CODE-1", "ann"))
    await still.change(lit, max_codes_per_user=2)
    await still.refuses("user_coupon_limit", still.assign("CODE-1", "ann"))
    await still.user("ann", 2)
    assert (await still.assign("CODE-1", "ann"))[0] == 201  # before validFrom is fine


@pytest.mark.parametrize("uses", [1, 2])
async def test_a_coupon_that_is_anothers_is_named_before_it_is_used_up_or_locked(still: Shop, uses: int) -> None:
    """Assigned to another comes before used up, and before locked; used up before the user's limits."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3", max_redemptions_per_code=uses, max_codes_per_user=1)
    await still.assign("CODE-1", "ann")
    await still.lock("CODE-1", "ann")
    await still.refuses("coupon_assigned_to_other", still.assign("CODE-1", "bob"))
    for n in range(uses):
        await still.redeem("CODE-2", "ann", orderId=f"A-{n}")
    await still.assign("CODE-3", "bob")
    await still.refuses("coupon_redeemed" if uses == 1 else "coupon_exhausted", still.assign("CODE-2", "bob"))
    await still.refuses("user_code_limit", still.assign_any(book, "bob"))


async def test_the_refusals_of_assigning_a_random_coupon(still: Shop) -> None:
    """Book, end of the window, the user's codes, the user's coupons, out of stock: in that order."""
    book = await still.book("CODE-1", max_codes_per_user=1, status="inactive", valid_until_ms=NOW_MS)
    await still.user("ann", 1)
    await still.add(book, "CODE-2", owner_id="ann")
    await still.add(book, "CODE-3", owner_id="bob")
    await still.add(book, "CODE-1", active=False)
    await still.refuses("book_inactive", still.assign_any(book, "ann"))
    book = await still.change(book, status="active")
    await still.refuses("expired", still.assign_any(book, "ann"))
    book = await still.change(book, valid_until_ms=NOW_MS + 1)
    await still.refuses("user_code_limit", still.assign_any(book, "ann"))
    book = await still.change(book, max_codes_per_user=2)
    await still.refuses("user_coupon_limit", still.assign_any(book, "ann"))
    await still.user("ann", None)
    await still.refuses("out_of_stock", still.assign_any(book, "ann"))
    await still.add(book, "CODE-1")
    assert (await still.assign_any(book, "ann"))[0] == 201
