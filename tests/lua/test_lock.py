"""A lock is a promise to one user and order, until its deadline and not a millisecond longer.

Each rule holds for a code with a single use, one with several and one without limit."""

from dataclasses import replace

import pytest

from service.engine.domain.times import from_ms
from service.engine.formats import key_names
from service.engine.operations import table
from tests.harness import kinds
from tests.harness.cases import MISSING, PRICES, USES, posts
from tests.harness.described import PRICE, Description, Good
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop

DESCRIBED = (
    Description(
        row=table.LOCK,
        path="/v1/coupons/lock/{free3}",
        body={"userId": "{ann}"},
        goods=(
            Good(
                {"userId": "u"},
                {"userId": kinds.ID, "orderId": kinds.ID, "lockSeconds": kinds.COUNT} | PRICE,
                "userId",
            ),
        ),
        refusals=posts("/v1/coupons/lock/{code}", *MISSING, *USES, *PRICES, userId="{ann}", orderId="{new}"),
        refused="full behind",
        writes=False,
        ask=lambda shop, _, code, *__, **more: shop.lock(code, "ann", orderId=code, **more),
    ),
    Description(
        row=table.EXTEND,
        path="/v1/coupons/extend/{locked}",
        body={"lockToken": "{locked_token}", "lockSeconds": 900},
        other=409,
        goods=(Good({"lockToken": "t"}, {"lockToken": kinds.TOKEN, "lockSeconds": kinds.COUNT}, "lockToken"),),
        refusals=posts(
            "/v1/coupons/extend/{code}",
            *MISSING,
            ("coupon_inactive", {"code": "{held_off}", "lockToken": "{held_off_token}"}),
            ("book_inactive", {"code": "{held_dark}", "lockToken": "{held_dark_token}"}),
            ("lock_lost", {"code": "{free}"}),
            ("lock_lost", {"code": "{held}"}),
            ("lock_ceiling", {"code": "{ceiling}", "lockToken": "{ceiling_token}"}),
            lockToken="never-was",
        ),
        refused="behind",
        writes=False,
        before=lambda shop, _, code: shop.lock(code, "ann", orderId=code, lockSeconds=5),
        ask=lambda shop, _, code, held, **more: shop.extend(code, held[1]["lockToken"], **more),
    ),
    Description(
        row=table.UNLOCK,
        path="/v1/coupons/unlock/{locked}",
        body={"lockToken": "{locked_token}"},
        other=204,
        goods=(Good({"lockToken": "t"}, {"lockToken": kinds.TOKEN}, "lockToken"),),
        refusals=posts("/v1/coupons/unlock/{code}", *MISSING, lockToken="never-was"),
        writes=False,
        before=lambda shop, _, code: shop.lock(code, "ann", orderId=code, lockSeconds=5),
        ask=lambda shop, _, code, held, **more: shop.unlock(code, held[1]["lockToken"], **more),
    ),
)


def at(ms: int) -> str:
    """A time so many ms after the clock's start, as answers have it."""
    return from_ms(NOW_MS + ms)


