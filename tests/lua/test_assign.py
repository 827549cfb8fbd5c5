"""Assigning gives a coupon to one user, named or at random, out of what is free."""

import json

from uuid_utils import uuid7

from loadtests.harness.premises import NOW_MS
from loadtests.harness.shop import Shop
from service.domain.times import from_ms
from service.formats import key_names


async def test_a_named_coupon_is_given_once(still: Shop, uses: int | None) -> None:
    """The first assign answers 201 with the coupon, the user's repeat 200 with the same and no event."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    status, coupon = await still.assign("code-1", "ann")
    assert (status, coupon) == (
        201,
        {
            "code": "CODE-1",
            "bookId": str(book.book_id),
            "status": "assigned",
            "userId": "ann",
            "redemptions": 0,
            "maxRedemptions": uses,
            "lock": None,
            "assignedAt": from_ms(NOW_MS),
            "expiresAt": None,
            "lastRedemption": None,
            "durability": "accepted",
        },
    )
    event = await still.last_event()
    assert event["d"] == f"A 1 1 CODE-1 ann {NOW_MS} {key_names.bucket('CODE-1')}"
    assert json.loads(event["r"]) == {"ip": "192.0.2.1", "ua": "tests"}
    await still.wait(1)
    assert await still.assign("CODE-1", "ann") == (200, coupon)
    assert len(await still.events()) == 2
    assert await still.coupon("CODE-1") == (200, {name: coupon[name] for name in coupon if name != "durability"})
    await still.refuses("coupon_assigned_to_other", still.assign("CODE-1", "bob"))
    assert await still.held("ann") == 1


async def test_what_is_not_there_is_not_found(still: Shop) -> None:
    """An unknown coupon or book, and what can't be one, is not found."""
    book = await still.book("CODE-1")
    for code in ("NEVER-WAS", "abc", "assign", "a b c d"):
        await still.refuses("coupon_not_found", still.assign(code, "ann"))
    for book_id in (str(uuid7()), "x", ""):
        await still.refuses("book_not_found", still.assign_book(book_id, "ann"))
    assert (await still.assign_book(str(book.book_id).upper(), "ann"))[0] == 201


async def test_a_repeat_is_answered_though_the_coupon_is_used(still: Shop) -> None:
    """A coupon that was its user's already is answered 200, used up and locked by another of its orders as well."""
    await still.book("CODE-1", "CODE-2")
    for code in ("CODE-1", "CODE-2"):
        await still.assign(code, "ann")
    await still.redeem("CODE-1", "ann")
    await still.lock("CODE-2", "ann", orderId="A-1")
    for code, status in (("CODE-1", "redeemed"), ("CODE-2", "locked")):
        answered, coupon = await still.assign(code, "ann")
        assert (answered, coupon["status"]) == (200, status)


async def test_a_lock_of_another_is_in_the_way(still: Shop, uses: int | None) -> None:
    """A coupon on which another has a live lock is neither assigned by name nor at random; the locker may have it."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    await still.lock("CODE-1", "ann", lockSeconds=10)
    await still.refuses("coupon_locked", still.assign("CODE-1", "bob"))
    await still.refuses("out_of_stock", still.assign_any(book, "bob"))
    assert (await still.assign("CODE-1", "ann"))[0] == 201
    assert (await still.redeem("CODE-1", "ann"))[0] == 201


async def test_anothers_lock_is_seen_behind_very_many(still: Shop) -> None:
    """However many locks a user has on a coupon, another's among them is in the way."""
    await still.book("CODE-1", max_redemptions_per_code=None)
    for n in range(101):
        await still.lock("CODE-1", "ann", orderId=f"A-{n}")
    await still.lock("CODE-1", "bob", lockSeconds=3600)
    await still.refuses("coupon_locked", still.assign("CODE-1", "ann"))


async def test_an_expired_lock_is_in_nobodys_way(still: Shop, uses: int | None) -> None:
    """From its lock's deadline on a coupon is assigned, by name and at random, though nobody has touched it since."""
    book = await still.book("CODE-1", "CODE-2", max_redemptions_per_code=uses)
    await still.lock("CODE-1", "ann", lockSeconds=10)
    await still.lock("CODE-2", "ann", lockSeconds=10)
    await still.wait(9_999)
    await still.refuses("out_of_stock", still.assign_any(book, "bob"))
    await still.refuses("coupon_locked", still.assign("CODE-1", "bob"))
    await still.wait(1)
    assert (await still.assign("CODE-1", "bob"))[0] == 201
    assert (await still.assign_any(book, "bob"))[0] == 201
    assert (await still.coupon("CODE-2"))[1]["userId"] == "bob"


