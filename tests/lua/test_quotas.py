"""Limits on locks: of a user, of a key, and of what is left of a book, so that no client locks a whole sale."""

from typing import Any

import pytest

from service.engine.domain.limits import BookLimits
from tests.harness.shop import Shop, tally, together


async def codes_of(shop: Shop, many: int, **rules: Any) -> list[str]:
    codes = [f"CODE-{n:04}" for n in range(many)]
    await shop.book(*codes, **rules)
    return codes


@pytest.mark.parametrize(
    ("of_book", "of_key", "given"),
    [({"locksPerUser": 5}, None, 5), (None, 5, 5), ({"lockedPercent": 30}, None, 60)],
    ids=["user", "key", "share"],
)
async def test_locks_at_once_are_counted_exactly(
    shop: Shop, of_book: dict[str, int] | None, of_key: int | None, given: int
) -> None:
    """Of 200 simultaneous locks as many are given as a user, a key or the share may have; others' are given."""
    codes = await codes_of(shop, 200, limits=of_book)
    plain = shop.caller
    if of_key:
        shop.limit(live_locks=of_key)
    is_one_user = given == 5 and not of_key
    answers = await together(*(shop.lock(code, "eve" if is_one_user else f"u{code}", orderId=code) for code in codes))
    assert tally(answers) == {201: given, (429, "lock_quota"): 200 - given}
    shop.caller = plain
    free = [code for code, answer in zip(codes, answers, strict=True) if answer[0] != 201]
    assert (await shop.lock(free[0], "ann"))[0] == (201 if given == 5 else 429)
    if of_key:
        assert (await shop.limit(live_locks=of_key).lock(free[1], "ann"))[0] == 201


async def test_a_share_is_of_what_is_left(still: Shop) -> None:
    """Codes that are sold, off or assigned are not left; the share is rounded down; locked codes can be redeemed."""
    codes = await codes_of(still, 10, limits={"lockedPercent": 60})
    book = still.books[0]
    await still.add(book, "TWICE-1", "TWICE-2", max_redemptions=2)
    for code in ("TWICE-1", "TWICE-1", "TWICE-2", "TWICE-2"):
        await still.redeem(code, "bob")
    for code in codes[:2]:
        await still.redeem(code, "bob")
    await still.add(book, codes[2], active=False)
    await still.assign(codes[3], "bob")
    assert [(await still.lock(code, f"u{code}"))[0] for code in codes[4:8]] == [201, 201, 201, 429]
    assert (await still.lock(codes[3], "bob"))[0] == 201  # it is his: nobody else wants it
    assert (await still.redeem(codes[8], "ann"))[0] == 201  # what is left can be bought without a lock
    assert (await still.redeem(codes[9], "ann"))[0] == 201
    await still.refuses("lock_quota", still.lock(codes[7], "ann"))
    for code in codes[4:7]:
        assert (await still.redeem(code, f"u{code}"))[0] == 201
    assert (await still.lock(codes[7], "ann"))[0] == 201


@pytest.mark.parametrize("uses", [20, None])
@pytest.mark.parametrize(("spent", "share"), [(0, 5), (4, 4)])
async def test_a_share_of_uses(still: Shop, uses: int | None, spent: int, share: int) -> None:
    """Of a code with several uses, and of a book's total, so much of what is left may be locked."""
    rules = {"max_redemptions_per_code": uses} if uses else {"max_redemptions_per_code": None, "max_redemptions": 20}
    await still.book("SUMMER", limits={"lockedPercent": 25}, **rules)
    for n in range(spent):
        await still.redeem("SUMMER", f"b{n}")
    assert [(await still.lock("SUMMER", f"u{n}"))[0] for n in range(share + 1)] == [201] * share + [429]
    assert (await still.redeem("SUMMER", "ann"))[0] == 201


async def test_a_code_with_uses_left_is_not_in_the_share_of_codes(still: Shop) -> None:
    """Where half of the codes may be locked and one of two is, the other can be locked if a use is left for others."""
    await still.book("CODE-1", "CODE-2", max_redemptions_per_code=2, limits={"lockedPercent": 50})
    await still.redeem("CODE-1", "bob")
    assert (await still.lock("CODE-1", "ann"))[0] == 201
    _, held = await still.lock("CODE-2", "cat")
    assert held["code"] == "CODE-2"
    await still.redeem("CODE-2", "cat", lockToken=held["lockToken"])
    await still.refuses("lock_quota", still.lock("CODE-2", "dan"))