async def test_a_lock_names_all_that_was_asked(still: Shop, uses: int | None) -> None:
    """A lock answers 201 with token, coupon, book, user, order and deadline; the book's lockSeconds unless asked."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses, lock_seconds=60)
    status, lock = await still.lock("CODE-1", "ann", orderId="A-1")
    assert status == 201
    token = lock.pop("lockToken")
    assert len(token) >= 16
    assert lock == {
        "code": "CODE-1",
        "bookId": str(book.book_id),
        "userId": "ann",
        "orderId": "A-1",
        "lockSeconds": 60,
        "expiresAt": at(60_000),
        **dict.fromkeys(("orderValue", "currency", "discountAmount", "finalAmount", "amount")),
    }
    _, coupon = await still.coupon("CODE-1")
    assert coupon["lock"] == {"userId": "ann", "orderId": "A-1", "expiresAt": at(60_000)}
    assert coupon["status"] == ("locked" if uses == 1 else "available")
    assert (await still.events())[1:] == []


@pytest.mark.parametrize("ends_ms", [None, NOW_MS + 1_000_000])
async def test_the_same_user_and_order_renew_their_lock(still: Shop, uses: int | None, ends_ms: int | None) -> None:
    """A repeated lock answers 200 with the same token, extended from now and never moved back; lockSeconds is what is
    left from now."""
    await still.book("CODE-1", max_redemptions_per_code=uses, valid_until_ms=ends_ms)
    _, first = await still.lock("CODE-1", "ann", lockSeconds=100)
    assert first["expiresAt"] == at(100_000)
    await still.wait(10_000)
    for seconds in (100, 1):
        renewed = {**first, "lockSeconds": 100, "expiresAt": at(110_000)}
        assert await still.lock("CODE-1", "ann", lockSeconds=seconds) == (200, renewed)
    assert (await still.coupon("CODE-1"))[1]["lock"]["expiresAt"] == at(110_000)


async def test_a_users_token_moves_no_lock_of_another(still: Shop, uses: int | None) -> None:
    """For a caller with a user's token, extend answers that another user's lock is lost, and unlock leaves it."""
    await still.book("CODE-1", max_redemptions_per_code=uses, lock_seconds=60)
    _, lock = await still.lock("CODE-1", "ann")
    anyone = still.caller
    still.caller = replace(anyone, user="bob")
    await still.refuses("lock_lost", still.extend("CODE-1", lock["lockToken"], lockSeconds=100))
    await still.unlock("CODE-1", lock["lockToken"])
    still.caller = replace(anyone, user="ann")
    status, extended = await still.extend("CODE-1", lock["lockToken"], lockSeconds=100)
    assert (status, extended["expiresAt"]) == (200, at(100_000))
    await still.unlock("CODE-1", lock["lockToken"])
    still.caller = anyone
    assert (await still.validate("CODE-1", lockToken=lock["lockToken"]))[1]["reasons"] == ["lock_lost"]


async def test_another_order_of_the_same_user_is_another_holder(still: Shop, uses: int | None) -> None:
    """No order is an order like any other: each of a user's orders needs a use of its own."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    assert (await still.lock("CODE-1", "ann"))[0] == 201
    if uses == 1:
        await still.refuses("coupon_locked", still.lock("CODE-1", "ann", orderId="A-1"))
        await still.refuses("coupon_locked", still.redeem("CODE-1", "ann", orderId="A-1"))
    else:
        assert (await still.lock("CODE-1", "ann", orderId="A-1"))[0] == 201
        assert (await still.lock("CODE-1", "ann", orderId="A-2"))[0] == 201


async def test_a_lock_is_worth_nothing_from_its_deadline_on(still: Shop, uses: int | None) -> None:
    """One millisecond before its deadline a lock holds against everybody; at its deadline it is lost for its holder."""
    await still.book("CODE-1", max_redemptions_per_code=uses, max_redemptions=1)
    _, lock = await still.lock("CODE-1", "ann", lockSeconds=1)
    token = lock["lockToken"]
    await still.wait(999)
    refusal = "coupon_locked" if uses == 1 else "out_of_stock"
    await still.refuses(refusal, still.redeem("CODE-1", "bob"))
    await still.refuses(refusal, still.lock("CODE-1", "bob"))
    assert (await still.validate("CODE-1", lockToken=token))[1]["valid"]
    await still.wait(1)
    await still.refuses("lock_lost", still.redeem("CODE-1", "ann", lockToken=token))
    await still.refuses("lock_lost", still.extend("CODE-1", token))
    assert (await still.validate("CODE-1", userId="ann", lockToken=token))[1]["reasons"] == ["lock_lost"]
    assert (await still.coupon("CODE-1"))[1]["lock"] is None
    assert await still.unlock("CODE-1", token) == (204, None)
    _, again = await still.lock("CODE-1", "ann", lockSeconds=1)
    assert again["lockToken"] != token
    await still.wait(1000)
    assert (await still.redeem("CODE-1", "bob"))[0] == 201


async def test_extending_moves_the_deadline_on(still: Shop, uses: int | None) -> None:
    """Extend counts from now, never moves back, and is cut at the ceiling; with nothing to gain it is lock_ceiling."""
    await still.book("CODE-1", max_redemptions_per_code=uses, lock_seconds=10, max_lock_seconds=60)
    _, lock = await still.lock("CODE-1", "ann", orderId="A-1")
    token = lock["lockToken"]
    await still.wait(5_000)
    for asked, seconds, end_ms in (
        ({"lockSeconds": 20}, 20, 25_000),
        ({}, 20, 25_000),
        ({"lockSeconds": 300}, 55, 60_000),
    ):
        extended = {**lock, "lockSeconds": seconds, "expiresAt": at(end_ms)}
        assert await still.extend("CODE-1", token, **asked) == (200, extended)
    await still.refuses("lock_ceiling", still.extend("CODE-1", token))
    await still.wait(54_001)
    renewed = {**lock, "lockSeconds": 0, "expiresAt": at(60_000)}
    assert await still.lock("CODE-1", "ann", orderId="A-1") == (200, renewed)


