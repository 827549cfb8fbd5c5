"""Validate answers what a redeem would answer, and changes nothing."""

from dataclasses import replace
from typing import Any

import msgspec

from service.engine.domain.errors import Refusal
from service.engine.domain.times import from_ms
from service.engine.operations import table
from service.engine.operations.base import Call
from service.engine.operations.caller import Caller
from service.engine.operations.redeem import REDEEM, VALIDATE, answer_unknown_coupon
from tests.harness import kinds
from tests.harness.cases import Case
from tests.harness.described import ORDER, Description, Good
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop
from tests.unit.fastlane_fixtures import caller

DESCRIBED = (
    Description(
        row=table.VALIDATE,
        scopes="public checkout user",
        body={"code": "{free5}", "userId": "{ann}"},
        another="",
        goods=(Good({"code": "{code}"}, {"code": kinds.ANY_CODE, "userId": kinds.ID} | ORDER, "code"),),
        writes=False,
        ask=lambda shop, _, code, *__, **more: shop.validate(code, **more),
    ),
    Description(
        row=table.READ,
        scopes="checkout manage user",
        path="/v1/coupons/{assigned}",
        refusals=tuple(Case("coupon_not_found", "GET", f"/v1/coupons/{name}") for name in ("NO-SUCH-CODE", "a.b")),
        writes=False,
        ask=lambda shop, _, code, *__, **more: shop.coupon(code, **more),
    ),
)


def _unknown(of: Caller) -> bytes:
    """The body that a validate of an unknown code is answered with."""
    rendered = answer_unknown_coupon(of, Refusal("coupon_not_found"))
    assert rendered
    assert rendered.body
    return rendered.body


async def test_a_valid_use_has_its_amounts(still: Shop, uses: int | None) -> None:
    """With an order value it names discount and final amount, without one none; Redis is as before."""
    await still.book("CODE-1", max_redemptions_per_code=uses, discount={"type": "percentage", "value_e4": 100_000})
    before = await still.everything()
    status, body = await still.validate("CODE-1", userId="ann", orderValue="20")
    assert (status, body["valid"], body["reasons"]) == (200, True, [])
    assert (body["discountAmount"], body["finalAmount"]) == ("2.00", "18.00")
    assert body["coupon"] == (await still.coupon("CODE-1"))[1]
    _, body = await still.validate("CODE-1")
    assert (body["reasons"], body["discountAmount"], body["finalAmount"]) == (["order_value_required"], None, None)
    assert await still.everything() == before


async def test_without_discount_no_value_is_asked(still: Shop) -> None:
    """A book without a discount is valid with and without a value; without a user an assigned coupon is, too."""
    await still.book("CODE-1")
    await still.assign("CODE-1", "ann")
    _, body = await still.validate("CODE-1")
    assert (body["valid"], body["discountAmount"], body["finalAmount"]) == (True, "0.00", None)
    _, body = await still.validate("CODE-1", orderValue="3")
    assert (body["valid"], body["discountAmount"], body["finalAmount"]) == (True, "0.00", "3.00")


