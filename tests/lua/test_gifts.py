"""Gifts: a free coupon for an order, once."""

from service.engine.formats import key_names
from service.engine.operations import table
from tests.harness import kinds
from tests.harness.cases import ASSIGNED, posts
from tests.harness.described import Description, Good
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop
from tests.lua.test_mending import redone

_GIVEN = {"bookId": "{gifts_book}", "orderId": "{given}"}
DESCRIBED = (
    Description(
        row=table.GIFT,
        path="/v1/users/{ann}/gifts",
        body={"bookId": "{book}", "orderId": "{order3}"},
        another="book_not_found",
        goods=(
            Good(
                {"bookId": "{book}", "orderId": "gift"}, {"bookId": kinds.OWN_ID, "orderId": kinds.ID}, "bookId orderId"
            ),
        ),
        refusals=(
            *posts(
                "/v1/users/{ann}/gifts",
                *ASSIGNED,
                ("order_already_used", _GIVEN | {"bookId": "{free_book}"}),
                orderId="{new}",
            ),
            *posts("/v1/users/{full}/gifts", ("user_coupon_limit", _GIVEN | {"orderId": "{new}"})),
            *posts("/v1/users/{bob}/gifts", ("order_already_used", _GIVEN)),
            *posts("/v1/users/a%20b/gifts", ("not_found", _GIVEN | {"orderId": "{new}"})),
        ),
        refused="full behind",
        writes=True,
        ask=lambda shop, book, code, _, **more: shop.gift(book, "ann", code, **more),
    ),
)


async def test_an_order_has_one_gift(still: Shop) -> None:
    """The first request gives a free code, and its event names the order; a repeat has the coupon as it is now."""
    book = await still.book("GIFT-1", "GIFT-2")
    status, given = await still.gift(book, "ann", "A-1")
    assert (status, given["status"], given["userId"]) == (201, "assigned", "ann")
    code = given["code"]
    order = f"A-1 {key_names.bucket('A-1')}"
    assert (await still.last_event())["d"] == f"A 1 1 {code} ann {NOW_MS} {key_names.bucket(code)} {order}"
    assert await still.gift(book, "ann", "A-1") == (200, given)
    assert (await still.gift(book, "ann", "A-2"))[1]["code"] != code
    await still.redeem(code, "ann")
    status, again = await still.gift(book, "ann", "A-1")
    assert (status, again["code"], again["status"]) == (200, code, "redeemed")


async def test_another_user_or_book_is_refused(still: Shop) -> None:
    """The order's gift is one user's, of one book."""
    book = await still.book("GIFT-1", "GIFT-2")
    other = await still.book("OTHER-1")
    await still.gift(book, "ann", "A-1")
    await still.refuses("order_already_used", still.gift(book, "bob", "A-1"))
    await still.refuses("order_already_used", still.gift(other, "ann", "A-1"))


async def test_gifts_keep_the_rules_of_assigning(still: Shop) -> None:
    """Each refusal of assigning a free code is one of giving a gift."""
    book = await still.book("GIFT-1", "GIFT-2", "GIFT-3", max_codes_per_user=1, valid_until_ms=NOW_MS + 1000)
    await still.gift(book, "ann", "A-1")
    await still.refuses("user_code_limit", still.gift(book, "ann", "A-2"))
    await still.user("bob", 1)
    await still.assign("GIFT-1" if (await still.coupon("GIFT-1"))[1]["userId"] is None else "GIFT-2", "bob")
    book = await still.change(book, max_codes_per_user=None)
    await still.refuses("user_coupon_limit", still.gift(book, "bob", "A-3"))
    assert (await still.gift(book, "eve", "A-4"))[0] == 201
    await still.refuses("out_of_stock", still.gift(book, "eve", "A-5"))
    await still.change(book, status="inactive")
    await still.refuses("book_inactive", still.gift(book, "eve", "A-5"))
    await still.change(book, status="active")
    await still.wait(1000)
    await still.refuses("expired", still.gift(book, "eve", "A-5"))
    empty = await still.book()
    await still.refuses("out_of_stock", still.gift(empty, "eve", "A-5"))


