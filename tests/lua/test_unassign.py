"""Unassigning takes an assignment back while nothing of the coupon is locked or used; it then counts nowhere."""

import json
from typing import Any

from loadtests.harness.premises import NOW_MS
from loadtests.harness.shop import Shop, tally, together
from service.domain.times import from_ms
from service.formats import key_names


async def test_an_assignment_is_taken_back_once(still: Shop, uses: int | None) -> None:
    """The answer is the coupon, which is nobody's now; one event says so; the repeat hears coupon_not_assigned."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    _, free = await still.coupon("CODE-1")
    assert [free[name] for name in ("status", "userId", "assignedAt")] == ["available", None, None]
    await still.assign("CODE-1", "ann")
    await still.wait(1)
    assert await still.unassign("code-1") == (200, free | {"durability": "accepted"})
    event = await still.last_event()
    assert event["d"] == f"U 1 1 CODE-1 ann {NOW_MS + 1} {key_names.bucket('CODE-1')}"
    assert json.loads(event["r"]) == {"ip": "192.0.2.1", "ua": "tests"}
    assert await still.coupon("CODE-1") == (200, free)
    await still.refuses("coupon_not_assigned", still.unassign("CODE-1"))


async def test_nothing_is_left_of_it(still: Shop) -> None:
    """Redis is as before the assignment, but for the event."""
    book = await still.book("CODE-1", "CODE-2", max_codes_per_user=2)
    await still.add(book, "CODE-2", expires_ms=NOW_MS + 9)
    before = await still.everything()
    for code in ("CODE-1", "CODE-2"):
        await still.assign(code, "ann")
    for code in ("CODE-1", "CODE-2"):
        assert (await still.unassign(code))[0] == 200
    after = await still.everything()
    assert (
        len(after.pop(key_names.outbox(0))) == len(before.pop(key_names.outbox(0))) + 5
    )  # with the notice that it is out
    counters = f"{still.caller.prefix}n:1"
    assert (after.pop(counters), before.pop(counters)) == ({"codes": "2", "assigned": "0"}, {"codes": "2"})
    assert after == before


async def test_it_counts_nowhere(still: Shop) -> None:
    """Neither among the user's codes of the book nor among the coupons held nor in the book's counts."""
    book = await still.book("CODE-1", "CODE-2", max_codes_per_user=1)
    await still.put_workspace(max_coupons=1)
    await still.assign("CODE-1", "ann")
    await still.refuses("user_code_limit", still.assign("CODE-2", "ann"))
    assert (await still.held("ann"), (await still.stats(book))["assigned"]) == (1, 1)
    await still.unassign("CODE-1")
    assert (await still.held("ann"), (await still.stats(book))["assigned"]) == (0, 0)
    assert (await still.assign("CODE-2", "ann"))[0] == 201
    book = await still.change(book, max_codes_per_user=None)
    await still.refuses("user_coupon_limit", still.assign("CODE-1", "ann"))
    await still.unassign("CODE-2")
    assert (await still.assign("CODE-1", "ann"))[0] == 201


async def test_of_two_coupons_the_other_stays(still: Shop) -> None:
    """What else the user has of the book still counts."""
    await still.book("CODE-1", "CODE-2", "CODE-3", max_codes_per_user=2)
    for code in ("CODE-1", "CODE-2"):
        await still.assign(code, "ann")
    await still.unassign("CODE-1")
    assert await still.held("ann") == 1
    assert (await still.coupon("CODE-2"))[1]["userId"] == "ann"
    await still.assign("CODE-3", "ann")
    await still.refuses("user_code_limit", still.assign("CODE-1", "ann"))


async def test_the_coupon_is_free_again(still: Shop, uses: int | None) -> None:
    """It is given at random and by name, to another or the same, and whoever wants may redeem it."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    for user in ("ann", "bob", "bob"):
        assert (await still.assign_any(book, user))[0] == 201
        await still.refuses("out_of_stock", still.assign_any(book, "cat"))
        assert (await still.unassign("CODE-1"))[0] == 200
    assert (await still.assign("CODE-1", "cat"))[0] == 201
    await still.unassign("CODE-1")
    assert (await still.redeem("CODE-1", "dan"))[0] == 201


async def test_a_user_who_lost_it_may_not_redeem_where_one_must_have_it(still: Shop) -> None:
    """Where the book insists on an assignment, it is needed again."""
    await still.book("CODE-1", require_assignment=True)
    await still.assign("CODE-1", "ann")
    await still.unassign("CODE-1")
    await still.refuses("coupon_not_assigned", still.redeem("CODE-1", "ann"))


