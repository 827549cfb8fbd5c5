"""Unassigning takes an assignment back while nothing of the coupon is locked or used; it then counts nowhere."""

from typing import Any

from service.engine.domain.times import from_ms
from service.engine.formats.events import RequestPart, Unassigned
from service.engine.operations import table
from tests.harness.cases import MISSING, posts
from tests.harness.described import Description, Good
from tests.harness.script_runner import EPOCH, NOW_MS
from tests.harness.shop import Shop, tally, together
from tests.lua.outbox import parse_entry

DESCRIBED = (
    Description(
        row=table.UNASSIGN,
        scopes="manage",
        path="/v1/coupons/unassign/{assigned}",
        body={},
        goods=(Good({}),),
        refusals=posts(
            "/v1/coupons/unassign/{code}",
            *MISSING,
            ("coupon_not_assigned", {"code": "{free}"}),
            ("coupon_locked", {"code": "{owned_held}"}),
            ("coupon_redeemed", {"code": "{owned_used}"}),
            ("coupon_exhausted", {"code": "{owned_spent}"}),
        ),
        refused="behind",
        writes=True,
        before=lambda shop, _, code: shop.assign(code, "ann"),
        ask=lambda shop, _, code, *__, **more: shop.unassign(code, **more),
    ),
)


async def test_an_assignment_is_taken_back_once(still: Shop, uses: int | None) -> None:
    """The answer is the coupon, now without a user; there is one event; the repeat is refused, coupon_not_assigned."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    _, free = await still.coupon("CODE-1")
    assert [free[name] for name in ("status", "userId", "assignedAt")] == ["available", None, None]
    await still.assign("CODE-1", "ann")
    await still.wait(1)
    assert await still.unassign("code-1") == (200, free | {"durability": "accepted"})
    event = parse_entry(*(await still.read_outbox_entries())[-1])
    about: dict[str, Any] = {"workspace": 1, "book": 1, "code": "CODE-1", "user": "ann", "at_ms": NOW_MS + 1}
    assert event == Unassigned(epoch=EPOCH, seq=event.seq, request=RequestPart(ip="192.0.2.1", ua="tests"), **about)
    assert await still.coupon("CODE-1") == (200, free)
    await still.refuses("coupon_not_assigned", still.unassign("CODE-1"))


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
    """From the lock's deadline on the coupon is taken back, and free at once."""
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
    statuses = [(await still.unassign(f"CODE-{n}"))[1]["status"] for n in (1, 2, 3)]
    assert statuses == ["inactive", "expired", "expired"]
    stats = await still.stats(book)
    assert (stats["assigned"], stats["inactive"], await still.held("ann")) == (0, 1, 0)
    await still.add(book, "CODE-1")
    await still.change(book, status="active", valid_until_ms=None)
    given = {(await still.assign_any(book, "bob"))[1]["code"] for _ in range(2)}
    assert given == {"CODE-1", "CODE-3"}


async def test_an_owner_given_at_upload_is_taken_too_and_not_brought_back(still: Shop) -> None:
    """A later or repeated configuration of the code doesn't give it back to the old owner."""
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
    for _ in range(2):
        await still.redeem("CODE-1", "bob")
    await still.refuses("coupon_exhausted", still.unassign("CODE-1"))


async def test_a_use_and_an_unassign_at_once_have_an_order(shop: Shop) -> None:
    """Of a use and an unassign that race, the first succeeds and the other is refused for it."""
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