async def test_a_full_quota_names_when_its_first_live_lock_ends(still: Shop) -> None:
    """A lock that ends in this millisecond is none of them, though it is still stored."""
    codes = await codes_of(still, 4, limits={"locksPerUser": 3})
    for code, seconds in zip(codes, (10, 20, 30), strict=False):
        assert (await still.lock(code, "ann", lockSeconds=seconds))[0] == 201
    await still.change(still.books[0], limits=BookLimits(locks_per_user=2))
    await still.wait(10_000)
    assert await still.retry_after_ms(still.lock, codes[3], "ann") == ("lock_quota", 10_000)


@pytest.mark.parametrize("how", ["unlock", "redeem", "expire"])
@pytest.mark.parametrize(
    ("limit", "uses"), [("locksPerUser", 1), ("locksPerUser", 3), ("lockedPercent", 1), ("key", 1), ("key", 3)]
)
async def test_a_lock_that_ended_counts_no_more(still: Shop, limit: str, uses: int, how: str) -> None:
    """Released, redeemed or expired it makes room at once; until then the refusal has the time of its end."""
    codes = await codes_of(still, 3, limits=None if limit == "key" else {limit: 1}, max_redemptions_per_code=uses)
    if limit == "key":
        still.limit(live_locks=1)
    _, lock = await still.lock(codes[0], "ann", lockSeconds=10)
    await still.wait(1_000)
    assert await still.retry_after_ms(still.lock, codes[1], "ann") == ("lock_quota", 9_000)
    if how == "unlock":
        await still.unlock(codes[0], lock["lockToken"])
    elif how == "redeem":
        await still.redeem(codes[0], "ann")
    else:
        await still.wait(8_999)
        await still.refuses("lock_quota", still.lock(codes[1], "ann"))
        await still.wait(1)
    assert (await still.lock(codes[1], "ann"))[0] == 201
    await still.refuses("lock_quota", still.lock(codes[2], "ann"))


async def test_a_lock_is_renewed_though_quotas_are_used_up(still: Shop) -> None:
    """With all quotas used up the holder's lock is repeated and extended; then it counts until its new end."""
    codes = await codes_of(still, 2, limits={"locksPerUser": 1, "lockedPercent": 1})
    still.limit(live_locks=1)
    _, lock = await still.lock(codes[0], "ann", lockSeconds=10)
    assert (await still.lock(codes[0], "ann", lockSeconds=20))[0] == 200
    assert (await still.extend(codes[0], lock["lockToken"], lockSeconds=30))[0] == 200
    await still.wait(29_999)
    await still.refuses("lock_quota", still.lock(codes[1], "ann"))
    await still.wait(1)
    assert (await still.lock(codes[1], "ann"))[0] == 201


async def test_a_book_goes_before_the_workspace(still: Shop) -> None:
    """Each of a book's limits that it doesn't name is the workspace's."""
    await still.put_workspace(limits={"books": {"locksPerUser": 1, "lockedPercent": 50}})
    await still.book("CODE-1", "CODE-2", "CODE-3", "CODE-4", limits={"locksPerUser": 3})
    assert [(await still.lock(f"CODE-{n}", "ann"))[0] for n in (1, 2, 3)] == [201, 201, 429]
    await still.book("CODE-5", "CODE-6", "CODE-7", "CODE-8")
    assert [(await still.lock(f"CODE-{n}", "ann"))[0] for n in (5, 6)] == [201, 429]


async def test_other_refusals_go_first(still: Shop) -> None:
    """A request that may not lock the coupon anyway is refused for that reason, not for too many locks."""
    await still.book("CODE-1", "CODE-2", "CODE-3", limits={"locksPerUser": 1})
    await still.lock("CODE-1", "ann")
    await still.redeem("CODE-2", "bob")
    await still.refuses("coupon_redeemed", still.lock("CODE-2", "ann"))
    await still.refuses("coupon_locked", still.lock("CODE-1", "bob"))
    await still.refuses("lock_quota", still.lock("CODE-3", "ann"))


async def test_expired_locks_dont_fill_the_sets_that_count_them(still: Shop) -> None:
    """Each new lock removes a bounded number of the expired ones of its book, its user and its key."""
    codes = await codes_of(still, 60, limits={"locksPerUser": 10}, max_redemptions=100, max_redemptions_per_user=100)
    still.limit(live_locks=10)
    for start in range(0, 60, 10):
        for code in codes[start : start + 10]:
            assert (await still.lock(code, "ann", lockSeconds=1))[0] == 201
        await still.wait(1_000)
    kinds = {name.split(":")[2]: len(held) for name, held in (await still.everything()).items() if ":l" in name}
    sets = {kind: count for kind, count in kinds.items() if len(kind) == 2}
    assert set(sets) == {"lb", "lu", "lk"}
    assert set(sets.values()) == {10}
