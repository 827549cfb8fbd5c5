"""What one script handles is bounded, whatever was stored, and what a bound leaves for later stays right."""

from typing import Any

import pytest

from service.engine.domain.times import LATEST_MS
from service.engine.formats import key_names
from tests.harness.colliding import colliding
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop
from tests.harness.worst.measuring import count_commands

DAY_MS = 86_400_000


async def swept(shop: Shop, book: int, of: str) -> int:
    """Of how many coupons the worker's sweep forgot expired locks."""
    outcome, count, _ = await shop.work("sweep_locks", (shop.caller.gate, f"{shop.caller.prefix}w"), book, of)
    assert outcome == 0
    return count


async def test_an_order_at_its_bound_is_rolled_back(still: Shop) -> None:
    """An order of 100 coupons gives back those that stand; then it has no entry, and still is known."""
    await still.put_workspace(coupons_per_order=100)
    codes = [f"CODE-{n:03d}" for n in range(100)]
    await still.book(*codes)
    ids = [(await still.redeem(code, "ann", orderId="A-1"))[1]["redemptionId"] for code in codes]
    for place in (0, 98, 99):
        await still.rollback(ids[place])
    _, body = await still.rollback_order("A-1")
    assert [item["redemptionId"] for item in body["items"]] == ids[1:98]
    assert await still.link.call("EXISTS", f"{still.caller.prefix}o:{key_names.bucket('A-1')}") == 0
    await still.refuses("already_rolled_back", still.rollback_order("A-1"))
    await still.record()
    await still.refuses("already_rolled_back", still.rollback_order("A-1"))
    await still.refuses("order_not_found", still.rollback_order("A-2"))


async def test_an_order_without_restore_keeps_each_of_its_places(still: Shop) -> None:
    """Of ten redemptions two give their places back, one keeps it, and then all others keep theirs."""
    await still.put_workspace(coupons_per_order=10)
    await still.book("CODE-1", max_redemptions_per_code=None)
    ids = [(await still.redeem("CODE-1", f"u{n}", orderId="A-1"))[1]["redemptionId"] for n in range(10)]
    for place, restore in ((1, True), (9, True), (4, False)):
        await still.rollback(ids[place], restore=restore)
    _, body = await still.rollback_order("A-1", restore=False)
    assert [item["redemptionId"] for item in body["items"]] == [ids[place] for place in (0, 2, 3, 5, 6, 7, 8)]
    entry = await still.link.call("HGET", f"{still.caller.prefix}o:{key_names.bucket('A-1')}", "A-1")
    assert entry == "7-1! 7-3:3! 7-4:4! 7-5:5! 7-6:6! 7-7:7! 7-8:8! 7-9:9!"
    await still.refuses("already_rolled_back", still.rollback_order("A-1"))
    assert [(await still.redeem("CODE-1", f"v{n}", orderId="A-1"))[0] for n in range(3)] == [201, 201, 409]


async def test_the_last_redemption_is_the_one_decided_last(still: Shop) -> None:
    """A clock that steps back between redemptions changes nothing: the last decided of those that stand is answered."""
    await still.book("CODE-1", max_redemptions_per_code=None)
    ids: list[str] = []
    for n, at in enumerate([9, 5, 7, 1, 1, 3, 8, 8, 2, 6, 4]):  # event 7-10 comes after 7-9
        await still.at(NOW_MS + at)
        ids.append((await still.redeem("CODE-1", f"u{n}"))[1]["redemptionId"])
    await still.rollback(ids.pop(5))
    while ids:
        _, coupon = await still.coupon("CODE-1")
        assert coupon["lastRedemption"]["redemptionId"] == ids[-1]
        await still.rollback(ids.pop())
    assert (await still.coupon("CODE-1"))[1]["lastRedemption"] is None