async def test_a_lock_is_cut_at_the_ceiling_and_at_the_windows_end(still: Shop, uses: int | None) -> None:
    """A first lockSeconds is cut at the ceiling; any deadline at the earlier end of code and book."""
    rules = {"max_redemptions_per_code": uses, "valid_until_ms": NOW_MS + 50_000, "max_lock_seconds": 40}
    book = await still.book("CODE-1", "CODE-2", "CODE-3", **rules)
    await still.add(book, "CODE-2", expires_ms=NOW_MS + 30_000)
    _, lock = await still.lock("CODE-1", "ann", lockSeconds=3600)
    assert (lock["lockSeconds"], lock["expiresAt"]) == (40, at(40_000))
    for seconds in (1, 40):
        _, renewed = await still.lock("CODE-2", "bob", orderId="A-1", lockSeconds=seconds)
    assert renewed["expiresAt"] == at(30_000)
    await still.unlock("CODE-2", renewed["lockToken"])
    _, lock = await still.lock("CODE-2", "ann", lockSeconds=3600)
    assert lock["expiresAt"] == at(30_000)
    await still.refuses("lock_ceiling", still.extend("CODE-2", lock["lockToken"]))
    await still.wait(20_000)
    _, lock = await still.lock("CODE-3", "ann", lockSeconds=3600)
    assert (lock["lockSeconds"], lock["expiresAt"]) == (30, at(50_000))
    await still.refuses("lock_ceiling", still.extend("CODE-3", lock["lockToken"]))
    await still.wait(10_000)
    await still.refuses("expired", still.lock("CODE-2", "bob"))


async def test_unlock_always_succeeds(still: Shop, uses: int | None) -> None:
    """Unlock answers 204 the first time and ever after, and for a token that never was; the coupon is free again."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    assert await still.unlock("CODE-1", "never-was") == (204, None)
    _, lock = await still.lock("CODE-1", "ann")
    assert await still.unlock("CODE-1", "never-was") == (204, None)
    assert (await still.coupon("CODE-1"))[1]["lock"] is not None
    for _ in range(2):
        assert await still.unlock("CODE-1", lock["lockToken"]) == (204, None)
    assert (await still.coupon("CODE-1"))[1]["lock"] is None
    assert (await still.assign_any(book, "bob"))[0] == 201


async def test_locks_of_coupons_and_books_that_are_not_there_are_refused(still: Shop, uses: int | None) -> None:
    """An unknown coupon is not found by any operation; extend names a switch before its lock."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    _, lock = await still.lock("CODE-1", "ann")
    for asked in (
        still.lock("NEVER-WAS", "ann"),
        still.extend("NEVER-WAS", "token"),
        still.unlock("NEVER-WAS", "token"),
        still.coupon("NEVER-WAS"),
        still.lock("no code", "ann"),
        still.lock("unlock", "ann"),
    ):
        await still.refuses("coupon_not_found", asked)
    await still.refuses("lock_lost", still.extend("CODE-1", "never-was"))
    await still.change(book, status="inactive")
    for token in (lock["lockToken"], "never-was"):
        await still.refuses("book_inactive", still.extend("CODE-1", token))
    await still.add(book, "CODE-1", active=False)
    await still.refuses("coupon_inactive", still.extend("CODE-1", lock["lockToken"]))
    assert (await still.coupon("CODE-1"))[1]["status"] == "inactive"


async def test_a_code_with_several_uses_shows_the_lock_that_ends_soonest(still: Shop) -> None:
    """Of a coupon's live locks the answer has the one that ends soonest; all taken, it is locked, with Retry-After."""
    await still.book("CODE-1", max_redemptions_per_code=3)
    for user, seconds in (("ann", 30), ("bob", 10), ("cat", 20)):
        await still.lock("CODE-1", user, lockSeconds=seconds)
    _, coupon = await still.coupon("CODE-1")
    assert (coupon["lock"]["userId"], coupon["status"]) == ("bob", "locked")
    await still.wait(4_000)
    assert await still.retry_after_ms(still.lock, "CODE-1", "dan") == ("coupon_locked", 6_000)
    assert await still.retry_after_ms(still.assign, "CODE-1", "dan") == ("coupon_locked", 6_000)
    await still.wait(6_000)
    assert await still.retry_after_ms(still.assign, "CODE-1", "dan") == ("coupon_locked", 10_000)
    _, coupon = await still.coupon("CODE-1")
    assert (coupon["lock"]["userId"], coupon["status"]) == ("cat", "available")
    assert (await still.redeem("CODE-1", "dan"))[0] == 201
    await still.refuses("coupon_locked", still.redeem("CODE-1", "dan"))


