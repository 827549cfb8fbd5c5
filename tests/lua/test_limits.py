"""Limits of users, books and workspaces: locks count while they live, and what is given back counts no more."""

from typing import Any

import pytest

from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop

RULES = pytest.mark.parametrize(
    ("rule", "refusal"),
    [("max_redemptions_per_user", "user_redemption_limit"), ("max_redemptions", "out_of_stock")],
)


@RULES
async def test_a_live_lock_counts_and_an_expired_one_does_not(
    still: Shop, uses: int | None, rule: str, refusal: str
) -> None:
    """A use that a lock holds is given to no other request until its deadline, and to the next from then on."""
    rules: dict[str, Any] = {"max_redemptions_per_code": uses, rule: 2}
    await still.book("CODE-1", "CODE-2", "CODE-3", **rules)
    await still.redeem("CODE-1", "ann", orderId="A-1")
    await still.lock("CODE-2", "ann", orderId="A-2", lockSeconds=10)
    for ask in (still.redeem, still.lock):
        await still.refuses(refusal, ask("CODE-3", "ann", orderId="A-3"))
    assert (await still.validate("CODE-3", userId="ann"))[1]["reasons"] == [refusal]
    assert (await still.validate("CODE-2", userId="ann", orderId="A-2"))[1]["reasons"] == []
    await still.wait(9_999)
    await still.refuses(refusal, still.redeem("CODE-3", "ann", orderId="A-3"))
    await still.wait(1)
    assert (await still.redeem("CODE-3", "ann", orderId="A-3"))[0] == 201
    await still.refuses(refusal, still.redeem("CODE-2", "ann", orderId="A-2"))


@RULES
@pytest.mark.parametrize("how", ["unlock", "redeem and roll back"])
async def test_a_released_use_is_free_at_once(still: Shop, uses: int | None, rule: str, refusal: str, how: str) -> None:
    """What a lock held is free when the lock is released, and when its redemption is rolled back with restore."""
    rules: dict[str, Any] = {"max_redemptions_per_code": uses, rule: 1}
    await still.book("CODE-1", "CODE-2", **rules)
    _, lock = await still.lock("CODE-1", "ann")
    await still.refuses(refusal, still.redeem("CODE-2", "ann"))
    if how == "unlock":
        await still.unlock("CODE-1", lock["lockToken"])
    else:
        _, redemption = await still.redeem("CODE-1", "ann", lockToken=lock["lockToken"])
        await still.refuses(refusal, still.lock("CODE-2", "ann"))
        await still.rollback(redemption["redemptionId"])
    assert (await still.redeem("CODE-2", "ann"))[0] == 201


async def test_an_extended_lock_counts_until_its_new_end(still: Shop, uses: int | None) -> None:
    """A lock that was extended or renewed keeps its use of user and book until the new deadline."""
    rules = {"max_redemptions_per_code": uses, "max_redemptions_per_user": 1, "max_redemptions": 2}
    await still.book("CODE-1", "CODE-2", "CODE-3", "CODE-4", **rules)
    _, lock = await still.lock("CODE-1", "ann", lockSeconds=10)
    await still.lock("CODE-2", "bob", lockSeconds=10)
    await still.extend("CODE-1", lock["lockToken"], lockSeconds=30)
    await still.lock("CODE-2", "bob", lockSeconds=30)
    await still.wait(29_999)
    await still.refuses("user_redemption_limit", still.lock("CODE-3", "ann"))
    await still.refuses("out_of_stock", still.lock("CODE-3", "cat"))
    await still.wait(1)
    assert (await still.lock("CODE-3", "ann"))[0] == 201
    assert (await still.lock("CODE-4", "cat"))[0] == 201


@RULES
async def test_a_limit_that_is_set_later_does_not_count_earlier_locks(still: Shop, rule: str, refusal: str) -> None:
    """A lock from before a limit holds no use of it, and may pass it: it was promised before."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3")
    await still.lock("CODE-1", "ann")
    await still.change(book, **{rule: 1})
    _, lock = await still.lock("CODE-2", "ann")
    await still.refuses(refusal, still.lock("CODE-3", "ann"))
    assert (await still.lock("CODE-1", "ann"))[0] == 200
    assert (await still.redeem("CODE-1", "ann"))[0] == 201
    assert (await still.redeem("CODE-2", "ann", lockToken=lock["lockToken"]))[0] == 201
    await still.refuses(refusal, still.redeem("CODE-3", "ann"))


async def test_a_limit_below_what_is_used_just_ends_redeeming(still: Shop) -> None:
    """A limit that is lowered below what is used and locked ends redeeming, but for earlier locks."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3", max_redemptions=3, max_redemptions_per_user=3)
    for code in ("CODE-1", "CODE-2"):
        await still.lock(code, "ann")
    await still.change(book, max_redemptions=1, max_redemptions_per_user=1)
    assert (await still.lock("CODE-1", "ann"))[0] == 200
    assert (await still.redeem("CODE-1", "ann"))[0] == 201
    await still.refuses("user_redemption_limit", still.redeem("CODE-3", "ann"))
    assert (await still.lock("CODE-2", "ann"))[0] == 200
    assert (await still.redeem("CODE-2", "ann"))[0] == 201
    await still.change(book, max_redemptions=3, max_redemptions_per_user=None)
    assert (await still.redeem("CODE-3", "bob"))[0] == 201