@pytest.mark.parametrize("uses", [3, None])
async def test_abandoned_locks_on_an_owned_code_are_swept(still: Shop, uses: int | None) -> None:
    """Locks on an assigned coupon with uses left are removed by the sweep once they have expired."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    await still.assign("CODE-1", "ann")
    for n in range(2):
        await still.lock("CODE-1", "ann", orderId=f"A-{n}", lockSeconds=60 + n)
    assert await swept(still, book.book, "o") == 0
    await still.wait(62_000)
    assert await swept(still, book.book, "o") == 1
    assert not [name for name in await still.everything() if ":k:" in name or ":kd:" in name or ":l:" in name]
    assert await swept(still, book.book, "o") == 0


@pytest.mark.parametrize("now", [NOW_MS, LATEST_MS - DAY_MS], ids=["now", "in 9999"])
async def test_times_of_fifteen_digits_are_kept(still: Shop, now: int) -> None:
    """Books, codes and clocks of the last days of the year 9999: every time is stored as it is, and found again."""
    await still.put_workspace(max_coupons=9, coupons_per_order=2)
    await still.at(now)
    book = await still.book("CODE-1", "CODE-2", valid_until_ms=LATEST_MS, max_redemptions=9, max_redemptions_per_user=9)
    several = await still.book("CODE-3", max_redemptions_per_code=None, valid_until_ms=LATEST_MS, max_redemptions=9)
    await still.add(book, "DATED-1", owner_id="ann", expires_ms=LATEST_MS)
    await still.add(book, "DATED-2", expires_ms=LATEST_MS)
    await still.add(several, "DATED-3", owner_id="ann", expires_ms=LATEST_MS, max_redemptions=3)
    for code in ("CODE-1", "CODE-3", "DATED-1", "DATED-2", "DATED-3"):
        status, held = await still.lock(code, "ann", orderId="A-1", key=f"lock {code}")
        assert status == 201
        assert (await still.extend(code, held["lockToken"], lockSeconds=600))[0] == 200
        _, refusal = await still.redeem(code, "bob", lockToken=held["lockToken"])
        assert refusal in ("lock_lost", "coupon_assigned_to_other")
    await still.wait(1)
    assert (await still.assign("CODE-2", "ann", key="assign"))[0] == 201
    assert (await still.held("ann"), (await still.user("ann", 3), await still.held("ann"))[1]) == (3, 3)
    await still.refuses("user_coupon_limit", still.assign("CODE-1", "ann"))
    _, redeemed = await still.redeem("DATED-3", "ann", orderId="A-1")
    assert (await still.coupon("DATED-3"))[1]["lastRedemption"]["redeemedAt"] == redeemed["redeemedAt"]
    assert (await still.redeem("DATED-1", "ann", orderId="A-1"))[0] == 201
    assert (await still.rollback(redeemed["redemptionId"]))[0] == 200
    assert (await still.unassign("CODE-2"))[0] == 200
    await still.wait(700_000)
    assert [await swept(still, each.book, of) for each in (book, several) for of in "uapo"].count(0) < 8


@pytest.mark.parametrize("beyond", [-90, 0, 1, 2, 80])
async def test_a_cap_counts_what_is_held_over_many_books(kind: str, still: Shop, beyond: int) -> None:
    """Of many coupons, each of a book of its own, a third is over by its book's end and some by their own; a cap is met
    exactly, whether it is far below, at or above what is held."""
    books = 100 if kind == "fakeredis" else 250
    for n in range(books):
        book = await still.book(valid_until_ms=NOW_MS + 1 if n % 3 == 0 else None)
        dated: dict[str, Any] = {"expires_ms": NOW_MS + 1} if n in (1, 3) else {}
        await still.add(book, f"CODE-{n:03d}", owner_id="ann", **dated)
    await still.book("MORE-1", "MORE-2")
    await still.wait(1)
    held = len([n for n in range(books) if n % 3 and n != 1])
    assert await still.held("ann") == held
    cap = max(1, held + beyond)
    await still.put_workspace(max_coupons=cap)
    for code in ("MORE-1", "MORE-2"):
        status, body = await still.assign(code, "ann")
        assert (status, body if status == 422 else "") == ((201, "") if held < cap else (422, "user_coupon_limit"))
        held += status == 201
    assert await still.held("ann") == held


async def test_a_users_ended_coupons_are_counted_not_read(kind: str, still: Shop) -> None:
    """With four times as many coupons that have an end of their own a user's count, and an assignment under a cap, run
    as many commands and are exact: before the ends, past some of them, and when the clock has gone back."""
    if kind == "fakeredis":
        pytest.skip("it counts no commands")
    book, commands = await still.book("MORE-1"), []
    await still.add(book, *(f"KEPT-{n}" for n in range(3)), owner_id="ann")
    await still.put_workspace(max_coupons=1000)
    for first, last in ((0, 150), (150, 600)):
        for n in range(first, last):
            await still.add(book, f"CODE-{n:03d}", owner_id="ann", expires_ms=NOW_MS + 1000 + n)
        assert await still.held("ann") == 3 + last
        await still.at(NOW_MS + 1000 + last // 2)
        before = await count_commands(still.link)
        assert await still.held("ann") == 3 + last - last // 2 - 1
        assert (await still.assign("MORE-1", "ann"))[0] == 201
        commands.append(await count_commands(still.link) - before)
        await still.unassign("MORE-1")
        await still.at(NOW_MS)
    assert commands[0] == commands[1]
    assert await still.held("ann") == 603


async def test_a_users_coupons_of_very_many_books(kind: str, still: Shop) -> None:
    """They are counted some hundred books at a time. Under a cap the ends of those of a thousand books are judged,
    others count as held; and with more books than one script reads nothing is added."""
    if kind == "fakeredis":
        pytest.skip("a server's own cursors")
    for n in range(1100):
        await still.add(await still.book(), f"CODE-{n:04d}", owner_id="ann", expires_ms=NOW_MS + n % 2)
    await still.book("MORE-1", "MORE-2", "MORE-3")
    for now, held in ((NOW_MS, 550), (NOW_MS + 1, 0)):
        await still.at(now)
        assert await still.held("ann") == held
    for cap, status in ((101, 201), (101, 422)):
        await still.put_workspace(max_coupons=cap)
        assert (await still.assign(f"MORE-{2 - (status == 201)}", "ann"))[0] == status
    user = f"{still.caller.prefix}u:ann"
    await still.link.call("HSET", user, *(part for n in range(6000) for part in (f"h{10_000 + n}", 1)))
    await still.put_workspace(max_coupons=100_000)
    await still.refuses("user_coupon_limit", still.assign("MORE-3", "ann"))
    await still.link.call("HDEL", user, *(f"h{10_000 + n}" for n in range(6000)))
    assert (await still.assign("MORE-3", "ann"))[0] == 201


async def test_the_locks_on_a_gift_that_is_taken_back(still: Shop) -> None:
    """All of a gift's 130 locks are lost; those beyond one script's bound count until their deadlines."""
    still.limits_changed = True
    gifts = await still.book("GIFT-1", max_redemptions_per_code=None, max_redemptions=500)
    assert (await still.gift(gifts, "ann", "A-1"))[0] == 201
    tokens = [(await still.lock("GIFT-1", "ann", orderId=f"B-{n}"))[1]["lockToken"] for n in range(130)]
    assert (await still.rollback_order("A-1"))[0] == 200
    for token in (tokens[0], tokens[129]):
        await still.refuses("lock_lost", still.redeem("GIFT-1", "ann", lockToken=token))
    left = await still.link.call("ZCARD", f"{still.caller.prefix}lb:1")
    assert left == 30
    await still.wait(301_000)
    await still.link.call("DEL", f"{still.caller.prefix}lb:1")
    assert (await still.redeem("GIFT-1", "bob"))[0] == 201


async def test_a_free_code_among_thousands_in_its_bucket_is_assigned(kind: str, shop: Shop) -> None:
    """Of thousands of codes in a bucket a book's only one is assigned after some requests, none `out_of_stock`."""
    if kind == "fakeredis":
        pytest.skip("a server's own cursors")
    codes = colliding(5_000)
    other, book = await shop.book(*codes[:-1]), await shop.book(codes[-1])
    answers = []
    while not answers or answers[-1][0] == 503:
        assert len(answers) < 500
        answers.append(await shop.assign_any(book, "ann"))
    assert answers[-1][0] == 201
    assert answers[-1][1]["code"] == codes[-1]
    assert {body for _, body in answers[:-1]} <= {"unavailable"}
    await shop.refuses("out_of_stock", shop.assign_any(book, "ann"))
    assert (await shop.assign_any(other, "ann"))[0] == 201