async def test_the_holder_is_valid_by_token_or_by_user_and_order(still: Shop, uses: int | None) -> None:
    """A lock serves its token, with and without its user named, and its user and order; others get the reasons."""
    await still.book("CODE-1", "CODE-2", max_redemptions_per_code=uses, require_lock=True)
    _, lock = await still.lock("CODE-2", "ann")
    assert (await still.validate("CODE-2", orderId="A-1", lockToken=lock["lockToken"]))[1]["reasons"] == []
    _, lock = await still.lock("CODE-1", "ann", orderId="A-1")
    token = lock["lockToken"]
    for request in (
        {"userId": "ann", "orderId": "A-1", "lockToken": token},
        {"orderId": "A-1", "lockToken": token},
        {"userId": "ann", "orderId": "A-1"},
    ):
        assert (await still.validate("CODE-1", **request))[1]["reasons"] == []
    locked = ["coupon_locked"] if uses == 1 else []
    for request, reasons in (
        ({"userId": "bob", "orderId": "A-1", "lockToken": token}, ["lock_lost", *locked]),
        ({"userId": "ann", "lockToken": token}, ["lock_lost", *locked]),
        ({"userId": "ann", "orderId": "A-2", "lockToken": token}, ["lock_lost", *locked]),
        ({"userId": "ann", "orderId": "A-1", "lockToken": "-"}, ["lock_lost", *locked]),
        ({"userId": "ann", "orderId": "A-1", "lockToken": token + "x"}, ["lock_lost", *locked]),
        ({"userId": "ann", "orderId": "A-2"}, [*locked, "lock_required"]),
        ({"userId": "bob", "orderId": "A-1"}, [*locked, "lock_required"]),
        ({"userId": "ann"}, [*locked, "lock_required"]),
        ({"orderId": "A-1"}, [*locked, "lock_required"]),
        ({}, [*locked, "lock_required"]),
    ):
        assert (await still.validate("CODE-1", **request))[1]["reasons"] == reasons
        if "userId" in request:
            await still.refuses(reasons[0], still.do(REDEEM, "CODE-1", **request))


async def test_a_lock_takes_no_place_of_its_order(still: Shop) -> None:
    """Whatever its code looks like: the order's mark of the lock has it, also where it reads as an event."""
    await still.book("CODE-1-2", "CODE-3-4")
    await still.lock("CODE-1-2", "ann", orderId="A-1")
    for code in ("CODE-1-2", "CODE-3-4"):
        assert (await still.validate(code, userId="ann", orderId="A-1"))[1]["reasons"] == []
    assert (await still.redeem("CODE-3-4", "ann", orderId="A-1"))[0] == 201
    assert (await still.validate("CODE-1-2", userId="ann", orderId="A-1"))[1]["reasons"] == ["order_already_used"]


async def test_a_value_in_another_currency_is_not_judged_for_size(still: Shop) -> None:
    """Another currency is a mismatch with and without a discount, and its value is never too low."""
    discount = {"type": "fixed", "value_e4": 100, "min_order_value_e4": 100_000}
    await still.book("CODE-1", discount=discount)
    await still.book("CODE-2")
    await still.book("CODE-3", discount={**discount, "currency": "EUR", "digits": 2})
    for code, currency, reasons in (
        ("CODE-1", "EUR", ["currency_mismatch"]),
        ("CODE-1", "USD", ["order_value_too_low"]),
        ("CODE-2", "EUR", ["currency_mismatch"]),
        ("CODE-2", "USD", []),
        ("CODE-3", "USD", ["currency_mismatch"]),
        ("CODE-3", "EUR", ["order_value_too_low"]),
    ):
        _, body = await still.validate(code, orderValue="9.99", currency=currency)
        assert body["reasons"] == reasons
    assert (await still.validate("CODE-1", orderValue="10.00"))[1]["valid"]
    _, body = await still.validate("CODE-1", currency="EUR")
    assert body["reasons"] == ["order_value_required", "currency_mismatch"]
    fine = {"orderValue": "9.999", "currency": "KWD"}
    await still.refuses("currency_mismatch", still.redeem("CODE-1", "ann", **fine))
    assert (await still.validate("CODE-1", **fine))[1]["reasons"] == ["currency_mismatch"]


