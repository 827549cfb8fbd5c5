"""Assigning gives a coupon to one user, named or at random, out of what is free."""

import json

import pytest
from uuid_utils import uuid7

from service.engine.domain.times import from_ms
from service.engine.formats import key_names
from service.engine.operations import table
from service.server.in_redis.workspace_state import Workspace
from tests.harness import kinds
from tests.harness.cases import ASSIGNED, MISSING, posts
from tests.harness.colliding import colliding
from tests.harness.described import Description, Good
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop

DESCRIBED = (
    Description(
        row=table.ASSIGN_ANY,
        body={"bookId": "{book}", "userId": "{ann}"},
        another="book_not_found",
        goods=(
            Good({"bookId": "{book}", "userId": "u"}, {"bookId": kinds.OWN_ID, "userId": kinds.ID}, "bookId userId"),
        ),
        refusals=posts(
            "/v1/coupons/assign",
            *ASSIGNED,
            ("user_coupon_limit", {"bookId": "{many_book}", "userId": "{full}"}),
            userId="{ann}",
        ),
        refused="full behind",
        writes=True,
        ask=lambda shop, book, *_, **more: shop.assign_any(book, "ann", **more),
    ),
    Description(
        row=table.ASSIGN_CODE,
        path="/v1/coupons/assign/{free2}",
        body={"userId": "{ann}"},
        goods=(Good({"userId": "u"}, {"userId": kinds.ID}, "userId"),),
        refusals=posts(
            "/v1/coupons/assign/{code}",
            *MISSING,
            ("coupon_inactive", {"code": "{off}"}),
            ("book_inactive", {"code": "{dark}"}),
            ("expired", {"code": "{late}"}),
            ("coupon_assigned_to_other", {"code": "{bobs}"}),
            ("coupon_locked", {"code": "{held}"}),
            ("coupon_redeemed", {"code": "{used}"}),
            ("coupon_exhausted", {"code": "{spent}"}),
            ("user_code_limit", {"code": "{one}"}),
            ("user_coupon_limit", {"code": "{free}", "userId": "{full}"}),
            userId="{ann}",
        ),
        refused="full behind",
        writes=True,
        ask=lambda shop, _, code, *__, **more: shop.assign(code, "ann", **more),
    ),
)


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
            "balance": None,
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


async def test_what_is_not_there_is_not_found(still: Shop) -> None:
    """An unknown coupon or book, and what can't be one, is not found."""
    book = await still.book("CODE-1")
    for code in ("NEVER-WAS", "abc", "assign", "a b c d"):
        await still.refuses("coupon_not_found", still.assign(code, "ann"))
    for book_id in (str(uuid7()), "x", ""):
        await still.refuses("book_not_found", still.assign_book(book_id, "ann"))
    await still.refuses("book_not_found", Workspace(still.decider).book_counts(still.caller, str(uuid7())))
    assert set((await still.stats(await still.book())).values()) == {0}
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


async def test_anothers_lock_is_seen_behind_very_many(still: Shop) -> None:
    """However many locks a user has on a coupon, another's among them is in the way."""
    await still.book("CODE-1", max_redemptions_per_code=None)
    for n in range(101):
        await still.lock("CODE-1", "ann", orderId=f"A-{n}")
    await still.lock("CODE-1", "bob", lockSeconds=3600)
    await still.refuses("coupon_locked", still.assign("CODE-1", "ann"))


async def test_another_users_lock_prevents_an_assign_until_it_expires(still: Shop, uses: int | None) -> None:
    """Before its deadline a lock leaves the coupon to its user alone; from then on any assign gets it."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3", max_redemptions_per_code=uses)
    for code in ("CODE-1", "CODE-2", "CODE-3"):
        await still.lock(code, "ann", lockSeconds=10)
    await still.wait(9_999)
    assert (await still.assign("CODE-3", "ann"))[0] == 201
    assert (await still.redeem("CODE-3", "ann"))[0] == 201
    await still.refuses("out_of_stock", still.assign_any(book, "bob"))
    await still.refuses("coupon_locked", still.assign("CODE-1", "bob"))
    await still.wait(1)
    assert (await still.assign("CODE-1", "bob"))[0] == 201
    assert (await still.assign_any(book, "bob"))[0] == 201
    assert (await still.coupon("CODE-2"))[1]["userId"] == "bob"


async def test_many_locks_that_expired_together_are_all_taken_back(still: Shop) -> None:
    """A coupon under 230 locks that have all expired is free for the next request; one with a live lock is not."""
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


async def test_what_the_last_step_of_taking_back_frees_is_assigned(still: Shop) -> None:
    """Of twenty coupons under 21 expired locks each, one request takes back as many as it may, and gets one."""
    book = await still.book(*(f"FULL-{n}" for n in range(10)), max_redemptions_per_code=21)
    await still.add(book, *(f"PART-{n}" for n in range(10)), max_redemptions=30)
    for n in range(210):
        for name in ("FULL", "PART"):
            await still.lock(f"{name}-{n % 10}", f"u{n}", lockSeconds=1)
    await still.wait(1000)
    assert (await still.assign_any(book, "bob"))[0] == 201


async def test_a_free_coupon_behind_locked_ones_is_assigned(still: Shop) -> None:
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


async def test_what_was_picked_is_assigned_once_its_facts_are_there(still: Shop) -> None:
    """Of many coupons whose last redemption only Postgres has, a random one is given after one question for facts."""
    codes = [f"CODE-{n:02}" for n in range(40)]
    book = await still.book(*codes, max_redemptions_per_code=None)
    for code in codes:
        await still.redeem(code, "bob")
    await still.record()
    for n in range(6):
        status, coupon = await still.assign_any(book, f"u{n}")
        assert (status, coupon["lastRedemption"]["userId"], still.recalled) == (201, "bob", n + 1)


@pytest.mark.parametrize("how", ["assigned", "locked", "ended"])
async def test_what_was_picked_may_be_taken_while_facts_are_asked_for(still: Shop, how: str) -> None:
    """A coupon that another user gets in between, or that ends in this millisecond, is not given."""
    book = await still.book("CODE-1", max_redemptions_per_code=2)
    if how == "ended":
        await still.add(book, "CODE-1", expires_ms=NOW_MS + 5)
    await still.redeem("CODE-1", "bob")
    await still.record()
    asks = {
        "assigned": lambda: still.assign("CODE-1", "bob"),
        "locked": lambda: still.lock("CODE-1", "bob"),
        "ended": lambda: still.wait(5),
    }
    still.meanwhile = asks[how]
    assert await still.assign_any(book, "ann") == (409, "out_of_stock")


async def test_buckets_that_are_emptied_are_left(still: Shop) -> None:
    """Two codes of one bucket leave it one after the other; an empty bucket is never drawn."""
    codes = colliding(2)
    book = await still.book(*codes)
    assert {(await still.assign_any(book, "ann"))[1]["code"] for _ in range(2)} == {*codes}
    await still.refuses("out_of_stock", still.assign_any(book, "ann"))
