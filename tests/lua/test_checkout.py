"""Checkout: a redemption and the order's gift, as one change."""

from decimal import Decimal
from typing import Any

import pytest

from service.engine.formats import key_names
from service.engine.operations import table
from tests.harness import kinds
from tests.harness.cases import MISSING, NOBODYS, TOKENS, USES, VALUES, posts
from tests.harness.described import ITEM, LINE, ORDER, Description, Good
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop

_GOOD = {"userId": "u", "orderId": "o", "orderValue": 1}
DESCRIBED = (
    Description(
        row=table.CHECKOUT,
        body={"userId": "{ann}", "orderId": "{order2}", "orderValue": 5, "code": "{free6}"},
        goods=(
            Good(
                _GOOD,
                {name: kind for name, kind in ORDER.items() if name != "metadata"}
                | {"userId": kinds.ID, "code": kinds.ANY_CODE, "giftBookId": kinds.OWN_ID}
                | {"expectedFinalAmount": kinds.MONEY},
                "userId orderId orderValue",
            ),
            Good(_GOOD | {"items": [ITEM]}, LINE, " ".join(LINE)),
        ),
        refusals=posts(
            "/v1/checkout",
            *MISSING,
            *USES,
            *TOKENS,
            *VALUES,
            ("book_not_found", {"giftBookId": NOBODYS}),
            ("order_already_used", {"orderId": "{given}", "userId": "{bob}"}),
            ("invalid", {"lockToken": "t", "field": "lockToken"}),
            userId="{ann}",
            orderId="{new}",
            orderValue=100,
        ),
        refused="behind",
        writes=True,
        before=lambda shop, book, code: shop.add(book, f"{code}-GIFT"),
        ask=lambda shop, book, code, _, **more: shop.checkout(
            "ann", code, code=code, giftBookId=str(book.book_id), **more
        ),
    ),
)


TENTH: dict[str, Any] = {"type": "percentage", "value_e4": 100_000}


async def test_coupon_and_gift_are_one_event(still: Shop) -> None:
    """The coupon is redeemed, a code of its book's gift book assigned, and one event has both."""
    gifts = await still.book("GIFT-1")
    await still.book("CODE-1", discount=TENTH, gift_book_id=gifts.book_id)
    status, body = await still.checkout("ann", "A-1", "20", code="code-1")
    assert status == 201
    assert body["redemption"]["discountAmount"] == "2.00"
    assert "durability" not in body["redemption"]
    assert (body["finalAmount"], body["durability"]) == ("18.00", "accepted")
    assert (body["gift"]["code"], body["gift"]["userId"]) == ("GIFT-1", "ann")
    events = [words for _, words in await still.events()]
    assert [words[0] for words in events] == ["O", "R"]
    assert events[1][-3:] == [str(gifts.book), "GIFT-1", str(key_names.bucket("GIFT-1"))]
    assert (await still.gift(gifts, "ann", "A-1"))[0] == 200
    assert (await still.stats(gifts))["assigned"] == 1


async def test_a_repeat_answers_the_same(still: Shop) -> None:
    """Without a key the order itself identifies a repeat: 200, the same redemption and gift, nothing changed."""
    gifts = await still.book("GIFT-1", "GIFT-2")
    await still.book("CODE-1", gift_book_id=gifts.book_id)
    _, first = await still.checkout("ann", "A-1", code="CODE-1")
    before = await still.everything()
    assert await still.checkout("ann", "A-1", code="CODE-1") == (200, first)
    assert await still.everything() == before


async def test_the_gifts_book_is_the_nearest_that_is_named(still: Shop) -> None:
    """The request's, else the redeemed book's, else the workspace's."""
    asked, books_own, workspaces = await still.book("ASKED-1"), await still.book("BOOKS-1"), await still.book("SPACE-1")
    await still.put_workspace(gift_book_id=workspaces.book_id, coupons_per_order=9)
    await still.book("CODE-1", "CODE-2", gift_book_id=books_own.book_id)
    await still.book("CODE-3")
    answers = [
        await still.checkout("ann", "A-1", code="CODE-1", giftBookId=str(asked.book_id)),
        await still.checkout("ann", "A-2", code="CODE-2"),
        await still.checkout("ann", "A-3", code="CODE-3"),
    ]
    assert [(body["gift"] or {}).get("code") for _, body in answers] == ["ASKED-1", "BOOKS-1", "SPACE-1"]
    assert (await still.checkout("ann", "A-4"))[1]["gift"] is None


async def test_a_gift_of_another_is_named_before_the_price(still: Shop) -> None:
    """The order's gift is another user's: that is refused where a full order is, before the price."""
    gifts = await still.book("GIFT-1")
    book = await still.book("CODE-1", discount=TENTH)
    await still.gift(gifts, "bob", "A-1")
    ask = {"code": "CODE-1", "expectedFinalAmount": Decimal(1)}
    await still.refuses("order_already_used", still.checkout("ann", "A-1", "100", **ask))
    await still.refuses("price_changed", still.checkout("ann", "A-2", "100", **ask))
    await still.add(book, "CODE-1", active=False)
    await still.refuses("coupon_inactive", still.checkout("ann", "A-1", "100", **ask))