async def test_what_was_taken_back_may_be_given_again(still: Shop) -> None:
    """After an unassign, and after the order's rollback, the order has no gift, and gets one."""
    book = await still.book("GIFT-1")
    await still.gift(book, "ann", "A-1")
    await still.unassign("GIFT-1")
    await still.wait(1)
    assert (await still.gift(book, "ann", "A-1"))[0] == 201
    await still.wait(1)
    assert await still.rollback_order("A-1") == (200, {"items": [], "durability": "accepted"})
    assert (await still.coupon("GIFT-1"))[1]["status"] == "available"
    await still.wait(1)
    assert (await still.gift(book, "bob", "A-1"))[0] == 201


async def test_a_coupon_that_was_assigned_anew_is_no_gift(still: Shop) -> None:
    """A gift that was taken back is not the order's when it is another user's, or the same user's by another assign."""
    book = await still.book("GIFT-1")
    await still.gift(book, "ann", "A-1")
    for user, ms in (("bob", 0), ("ann", 1)):
        await still.unassign("GIFT-1")
        await still.wait(ms)
        assert (await still.assign("GIFT-1", user))[0] == 201
        await still.refuses("out_of_stock", still.gift(book, "ann", "A-1"))


async def test_an_orders_rollback_takes_the_gift_with_it(still: Shop) -> None:
    """Redemption and gift are taken back, each by its event; a second rollback finds neither."""
    book, gifts = await still.book("CODE-1"), await still.book("GIFT-1")
    await still.redeem("CODE-1", "ann", orderId="A-1")
    await still.gift(gifts, "ann", "A-1")
    status, body = await still.rollback_order("A-1", key="k")
    assert (status, [item["code"] for item in body["items"]]) == (200, ["CODE-1"])
    assert [words[0] for _, words in await still.events()] == ["O", "R", "A", "B", "U"]
    assert (await still.stats(gifts))["assigned"] == (await still.stats(book))["redeemed"] == 0
    assert (await still.rollback_order("A-1", key="k"))[1].pop("replayed")
    await still.refuses("already_rolled_back", still.rollback_order("A-1"))


async def test_a_gift_that_was_used_stays(still: Shop) -> None:
    """An order with nothing but a used gift has nothing to roll back; its redemption goes without it."""
    await still.book("CODE-1")
    gifts = await still.book("GIFT-1", max_redemptions_per_code=2)
    await still.gift(gifts, "ann", "A-1")
    await still.redeem("GIFT-1", "ann", orderId="A-2")
    await still.refuses("already_rolled_back", still.rollback_order("A-1"))
    await still.redeem("CODE-1", "ann", orderId="A-1")
    assert (await still.rollback_order("A-1"))[0] == 200
    assert (await still.coupon("GIFT-1"))[1]["userId"] == "ann"


async def test_a_lock_on_a_gift_ends_when_it_is_taken_back(still: Shop) -> None:
    """The order was rolled back: the lock that its user had on the gift is lost, of one use or of several."""
    rules = {"max_redemptions_per_user": 3, "max_redemptions": 3}
    single = await still.book("GIFT-1", **rules)
    several = await still.book("GIFT-2", max_redemptions_per_code=3, **rules)
    for book, order, code in ((single, "A-1", "GIFT-1"), (several, "A-2", "GIFT-2")):
        await still.gift(book, "ann", order)
        _, lock = await still.lock(code, "ann", orderId="B-1")
        if code == "GIFT-2":
            await still.lock(code, "ann", orderId="B-2")
        assert (await still.rollback_order(order))[0] == 200
        await still.refuses("lock_lost", still.redeem(code, "ann", lockToken=lock["lockToken"], orderId="B-1"))
        assert (await still.coupon(code))[1]["status"] == "available"
        assert (await still.assign(code, "bob"))[0] == 201


async def test_a_recorded_gift_is_restored(still: Shop) -> None:
    """What is applied again is as if it had been given: the order has its gift, and a repeat shows it."""
    book = await still.book("GIFT-1", "GIFT-2")
    decided = f"A 1 1 GIFT-2 ann {NOW_MS} {key_names.bucket('GIFT-2')} A-1 {key_names.bucket('A-1')}"
    await redone(still, ("7-1", decided, "{}"))
    status, again = await still.gift(book, "ann", "A-1")
    assert (status, again["code"]) == (200, "GIFT-2")
