"""A book that runs low or out makes one notice for each crossing."""

import pytest

from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop, together


async def test_low_and_out_are_noticed_once(still: Shop) -> None:
    """Free codes go from 5 to 0 with a threshold of 3: low at 2 left, out at 0, nothing between."""
    book = await still.book(*(f"CODE-{n}" for n in range(5)), low_stock_threshold=3)
    seen = []
    for n in range(5):
        await (still.redeem(f"CODE-{n}", "ann") if n % 2 else still.assign(f"CODE-{n}", "ann"))
        seen.append(await still.notices(book))
    low, out = "low codes 2", "out codes 0"
    assert seen == [[], [], [low], [low], [low, out]]


async def test_locks_dont_count(still: Shop) -> None:
    """There is no notice while codes are locked, nor when an assigned one is redeemed."""
    book = await still.book("CODE-1", "CODE-2", low_stock_threshold=2)
    await still.lock("CODE-1", "ann")
    await still.lock("CODE-2", "ann")
    assert await still.notices(book) == []
    await still.redeem("CODE-1", "ann")
    assert await still.notices(book) == ["low codes 1"]
    await still.assign("CODE-2", "ann")
    await still.redeem("CODE-2", "ann")
    assert await still.notices(book) == ["low codes 1", "out codes 0"]


async def test_what_is_off_or_exhausted_is_not_left(still: Shop) -> None:
    """Of four codes one is switched off and one is used up: the next that is taken leaves one."""
    book = await still.book("CODE-1", "CODE-2", "OFF-1", low_stock_threshold=2)
    await still.add(book, "OFF-1", active=False)
    await still.add(book, "TWICE-1", max_redemptions=2)
    for _ in range(2):
        await still.redeem("TWICE-1", "ann")
    assert await still.notices(book) == []
    await still.assign("CODE-1", "ann")
    assert await still.notices(book) == ["low codes 1"]


async def test_each_crossing_is_noticed(still: Shop) -> None:
    """After a rollback, an unassign or an upload a book may run low again."""
    book = await still.book("CODE-1", "CODE-2", low_stock_threshold=2)
    for n in range(3):
        _, redeemed = await still.redeem("CODE-1", "ann", orderId=f"A-{n}")
        assert len(await still.notices(book)) == n + 1
        await still.rollback(redeemed["redemptionId"])
    await still.assign("CODE-1", "ann")
    await still.unassign("CODE-1")
    await still.assign("CODE-1", "ann")
    await still.add(book, "CODE-3")
    await still.assign("CODE-2", "ann")
    assert await still.notices(book) == ["low codes 1"] * 6


async def test_uses_of_the_total(still: Shop) -> None:
    """A total makes notices of its uses too; a rollback that restores gives one back."""
    rules = {"max_redemptions": 4, "max_redemptions_per_code": None, "low_stock_threshold": 2}
    book = await still.book("CODE-1", **rules)
    ids = [(await still.redeem("CODE-1", f"u{n}"))[1]["redemptionId"] for n in range(4)]
    assert await still.notices(book) == ["low uses 1", "out uses 0"]
    await still.rollback(ids[0], restore=False)
    await still.refuses("out_of_stock", still.redeem("CODE-1", "ann"))
    await still.rollback(ids[1])
    await still.redeem("CODE-1", "ann")
    assert await still.notices(book) == ["low uses 1", "out uses 0", "out uses 0"]


async def test_without_a_threshold_only_out_is_noticed(still: Shop) -> None:
    """A book without a threshold has no low; the event has all parts of the notice."""
    book = await still.book("CODE-1", "CODE-2")
    await still.assign_any(book, "ann")
    await still.assign_any(book, "ann")
    assert await still.notices(book) == ["out codes 0"]
    assert (await still._outbox())[-1][1] == ["S", "1", "1", "out", "codes", "0", str(NOW_MS)]


async def test_a_checkout_that_takes_two_crosses_once(still: Shop) -> None:
    """Coupon and gift of one book pass the threshold together: one notice, with what is left after both."""
    book = await still.book(*(f"CODE-{n}" for n in range(4)), low_stock_threshold=3)
    await still.put_workspace(gift_book_id=book.book_id)
    await still.checkout("ann", "A-1", code="CODE-0")
    assert await still.notices(book) == ["low codes 2"]
    coupons = [(await still.coupon(f"CODE-{n}"))[1] for n in range(4)]
    free = next(coupon["code"] for coupon in coupons if coupon["status"] == "available")
    await still.checkout("bob", "A-2", code=free)
    assert await still.notices(book) == ["low codes 2", "out codes 0"]


async def test_gifts_are_noticed_in_their_book(still: Shop) -> None:
    """The gift's book runs out by a checkout in another."""
    gifts = await still.book("GIFT-1")
    book = await still.book("CODE-1", "CODE-2", gift_book_id=gifts.book_id)
    await still.checkout("ann", "A-1", code="CODE-1")
    assert (await still.notices(gifts), await still.notices(book)) == (["out codes 0"], [])


async def test_a_refused_or_repeated_request_makes_no_notice(still: Shop) -> None:
    """Only what is taken makes a notice."""
    book = await still.book("CODE-1", low_stock_threshold=1)
    await still.redeem("CODE-1", "ann", orderId="A-1", key="k")
    notices = ["low codes 0", "out codes 0"]
    assert await still.notices(book) == notices
    await still.redeem("CODE-1", "ann", orderId="A-1")
    await still.redeem("CODE-1", "ann", orderId="A-1", key="k")
    await still.redeem("CODE-1", "bob")
    assert await still.notices(book) == notices


async def test_a_counter_that_drifted_makes_no_notice_twice(still: Shop) -> None:
    """A book that counts too few codes runs out once, and never has less than none left."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3", low_stock_threshold=1)
    pair = await still.book("PAIR-1", "PAIR-2")
    counters = [f"{still.caller.prefix}n:{each.book}" for each in (book, pair)]
    for name in counters:
        await still.link.call("HINCRBY", name, "codes", -1)
    for code in ("CODE-1", "CODE-2", "CODE-3"):
        await still.assign(code, "ann")
    assert await still.notices(book) == ["low codes 0", "out codes 0"]
    await still.put_workspace(gift_book_id=pair.book_id)
    await still.checkout("ann", "A-1", code="PAIR-1")
    assert await still.notices(pair) == ["out codes 0"]
    for name in counters:
        await still.link.call("HINCRBY", name, "codes", 1)


@pytest.mark.parametrize("spare", [0, 7])
async def test_many_at_once_make_one_notice(shop: Shop, spare: int) -> None:
    """200 simultaneous assigns of as many codes and some spare: each notice comes once."""
    book = await shop.book(*(f"CODE-{n:03}" for n in range(200 + spare)), low_stock_threshold=50)
    await together(*(shop.assign_any(book, f"u{n}") for n in range(200)))
    assert await shop.notices(book) == ["low codes 49", "out codes 0"][: 1 if spare else 2]