async def test_a_gift_among_thousands_in_its_bucket_is_given(kind: str, shop: Shop) -> None:
    """As above: until it is found the checkout is refused, and never done without the gift."""
    if kind == "fakeredis":
        pytest.skip("a server's own cursors")
    codes = colliding(5_000)
    await shop.book(*codes[:-20])
    book = await shop.book("CODE-1", *codes[-20:], max_redemptions_per_code=None)
    name = key_names.directory(shop.caller.prefix, key_names.bucket(codes[0]))
    _, first_page = await shop.link.call("HSCAN", name, "0", "COUNT", "1000")
    gift = next(code for code in codes[-20:] if code not in first_page)
    await shop.add(book, *(code for code in codes[-20:] if code != gift), active=False)
    await shop.put_workspace(gift_book_id=book.book_id)
    for order in range(8):
        for active in (False, True):
            await shop.add(book, "CODE-1", active=active)  # so that its bucket is the last that is looked at
        answers = [await shop.checkout("ann", f"A-{order}", code="CODE-1")]
        while answers[-1][0] == 503:
            assert len(answers) < 500
            answers.append(await shop.checkout("ann", f"A-{order}", code="CODE-1"))
        assert answers[-1][1]["gift"]["code"] == gift
        await shop.rollback_order(f"A-{order}")


@pytest.mark.parametrize(("many", "least", "most"), [(12, 1, 1), (12_001, 3, 8)])
async def test_a_buckets_free_codes_are_counted(kind: str, shop: Shop, many: int, least: int, most: int) -> None:
    """Free codes of two books in one bucket, where all was rebuilt: a few by one run, 12,000 by some, each a part."""
    if kind == "fakeredis":
        pytest.skip("a server's own cursors")
    codes = colliding(many)
    first, second = await shop.book(*codes[: many * 3 // 4]), await shop.book(*codes[many * 3 // 4 :])
    await shop.assign(codes[0], "ann")
    counts = [f"{shop.caller.prefix}f:{book.book}" for book in (first, second)]
    before = [await shop.link.call("HGETALL", name) for name in counts]
    await shop.link.call("DEL", *counts)
    await shop.gate("closed")
    left, runs = ["0", str(key_names.bucket(codes[0])), "1"], 0
    while left:
        reply = await shop.work("fill_pool", (shop.caller.gate, key_names.settings(shop.caller.prefix)), *left)
        assert reply[0] == 0
        left, runs = reply[1:], runs + 1
    await shop.gate("open")
    assert [await shop.link.call("HGETALL", name) for name in counts] == before
    assert least <= runs <= most