async def test_the_users_limit_is_each_users_and_each_books(still: Shop) -> None:
    """One user's uses don't count for another, nor one book's for another; validate without a user doesn't ask."""
    await still.book("CODE-1", "CODE-2", "CODE-3", max_redemptions_per_user=1)
    await still.book("CODE-4", max_redemptions_per_user=1)
    await still.redeem("CODE-1", "ann")
    await still.refuses("user_redemption_limit", still.redeem("CODE-2", "ann"))
    assert (await still.validate("CODE-2"))[1]["valid"]
    assert (await still.redeem("CODE-2", "bob"))[0] == 201
    assert (await still.redeem("CODE-4", "ann"))[0] == 201


async def test_codes_ever_assigned_are_counted(still: Shop) -> None:
    """maxCodesPerUser counts each code of the book that the user ever had: named, at random, given at upload, used."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3", "CODE-4", max_codes_per_user=3)
    await still.add(book, "CODE-5", owner_id="ann")
    await still.assign("CODE-1", "ann")
    await still.assign_any(book, "ann")
    await still.redeem("CODE-1", "ann")
    await still.refuses("user_code_limit", still.assign_any(book, "ann"))
    codes = ("CODE-2", "CODE-3", "CODE-4")
    (free,) = [code for code in codes if not (await still.coupon(code))[1]["userId"]][:1]
    await still.refuses("user_code_limit", still.assign(free, "ann"))
    assert (await still.assign(free, "bob"))[0] == 201


async def test_coupons_held_are_counted_over_all_books(still: Shop) -> None:
    """The workspace's maxCoupons bounds what a user holds over all books; a user's own cap goes before it."""
    await still.put_workspace(max_coupons=2)
    first = await still.book("CODE-1", "CODE-2", "CODE-3")
    second = await still.book("CODE-4", "CODE-5")
    await still.assign("CODE-1", "ann")
    await still.assign_any(second, "ann")
    await still.refuses("user_coupon_limit", still.assign_any(first, "ann"))
    await still.refuses("user_coupon_limit", still.assign("CODE-2", "ann"))
    await still.user("ann", 3)
    assert (await still.assign("CODE-2", "ann"))[0] == 201
    await still.refuses("user_coupon_limit", still.assign("CODE-3", "ann"))
    await still.user("ann", None)
    await still.refuses("user_coupon_limit", still.assign("CODE-3", "ann"))
    await still.put_workspace(max_coupons=None)
    assert (await still.assign("CODE-3", "ann"))[0] == 201
    assert await still.held("ann") == 4


async def test_what_is_used_up_is_not_held(still: Shop) -> None:
    """A coupon leaves what its user holds with its last use, and is back with a rollback that restores it."""
    await still.user("ann", 1)
    book = await still.book("CODE-1", "CODE-2", max_redemptions_per_code=2)
    await still.assign("CODE-1", "ann")
    await still.redeem("CODE-1", "ann")
    await still.refuses("user_coupon_limit", still.assign_any(book, "ann"))
    _, last = await still.redeem("CODE-1", "ann")
    assert await still.held("ann") == 0
    await still.rollback(last["redemptionId"])
    assert await still.held("ann") == 1
    await still.refuses("user_coupon_limit", still.assign_any(book, "ann"))
    _, last = await still.redeem("CODE-1", "ann")
    await still.rollback(last["redemptionId"], restore=False)
    assert await still.held("ann") == 0
    assert (await still.assign_any(book, "ann"))[0] == 201


async def test_what_is_past_its_window_is_not_held(still: Shop) -> None:
    """A coupon past its own end or its book's is not held, each counted once; one switched off is."""
    plain = await still.book("CODE-1", "CODE-2", "CODE-5", "CODE-6")
    ending = await still.book("CODE-3", "CODE-4", valid_until_ms=NOW_MS + 20)
    await still.add(plain, "CODE-1", "CODE-5", expires_ms=NOW_MS + 10)
    await still.add(ending, "CODE-3", expires_ms=NOW_MS + 10)
    for number in range(1, 6):
        await still.assign(f"CODE-{number}", "ann")
    assert await still.held("ann") == 5
    await still.wait(9)
    assert await still.held("ann") == 5
    await still.wait(1)
    assert await still.held("ann") == 2
    await still.wait(10)
    assert await still.held("ann") == 1
    await still.user("ann", 2)
    assert (await still.assign("CODE-6", "ann"))[0] == 201
    await still.refuses("user_coupon_limit", still.assign_any(plain, "ann"))
    await still.unassign("CODE-6")
    await still.user("ann", None)
    await still.add(plain, "CODE-2", active=False)
    assert await still.held("ann") == 1
    await still.add(plain, "CODE-1", expires_ms=None)
    assert await still.held("ann") == 2
    await still.change(ending, valid_until_ms=None)
    assert await still.held("ann") == 3
    assert await still.held("nobody") == 0