async def test_refusals_in_their_order(still: Shop, uses: int | None) -> None:
    """Not found, not assigned, locked by anyone, used; the first is named, and none changes anything."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    for code in ("NEVER-WAS", "abc", "unassign"):
        await still.refuses("coupon_not_found", still.unassign(code))
    await still.lock("CODE-1", "ann", lockSeconds=10)
    await still.refuses("coupon_not_assigned", still.unassign("CODE-1"))
    await still.assign("CODE-1", "ann")
    await still.refuses("coupon_locked", still.unassign("CODE-1"))
    assert await still.retry_after_ms(still.unassign, "CODE-1") == ("coupon_locked", 10_000)
    await still.redeem("CODE-1", "ann")
    if uses != 1:
        await still.lock("CODE-1", "ann", orderId="A-1", lockSeconds=10)
        await still.refuses("coupon_locked", still.unassign("CODE-1"))
        await still.wait(10_000)
    await still.refuses("coupon_redeemed", still.unassign("CODE-1"))
    if uses == 3:
        for n in range(2):
            await still.redeem("CODE-1", "ann", orderId=f"B-{n}")
        await still.refuses("coupon_exhausted", still.unassign("CODE-1"))


async def test_what_a_rollback_gave_back_is_not_used(still: Shop, uses: int | None) -> None:
    """After a rollback with restore nothing is used; without, the use stays spent."""
    await still.book("CODE-1", "CODE-2", max_redemptions_per_code=uses)
    for code, restore in (("CODE-1", True), ("CODE-2", False)):
        await still.assign(code, "ann")
        _, redemption = await still.redeem(code, "ann")
        await still.rollback(redemption["redemptionId"], restore=restore)
    assert (await still.unassign("CODE-1"))[0] == 200
    await still.refuses("coupon_redeemed", still.unassign("CODE-2"))


async def test_a_lock_that_has_expired_is_not_in_the_way(still: Shop, uses: int | None) -> None:
    """From its deadline on, though nobody has touched the coupon, which goes to the free ones at once."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    await still.assign("CODE-1", "ann")
    await still.lock("CODE-1", "ann", lockSeconds=10)
    await still.wait(9_999)
    await still.refuses("coupon_locked", still.unassign("CODE-1"))
    await still.wait(1)
    assert (await still.unassign("CODE-1"))[1]["status"] == "available"
    assert not [name for name in await still.everything() if ":l:" in name]
    assert (await still.assign_any(book, "bob"))[0] == 201


async def test_very_many_expired_locks_are_no_hindrance(still: Shop) -> None:
    """All of them are forgotten, and the coupon is free."""
    book = await still.book("CODE-1", max_redemptions_per_code=None)
    await still.assign("CODE-1", "ann")
    for n in range(45):
        await still.lock("CODE-1", "ann", orderId=f"A-{n}", lockSeconds=1)
    await still.wait(1000)
    await still.unassign("CODE-1")
    assert (await still.assign_any(book, "bob"))[0] == 201


async def test_switches_and_windows_dont_hinder(still: Shop) -> None:
    """A coupon that is switched off, past its window or of an inactive book is taken back, and keeps its place."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3", valid_until_ms=NOW_MS + 10)
    for code in ("CODE-1", "CODE-2", "CODE-3"):
        await still.assign(code, "ann")
    await still.add(book, "CODE-1", active=False)
    await still.add(book, "CODE-2", expires_ms=NOW_MS + 1)
    book = await still.change(book, status="archived")
    await still.wait(10)
    found = [(await still.unassign(f"CODE-{n}"))[1]["status"] for n in (1, 2, 3)]
    assert found == ["inactive", "expired", "expired"]
    stats = await still.stats(book)
    assert (stats["assigned"], stats["inactive"], await still.held("ann")) == (0, 1, 0)
    await still.add(book, "CODE-1")
    await still.change(book, status="active", valid_until_ms=None)
    given = {(await still.assign_any(book, "bob"))[1]["code"] for _ in range(2)}
    assert given == {"CODE-1", "CODE-3"}


async def test_an_owner_given_at_upload_is_taken_too_and_not_brought_back(still: Shop) -> None:
    """What the merchant says later of the code, or says again, doesn't make it the old owner's."""
    book = await still.book()
    says: dict[str, Any] = {"owner_id": "ann", "expires_ms": NOW_MS + 9, "max_redemptions": 2}
    await still.add(book, "CODE-1", **says)
    assert await still.held("ann") == 1
    _, coupon = await still.unassign("CODE-1")
    assert (coupon["userId"], coupon["status"], coupon["expiresAt"]) == (None, "available", from_ms(NOW_MS + 9))
    for active in (True, False, True):
        await still.add(book, "CODE-1", **says, active=active)
        assert (await still.coupon("CODE-1"))[1]["userId"] is None
    assert await still.held("ann") == 0
    assert (await still.assign_any(book, "bob"))[1]["code"] == "CODE-1"
    await still.add(book, "CODE-1", **says)
    assert (await still.coupon("CODE-1"))[1]["userId"] == "bob"


async def test_against_locks_and_redeems_somebody_is_first(shop: Shop) -> None:
    """Where a lock or redeem races with an unassign, either it came first and the unassign is refused, or last."""
    codes = [f"CODE-{n:03}" for n in range(100)]
    await shop.book(*codes, require_assignment=True)
    await together(*(shop.assign(code, "ann") for code in codes))
    asked = []
    for n, code in enumerate(codes):
        pair = [(shop.lock if n % 2 else shop.redeem)(code, "ann"), shop.unassign(code)]
        asked += pair if n % 3 else pair[::-1]
    answers = await together(*asked)
    for n in range(100):
        use, taken = answers[2 * n : 2 * n + 2] if n % 3 else answers[2 * n : 2 * n + 2][::-1]
        if taken[0] == 200:
            assert use == (409, "coupon_not_assigned")
        else:
            assert use[0] == 201
            assert taken == (409, "coupon_locked" if n % 2 else "coupon_redeemed")


async def test_assigns_and_unassigns_at_once_add_up(shop: Shop) -> None:
    """However they interleave, each unassign that succeeds had an assign before it."""
    await shop.book("CODE-1", "CODE-2", max_codes_per_user=1)
    asked = []
    for n in range(100):
        asked += [shop.assign(f"CODE-{1 + n % 2}", f"u{n % 5}"), shop.unassign(f"CODE-{1 + n % 2}")]
    answers = tally(await together(*asked))
    assert answers[201] - answers[200] in range(3)
