"""A code of which an event is in quarantine is unusable, whatever the merchant says of it."""

from loadtests.harness.shop import Shop
from service.formats import key_names


async def block(shop: Shop, *codes: str) -> int:
    """Block codes of workspace 1 as recovery does; how many of them are there."""
    await shop.gate("closed")
    words = [word for code in codes for word in (1, key_names.bucket(code), code)]
    reply = await shop.work("block_codes", [key_names.gate(0)], "", *words)
    await shop.gate("open")
    return reply[1]


async def test_a_blocked_code_can_be_used_for_nothing(still: Shop, uses: int | None) -> None:
    """Lock, redeem, assign and a random assign refuse it; it counts as inactive. To block it again changes nothing."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    assert await block(still, "CODE-1", "NOWHERE") == 1
    for _ in range(2):
        await still.refuses("coupon_inactive", still.lock("CODE-1", "ann"))
        await still.refuses("coupon_inactive", still.redeem("CODE-1", "ann"))
        await still.refuses("coupon_inactive", still.assign("CODE-1", "ann"))
        await still.refuses("out_of_stock", still.assign_any(book, "ann"))
        assert (await still.coupon("CODE-1"))[1]["status"] == "inactive"
        assert (await still.stats(book))["inactive"] == 1
        assert await block(still, "CODE-1") == 1


async def test_the_merchants_switch_leaves_a_block(still: Shop) -> None:
    """Switched off and on again, and with another end, a blocked code stays blocked; the record says which of both."""
    book = await still.book("CODE-1")
    name = f"{still.caller.prefix}c:CODE-1"
    await block(still, "CODE-1")
    assert (await still.link.call("GET", name)).split(" ")[5] == "2"
    for active, word in ((False, "3"), (True, "2"), (False, "3")):
        await still.add(book, "CODE-1", active=active)
        assert (await still.link.call("GET", name)).split(" ")[5] == word
        await still.refuses("coupon_inactive", still.redeem("CODE-1", "ann"))
    assert (await still.stats(book))["inactive"] == 1
    await block(still, "CODE-1")
    assert (await still.link.call("GET", name)).split(" ")[5] == "3"


async def test_a_code_that_is_switched_off_is_blocked_too(still: Shop) -> None:
    """Switched on again it is blocked still."""
    book = await still.book("CODE-1")
    await still.add(book, "CODE-1", active=False)
    await block(still, "CODE-1")
    await still.add(book, "CODE-1", active=True)
    await still.refuses("coupon_inactive", still.redeem("CODE-1", "ann"))
    assert (await still.stats(book))["inactive"] == 1


async def test_an_owner_keeps_a_blocked_code(still: Shop) -> None:
    """Of an assigned or a used code the assignment and the use stay."""
    book = await still.book("CODE-1", "CODE-2")
    await still.assign("CODE-1", "ann")
    status, sold = await still.redeem("CODE-2", "ann")
    assert status == 201
    assert await block(still, "CODE-1", "CODE-2") == 2
    assert (await still.coupon("CODE-1"))[1]["userId"] == "ann"
    assert (await still.coupon("CODE-2"))[1]["status"] == "redeemed"
    assert (await still.rollback(sold["redemptionId"]))[0] == 200
    await still.refuses("coupon_inactive", still.redeem("CODE-2", "ann"))
    assert (await still.stats(book))["inactive"] == 2


async def test_a_code_that_redis_has_an_error_on_keeps_no_other_from_being_blocked(still: Shop) -> None:
    """A key of another type is in its own code's way alone."""
    await still.book("CODE-1", "CODE-2")
    await still.link.call("HSET", f"{still.caller.prefix}c:CODE-1", "a", "hash")
    assert await block(still, "CODE-1", "CODE-2") == 1
    await still.refuses("coupon_inactive", still.redeem("CODE-2", "ann"))
    await still.link.call("DEL", f"{still.caller.prefix}c:CODE-1")
