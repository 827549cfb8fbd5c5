"""`-`, which records have for none, is an id like any other."""

from tests.harness.shop import Shop


async def test_a_user_named_dash_owns_what_it_is_assigned(shop: Shop) -> None:
    """A coupon assigned to the user `-` is that user's alone."""
    await shop.book("CODE-1")
    assert (await shop.assign("CODE-1", "-"))[1]["userId"] == "-"
    assert await shop.assign("CODE-1", "bob") == (409, "coupon_assigned_to_other")
    status, redemption = await shop.redeem("CODE-1", "-")
    assert (status, redemption["userId"], redemption["orderId"]) == (201, "-", None)


async def test_an_order_named_dash_takes_one_coupon(shop: Shop) -> None:
    """The order `-` takes one coupon; a lock for it is no lock without an order; it is rolled back by its name."""
    await shop.book("CODE-1", "CODE-2")
    status, lock = await shop.lock("CODE-1", "ann", orderId="-")
    assert (status, lock["orderId"]) == (201, "-")
    assert await shop.lock("CODE-1", "ann") == (409, "coupon_locked")
    assert (await shop.redeem("CODE-1", "ann", orderId="-"))[1]["orderId"] == "-"
    assert await shop.redeem("CODE-2", "ann", orderId="-") == (409, "order_already_used")
    assert (await shop.rollback_order("-"))[0] == 200
    assert (await shop.redeem("CODE-2", "ann", orderId="-"))[0] == 201