async def test_a_single_use_code_names_when_its_lock_ends(still: Shop) -> None:
    """coupon_locked carries how long the lock may last."""
    await still.book("CODE-1")
    await still.lock("CODE-1", "ann", lockSeconds=10)
    await still.wait(1)
    for ask in (still.lock, still.redeem, still.assign):
        assert await still.retry_after_ms(ask, "CODE-1", "bob") == ("coupon_locked", 9_999)


async def test_a_new_lock_replaces_an_old_one_behind_many_expired(still: Shop) -> None:
    """A new lock of one whose old lock still lies behind many expired ones leaves nothing of the old."""
    await still.book("CODE-1", max_redemptions_per_code=None)
    for n in range(25):
        await still.lock("CODE-1", f"u{n}", lockSeconds=1)
    _, old = await still.lock("CODE-1", "ann", lockSeconds=2)
    await still.lock("CODE-1", "bob")
    await still.wait(2_000)
    _, new = await still.lock("CODE-1", "ann")
    await still.refuses("lock_lost", still.redeem("CODE-1", "ann", lockToken=old["lockToken"]))
    assert (await still.redeem("CODE-1", "ann", lockToken=new["lockToken"]))[0] == 201


async def test_a_lock_of_which_a_part_is_missing_is_forgotten(still: Shop) -> None:
    """A deadline without its lock stops no script: it is removed when it has passed."""
    await still.book("CODE-1", max_redemptions_per_code=3)
    await still.lock("CODE-1", "ann", lockSeconds=1)
    await still.link.call("DEL", f"{still.caller.prefix}k:CODE-1")
    await still.wait(1_000)
    assert (await still.lock("CODE-1", "bob"))[0] == 201


@pytest.mark.parametrize("uses", [1, 3])
async def test_a_full_redis_refuses_and_keeps_no_part(still: Shop, kind: str, uses: int) -> None:
    """Where its memory is full neither lock nor extend answers what Redis could not store, and nothing has changed."""
    if kind == "fakeredis":
        pytest.skip("it has no limit of memory")
    await still.book("CODE-1", "CODE-2", max_redemptions_per_code=uses)
    _, held = await still.lock("CODE-1", "ann", orderId="A-1")
    before = await still.everything()
    await still.link.call("CONFIG", "SET", "maxmemory", "1")
    await still.refuses("unavailable", still.lock("CODE-2", "ann", orderId="A-2"))
    await still.refuses("unavailable", still.extend("CODE-1", held["lockToken"], lockSeconds=3000))
    await still.link.call("CONFIG", "SET", "maxmemory", "0")
    assert await still.everything() == before
    assert (await still.lock("CODE-2", "ann", orderId="A-2"))[0] == 201


@pytest.mark.parametrize(("length", "in_entry"), [(5, True), (6, False)])
async def test_a_lock_stands_in_the_entry_unless_that_gets_too_long(
    still: Shop, kind: str, length: int, in_entry: bool
) -> None:
    """An entry of more than 64 bytes would turn its bucket into a hash table for good: then the lock is in a record."""
    await still.book("CODE-1")
    order, w, bucket = "o" * length, still.caller.prefix, key_names.bucket("CODE-1")
    status, locked = await still.lock("CODE-1", "ann", orderId=order)
    until = NOW_MS + 300_000
    lock = f"{locked['lockToken']} ann {order} {key_names.bucket(order)} {until} {NOW_MS} ."
    keys = await still.everything()
    assert (status, len(f"1!{lock}") <= 64) == (201, in_entry)
    assert keys[key_names.directory(w, bucket)] == {"CODE-1": f"1!{lock}" if in_entry else "1!"}
    assert keys.get(key_names.coupon(w, "CODE-1")) == (None if in_entry else f"0 - - 0 1 - - - {lock}")
    if kind != "fakeredis":
        assert await still.link.call("OBJECT", "ENCODING", key_names.directory(w, bucket)) == "listpack"
    assert (await still.extend("CODE-1", locked["lockToken"], lockSeconds=600))[0] == 200
    assert (await still.redeem("CODE-1", "ann", orderId=order))[0] == 201
    assert key_names.coupon(w, "CODE-1") not in await still.everything()