async def test_many_locks_that_expired_together_are_all_taken_back(still: Shop) -> None:
    """A coupon under 230 locks that have all expired is free for the first who asks; one with a live one is not."""
    book = await still.book("CODE-1", "CODE-2", max_redemptions_per_code=300)
    for n in range(230):
        await still.lock("CODE-1", f"u{n}", lockSeconds=1)
    for n in range(60):
        await still.lock("CODE-2", f"u{n}", lockSeconds=1)
    await still.lock("CODE-2", "ann", lockSeconds=2)
    await still.wait(1000)
    assert (await still.assign_any(book, "bob"))[1]["code"] == "CODE-1"
    assert await still.assign_any(book, "bob") == (409, "out_of_stock")
    await still.wait(1000)
    assert (await still.assign_any(book, "bob"))[1]["code"] == "CODE-2"


async def test_what_is_behind_locked_coupons_is_found(still: Shop) -> None:
    """A free coupon is found behind many others whose locks expired and that are not free for other reasons."""
    codes = [f"CODE-{n:03}" for n in range(45)]
    book = await still.book(*codes)
    for n, code in enumerate(codes):
        await still.lock(code, "ann", lockSeconds=n + 1)
    for code in codes[:-1]:
        await still.add(book, code, expires_ms=NOW_MS + 50_000)
    await still.wait(50_000)
    assert (await still.assign_any(book, "bob"))[1]["code"] == codes[-1]
    await still.refuses("out_of_stock", still.assign_any(book, "bob"))


async def test_a_random_coupon_is_one_that_is_free(still: Shop) -> None:
    """Only coupons that are on, unassigned, unlocked, not used up and within their window are given at random."""
    book = await still.book("FREE-1", "OFF-1", "MINE-1", "LOCK-1", "USED-1", "DONE-1", "DATED-1")
    await still.add(book, "OFF-1", active=False)
    await still.add(book, "DONE-1", expires_ms=NOW_MS)
    await still.add(book, "DATED-1", expires_ms=NOW_MS + 1)
    await still.assign("MINE-1", "bob")
    await still.lock("LOCK-1", "bob")
    await still.redeem("USED-1", "bob")
    given = {(await still.assign_any(book, "ann"))[1]["code"] for _ in range(2)}
    assert given == {"FREE-1", "DATED-1"}
    await still.refuses("out_of_stock", still.assign_any(book, "ann"))
    stats = await still.stats(book)
    assert [stats[name] for name in ("codes", "assigned", "locked_unassigned", "redeemed", "inactive")] == [
        7,
        3,
        1,
        1,
        1,
    ]


async def test_a_random_coupon_carries_what_is_true_of_it(still: Shop) -> None:
    """A coupon with an end of its own and a partly used one are given as they are."""
    book = await still.book("CODE-1", max_redemptions_per_code=3)
    _, redemption = await still.redeem("CODE-1", "bob")
    _, coupon = await still.assign_any(book, "ann")
    assert (coupon["code"], coupon["redemptions"], coupon["status"]) == ("CODE-1", 1, "assigned")
    assert coupon["lastRedemption"]["redemptionId"] == redemption["redemptionId"]
    await still.add(book, "CODE-2", expires_ms=NOW_MS + 1)
    _, coupon = await still.assign_any(book, "ann")
    assert (coupon["code"], coupon["expiresAt"]) == ("CODE-2", from_ms(NOW_MS + 1))


async def test_before_its_window_a_coupon_is_assigned_and_not_after(still: Shop) -> None:
    """Assigning before validFrom is fine; from validUntil on, or the code's own end, it is expired."""
    book = await still.book("CODE-1", "CODE-2", valid_from_ms=NOW_MS + 5, valid_until_ms=NOW_MS + 10)
    await still.add(book, "CODE-2", expires_ms=NOW_MS + 7)
    assert (await still.assign("CODE-1", "ann"))[0] == 201
    await still.wait(7)
    await still.refuses("expired", still.assign("CODE-2", "ann"))
    await still.refuses("out_of_stock", still.assign_any(book, "ann"))
    await still.wait(3)
    await still.refuses("expired", still.assign_any(book, "ann"))
    await still.refuses("expired", still.assign("CODE-1", "ann"))


async def test_buckets_that_are_emptied_are_left(still: Shop) -> None:
    """Two codes of one bucket leave it one after the other; an empty bucket is never drawn."""
    codes: dict[int, str] = {}
    first = second = ""
    for n in range(200_000):
        second = f"A-{n:06}"
        first = codes.setdefault(key_names.bucket(second), second)
        if first != second:
            break
    book = await still.book(first, second)
    assert {(await still.assign_any(book, "ann"))[1]["code"] for _ in range(2)} == {first, second}
    await still.refuses("out_of_stock", still.assign_any(book, "ann"))