async def test_without_a_code_there_is_just_the_gift(still: Shop) -> None:
    """A purchase without a coupon gives the workspace's gift, in the currency that is named or the workspace's."""
    gifts = await still.book("GIFT-1", "GIFT-2")
    await still.put_workspace(gift_book_id=gifts.book_id)
    status, body = await still.checkout("ann", "A-1", "19.9")
    assert (status, body["redemption"], body["finalAmount"]) == (201, None, "19.90")
    assert (await still.last_event())["d"].startswith("A ")
    assert await still.checkout("ann", "A-1", "19.9") == (200, body)
    for order, value, currency in (("A-2", "500", "JPY"), ("A-4", "1.005", "KWD"), ("A-5", "19.95", None)):
        assert (await still.checkout("ann", order, value, currency=currency))[1]["finalAmount"] == value
    await still.refuses("invalid", still.checkout("ann", "A-3", "1.005"))
    await still.refuses("invalid", still.checkout("ann", "A-3", "1.5", currency="JPY"))
    await still.refuses("order_already_used", still.checkout("bob", "A-1"))


async def test_with_neither_it_is_done_all_the_same(still: Shop) -> None:
    """Nothing to redeem and no gift: the purchase is complete, nothing is changed; under a key it is remembered."""
    before = await still.everything()
    status, body = await still.checkout("ann", "A-1")
    assert (status, body["redemption"], body["gift"], body["finalAmount"]) == (201, None, None, "10.00")
    assert await still.everything() == before
    _, first = await still.checkout("ann", "A-1", key="k")
    assert (await still.last_event())["d"] == f"K 1 {NOW_MS}"
    gifts = await still.book("GIFT-1")
    await still.put_workspace(gift_book_id=gifts.book_id, currency="JPY", digits=0)
    assert await still.checkout("ann", "A-1", key="k") == (201, {**first, "replayed": True})


async def test_a_redemption_without_an_order_value_leaves_the_purchases(still: Shop) -> None:
    """If the order's coupon was redeemed before, without a value, the amount to pay is what this request names."""
    await still.book("CODE-1")
    await still.redeem("CODE-1", "ann", orderId="A-1")
    status, body = await still.checkout("ann", "A-1", "19.9", code="CODE-1")
    assert (status, body["redemption"]["orderValue"], body["finalAmount"]) == (200, None, "19.90")


@pytest.mark.parametrize("why", ["empty", "inactive", "ended", "code limit", "coupon limit"])
async def test_no_gift_doesnt_stop_the_sale(still: Shop, why: str) -> None:
    """Where there is no gift to give, or the user may have no more, it is null, and stays so for a repeat."""
    rules: dict[str, dict[str, Any]] = {
        "inactive": {"status": "inactive"},
        "ended": {"valid_until_ms": NOW_MS},
        "code limit": {"max_codes_per_user": 1},
    }
    gifts = await still.book(*(() if why == "empty" else ("GIFT-1", "GIFT-2")), **rules.get(why, {}))
    await still.book("CODE-1", gift_book_id=gifts.book_id)
    if "limit" in why:
        await still.assign("GIFT-2", "ann")
    if why == "coupon limit":
        await still.user("ann", 1)
    status, body = await still.checkout("ann", "A-1", code="CODE-1")
    assert (status, body["gift"], body["redemption"]["code"]) == (201, None, "CODE-1")
    await still.change(gifts, status="active", valid_until_ms=None, max_codes_per_user=None)
    await still.add(gifts, "GIFT-3")
    await still.user("ann", None)
    assert await still.checkout("ann", "A-1", code="CODE-1") == (200, body)


async def test_a_refused_coupon_gives_no_gift(still: Shop) -> None:
    """Each refusal of redeem is one of checkout, and so is an unknown book of gifts; nothing is changed."""
    gifts = await still.book("GIFT-1")
    book = await still.book(
        "CODE-1", "CODE-2", discount=TENTH | {"min_order_value_e4": 200_000}, gift_book_id=gifts.book_id
    )
    await still.refuses("order_value_too_low", still.checkout("ann", "A-1", "19.99", code="CODE-1"))
    await still.refuses("currency_mismatch", still.checkout("ann", "A-1", "20", code="CODE-1", currency="EUR"))
    await still.refuses("coupon_not_found", still.checkout("ann", "A-1", "20", code="NO-SUCH"))
    await still.refuses("coupon_not_found", still.checkout("ann", "A-1", "20", code="no"))
    nowhere = {"code": "NO-SUCH", "giftBookId": "0190a7e0-0000-7000-8000-000000000000"}
    await still.refuses("coupon_not_found", still.checkout("ann", "A-1", "20", **nowhere))
    await still.refuses("lock_lost", still.checkout("ann", "A-1", "20", code="CODE-1", lockToken="gone"))
    await still.refuses("invalid", still.checkout("ann", "A-1", "20", lockToken="gone"))
    for book_id in ("0190a7e0-0000-7000-8000-000000000000", "none"):
        await still.refuses("book_not_found", still.checkout("ann", "A-1", "20", code="CODE-1", giftBookId=book_id))
    await still.lock("CODE-1", "bob")
    await still.refuses("coupon_locked", still.checkout("ann", "A-1", "20", code="CODE-1"))
    await still.checkout("ann", "A-1", "20", code="CODE-2")
    await still.refuses("coupon_redeemed", still.checkout("ann", "A-2", "20", code="CODE-2"))
    await still.change(book, status="inactive")
    await still.refuses("book_inactive", still.checkout("ann", "A-2", "20", code="CODE-1"))