async def test_a_public_key_gets_no_reasons(still: Shop) -> None:
    """For a credential of scope public alone every reason is the same, amounts are null and the coupon is hidden."""
    book = await still.book("CODE-1", discount={"type": "percentage", "value_e4": 100_000})
    await still.book("CODE-2", valid_until_ms=NOW_MS)
    whole = still.caller
    still.caller = replace(whole, scopes=frozenset(["public"]))
    _, body = await still.validate("CODE-1", orderValue="20")
    amounts = {"currency": "USD", "discountAmount": "2.00", "finalAmount": "18.00"}
    assert body == {"valid": True, "reasons": [], "refusals": [], **amounts, "coupon": None}
    nothing = {
        "valid": False,
        "reasons": ["coupon_not_available"],
        "refusals": [],
        "currency": None,
        "discountAmount": None,
        "finalAmount": None,
        "coupon": None,
    }
    assert (await still.validate("CODE-1"))[1] == nothing
    assert (await still.validate("CODE-2", orderValue="20"))[1] == nothing
    await still.add(book, "CODE-1", active=False)
    assert (await still.validate("CODE-1", orderValue="20"))[1] == nothing
    assert msgspec.json.decode(_unknown(still.caller)) == nothing
    assert (await still.validate("NEVER-WAS"))[1] == nothing
    await still.book("CODE-3", discount={"type": "fixed", "value_e4": 10_000, "currency": "JPY", "digits": 0})
    assert (await still.validate("CODE-3", orderValue="20.50"))[1] == nothing
    await still.gate("closed")
    for code in ("CODE-1", "NEVER-WAS"):
        await still.refuses("recovering", still.validate(code))
    await still.gate("open")
    still.caller = whole
    assert await still.validate("NEVER-WAS") == (404, "coupon_not_found")
    assert (await still.validate("CODE-3", orderValue="20.50"))[1]["reasons"] == ["currency_mismatch"]
    assert await still.validate("CODE-3", orderValue="20.505") == (422, "invalid")


async def test_a_book_tells_a_public_key_some_reasons(still: Shop) -> None:
    """With public_reasons a public key learns when, or with which order, the coupon can be used, with the figures, and
    nothing beside any other reason."""
    least = {"type": "fixed", "value_e4": 10_000, "min_order_value_e4": 250_000, "currency": "USD", "digits": 2}
    book = await still.book("CODE-1", valid_from_ms=NOW_MS + 1, discount=least, public_reasons=True)
    whole, public = still.caller, replace(still.caller, scopes=frozenset(["public"]))

    async def validate(**asked: str) -> tuple[list[str], list[Any]]:
        still.caller = public
        _, body = await still.validate("CODE-1", **asked)
        still.caller = whole
        assert (body["valid"], body["discountAmount"], body["finalAmount"], body["coupon"]) == (False, None, None, None)
        return body["reasons"], body["refusals"]

    reasons, refusals = await validate(orderValue="20")
    assert reasons == [refusal["code"] for refusal in refusals] == ["not_started", "order_value_too_low"]
    assert refusals[0]["validFrom"] == from_ms(NOW_MS + 1)
    assert (refusals[1]["minOrderValue"], refusals[1]["missing"], refusals[1]["currency"]) == ("25.00", "5.00", "USD")
    assert {refusal["for"] for refusal in refusals} == {"shopper"}
    book = await still.change(book, valid_from_ms=None, valid_until_ms=NOW_MS)
    reasons, refusals = await validate()
    assert reasons == [refusal["code"] for refusal in refusals] == ["expired", "order_value_required"]
    assert (refusals[0]["expiresAt"], refusals[1]["currency"]) == (from_ms(NOW_MS), "USD")
    hidden = (["coupon_not_available"], [])
    assert await validate(currency="EUR") == hidden
    book = await still.change(book, public_reasons=False)
    assert await validate() == hidden
    book = await still.change(book, public_reasons=True, status="inactive")
    assert await validate() == hidden
    book = await still.change(book, status="active", max_redemptions=1, valid_until_ms=None)
    assert (await still.redeem("CODE-1", "ann", orderValue="30"))[0] == 201
    assert await validate(orderValue="20") == hidden


def test_a_checkout_key_gets_the_reason_of_an_unknown_coupon() -> None:
    """For the checkout an unknown coupon's reason is coupon_not_found."""
    assert msgspec.json.decode(_unknown(caller("one")))["reasons"] == ["coupon_not_found"]


async def test_validate_takes_no_idempotency_key(still: Shop) -> None:
    """A key changes nothing of a validate, which changes nothing itself."""
    await still.book("CODE-1")
    call = Call(still.caller, "key", "f")
    for _ in range(2):
        status, body = await still.run(VALIDATE.prepare(call, None, VALIDATE.decoder.decode(b'{"code":"CODE-1"}')))
        assert (status, body["valid"]) == (200, True)
    assert not [name for name in await still.everything() if ":i:" in name]