async def test_it_spends_the_lock(still: Shop) -> None:
    """The holder's lock is used up, by its token or by user and order."""
    await still.book("CODE-1", "CODE-2", require_lock=True)
    _, lock = await still.lock("CODE-1", "ann", orderId="A-1")
    assert (await still.checkout("ann", "A-1", code="CODE-1", lockToken=lock["lockToken"]))[0] == 201
    await still.refuses("lock_required", still.checkout("bob", "A-2", code="CODE-2"))
    await still.lock("CODE-2", "bob", orderId="A-2")
    assert (await still.checkout("bob", "A-2", code="CODE-2"))[0] == 201


async def test_what_is_used_up_makes_room_for_the_gift(still: Shop) -> None:
    """A user who may hold one coupon and redeems it may have the gift: the redemption comes first."""
    gifts = await still.book("GIFT-1", "GIFT-2")
    await still.book("CODE-1", gift_book_id=gifts.book_id)
    await still.book("CODE-2", max_redemptions_per_code=2, gift_book_id=gifts.book_id)
    await still.user("ann", 1)
    await still.assign("CODE-1", "ann")
    assert (await still.checkout("ann", "A-1", code="CODE-1"))[1]["gift"] is not None
    await still.user("bob", 1)
    await still.assign("CODE-2", "bob")
    assert (await still.checkout("bob", "A-2", code="CODE-2"))[1]["gift"] is None


@pytest.mark.parametrize("codes", [1, 2, 40])
@pytest.mark.parametrize("state", ["free", "dated", "was locked"])
async def test_a_book_may_give_of_itself_but_not_the_same_code(
    still: Shop, uses: int | None, codes: int, state: str
) -> None:
    """Where the workspace's gifts come from the redeemed book, the gift is another code of it."""
    book = await still.book(*(f"CODE-{n}" for n in range(1, codes + 1)), max_redemptions_per_code=uses)
    await still.put_workspace(gift_book_id=book.book_id)
    if state == "dated":
        await still.add(book, "CODE-1", expires_ms=NOW_MS + 2000)
    if state == "was locked":
        await still.lock("CODE-1", "eve", lockSeconds=1)
    await still.wait(1000)
    status, body = await still.checkout("ann", "A-1", code="CODE-1")
    assert status == 201
    assert (body["gift"] is None) == (codes == 1)
    assert codes == 1 or body["gift"]["code"] != "CODE-1"


async def test_a_gift_is_not_the_redeemed_code_though_its_facts_were_asked_for(still: Shop) -> None:
    """Another user redeemed the same code for the same order, and that is recorded: the gift is the other code."""
    book = await still.book("CODE-1", "CODE-2", max_redemptions_per_code=None)
    await still.put_workspace(gift_book_id=book.book_id, coupons_per_order=2)
    await still.redeem("CODE-1", "bob", orderId="A-1")
    await still.record()
    _, body = await still.checkout("ann", "A-1", code="CODE-1")
    assert (still.recalled, body["gift"]["code"]) == (1, "CODE-2")


async def test_the_gifts_book_may_change_while_facts_are_asked_for(still: Shop) -> None:
    """A gift whose last redemption only Postgres has is given; once another book gives the gifts, one of that is."""
    before, after = [await still.book(f"{name}-1", max_redemptions_per_code=None) for name in ("OLD", "NEW")]
    for code in ("OLD-1", "NEW-1"):
        await still.redeem(code, "bob")
    await still.record()
    await still.put_workspace(gift_book_id=before.book_id)
    still.meanwhile = lambda: still.put_workspace(gift_book_id=after.book_id)
    _, body = await still.checkout("ann", "A-1")
    assert (still.recalled, body["gift"]["code"]) == (2, "NEW-1")


async def test_an_order_that_has_its_gift_gets_no_second(still: Shop) -> None:
    """A gift given before is the order's gift; a checkout shows it, and takes no other."""
    gifts = await still.book("GIFT-1", "GIFT-2")
    await still.book("CODE-1", gift_book_id=gifts.book_id)
    _, given = await still.gift(gifts, "ann", "A-1")
    status, body = await still.checkout("ann", "A-1", code="CODE-1")
    assert (status, body["gift"]["code"]) == (201, given["code"])
    assert (await still.stats(gifts))["assigned"] == 1
    await still.book("CODE-2")
    await still.gift(gifts, "bob", "A-2")
    await still.refuses("order_already_used", still.checkout("ann", "A-2", code="CODE-2"))
    await still.refuses("coupon_redeemed", still.checkout("ann", "A-2", code="CODE-1"))
