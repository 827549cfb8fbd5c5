"""A repeat under its key tells the truth: it shows no lock that ended, no assignment that was taken back, and no
redemption that was rolled back."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.engine.domain.times import from_ms
from service.engine.formats import key_names
from service.engine.operations import lock, redeem
from service.engine.operations.base import Call
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop, tally, together
from tests.lua.conftest import shop_on
from tests.lua.test_storage import _mark

Act = Callable[[Shop, dict[str, Any]], Awaitable[Any]]

LOCK_ENDS: dict[str, Act] = {
    "expired": lambda shop, _: shop.wait(60_000),
    "released": lambda shop, held: shop.unlock("CODE-1", held["lockToken"]),
    "spent": lambda shop, held: shop.redeem("CODE-1", "ann", orderId="A-1", lockToken=held["lockToken"]),
    "unassigned": lambda shop, _: shop.rollback_order("A-0"),
}


async def _locked(shop: Shop, uses: int | None) -> dict[str, Any]:
    """A lock under the key `lock`, of a gift of the order A-0, for the order A-1."""
    book = await shop.book("CODE-1", max_redemptions_per_code=uses)
    assert (await shop.gift(book, "ann", "A-0"))[0] == 201
    status, held = await shop.lock("CODE-1", "ann", orderId="A-1", lockSeconds=60, key="lock")
    assert status == 201
    return held


def _is_stored(shop: Shop, key: str) -> Awaitable[Any]:
    return shop.link.call("GET", f"{shop.caller.prefix}i:{key}")


@pytest.mark.parametrize("end", LOCK_ENDS)
async def test_a_lock_answers_while_it_lives(still: Shop, uses: int | None, end: str) -> None:
    """Lock and extension answer as the first time while the lock lives, however long that is; after its end both are
    decided again under their keys: the lock is another one, or is refused, and the extension is `lock_lost`."""
    held = await _locked(still, uses)
    await still.wait(10_000)
    token = held["lockToken"]
    extended = await still.extend("CODE-1", token, lockSeconds=200, key="extend")
    await still.wait(190_000)
    assert await still.lock("CODE-1", "ann", orderId="A-1", lockSeconds=60, key="lock") == (
        201, held | {"replayed": True},
    )  # fmt: skip
    assert await still.extend("CODE-1", token, lockSeconds=200, key="extend") == (
        200, extended[1] | {"replayed": True},
    )  # fmt: skip
    await LOCK_ENDS[end](still, held)
    await still.refuses("lock_lost", still.extend("CODE-1", token, lockSeconds=200, key="extend"))
    again = still.lock("CODE-1", "ann", orderId="A-1", lockSeconds=60, key="lock")
    if end == "spent":
        await still.refuses("coupon_redeemed" if uses == 1 else "order_already_used", again)
        return
    status, other = await again
    assert (status, other["lockToken"] != token, "replayed" in other) == (201, True, False)
    repeated = await still.lock("CODE-1", "ann", orderId="A-1", lockSeconds=60, key="lock")
    assert repeated == (201, other | {"replayed": True})


async def test_a_switched_off_code_has_no_lock(still: Shop, uses: int | None) -> None:
    """The key of its lock, and of an extension, is refused as a new request is."""
    held = await _locked(still, uses)
    await still.extend("CODE-1", held["lockToken"], lockSeconds=200, key="extend")
    await still.add(still.books[0], "CODE-1", active=False)
    await still.refuses("coupon_inactive", still.lock("CODE-1", "ann", orderId="A-1", lockSeconds=60, key="lock"))
    await still.refuses("coupon_inactive", still.extend("CODE-1", held["lockToken"], lockSeconds=200, key="extend"))


async def test_a_key_is_still_one_requests(still: Shop) -> None:
    """After the end of its lock a key is refused to another request."""
    held = await _locked(still, 1)
    await still.unlock("CODE-1", held["lockToken"])
    await still.refuses("idempotency_key_reused", still.lock("CODE-1", "bob", key="lock", fingerprint="g"))


async def test_what_is_decided_anew_needs_room(still: Shop) -> None:
    """In a full workspace a lock and a gift that ended are refused; a lock that lives is answered."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3")
    live = await still.lock("CODE-1", "ann", key="live")
    _, ended = await still.lock("CODE-2", "ann", key="ended")
    _, gift = await still.gift(book, "ann", "A-1", key="gift")
    await still.unlock("CODE-2", ended["lockToken"])
    await still.unassign(gift["code"])
    await _mark(still, "!1")
    await still.refuses("storage_full", still.lock("CODE-2", "ann", key="ended"))
    await still.refuses("storage_full", still.gift(book, "ann", "A-1", key="gift"))
    assert await still.lock("CODE-1", "ann", key="live") == (201, live[1] | {"replayed": True})


async def test_a_lock_that_ended_within_a_call(still: Shop, uses: int | None) -> None:
    """In one call: a lock, its release, the repeat under its key, which is another lock, and the repeat of that."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    call = Call(still.caller, "k", "f")
    first, second, third = (lock.LOCK.prepare(call, "CODE-1", lock.LockRequest(user_id="ann")) for _ in range(3))
    token = first.args[7]
    commands = [
        first,
        lock.UNLOCK.prepare(Call(still.caller), "CODE-1", lock.UnlockRequest(lock_token=token)),
        second,
        third,
    ]
    replies = await together(*(still.decide(command) for command in commands))
    tokens = [reply[1].split(" ")[4] for reply in (replies[0], replies[2], replies[3])]
    assert tokens == [token, second.args[7], second.args[7]]
    assert [reply[3] for reply in replies] == [0, 0, 0, 1]


@pytest.mark.parametrize("random", [False, True])
async def test_an_assignment_answers_until_it_is_taken_back(still: Shop, random: bool) -> None:
    """Used or switched off it is still the user's. Taken back it is decided again; a repeat that only finds the coupon
    assigned again stores nothing under the key, which belongs to the recorded event."""
    book = await still.book("CODE-1", max_redemptions_per_code=2)

    def ask(key: str = "k") -> Awaitable[Any]:
        return still.assign_any(book, "ann", key=key) if random else still.assign("CODE-1", "ann", key=key)

    first = await ask()
    await still.redeem("CODE-1", "ann", orderId="A-1")
    await still.add(book, "CODE-1", active=False)
    assert await ask() == (201, first[1] | {"replayed": True})
    await still.add(book, "CODE-1", active=True)
    await still.rollback_order("A-1")
    await still.unassign("CODE-1")
    await still.wait(1)
    status, again = await ask()
    assert (status, again["assignedAt"], "replayed" in again) == (201, from_ms(NOW_MS + 1), False)
    assert await ask() == (201, again | {"replayed": True})
    await still.unassign("CODE-1")
    await still.wait(1)
    assert (await still.assign("CODE-1", "ann", key="other"))[0] == 201
    stored = await _is_stored(still, "k")
    if random:
        await still.refuses("out_of_stock", ask())
    else:
        assert [(await ask())[0] for _ in range(2)] == [200, 200]
    assert await _is_stored(still, "k") == stored
    await still.unassign("CODE-1")
    await still.wait(1)
    await still.assign("CODE-1", "bob")
    await still.refuses("out_of_stock" if random else "coupon_assigned_to_other", ask())


ROLLBACKS: dict[str, Act] = {
    "redemption": lambda shop, redeemed: shop.rollback(redeemed["redemptionId"]),
    "kept": lambda shop, redeemed: shop.rollback(redeemed["redemptionId"], restore=False),
    "order": lambda shop, _: shop.rollback_order("A-1"),
}


async def _refused_as_rolled_back(shop: Shop, asked: Awaitable[Any], redemption_id: str | None, at_ms: int) -> None:
    await shop.refuses("already_rolled_back", asked)
    assert shop.refusal
    assert shop.refusal.figures == {"redemptionId": redemption_id, "rolledBackAt": from_ms(at_ms)}
    assert shop.refusal.detail.endswith("again.")


@pytest.mark.parametrize("how", ROLLBACKS)
@pytest.mark.parametrize("recorded", [False, True])
async def test_a_rolled_back_redemption_is_not_answered_as_sold(
    still: Shop, uses: int | None, how: str, recorded: bool
) -> None:
    """Its key, that of a repeat and that of a checkout are refused with its id and the time, before its facts leave the
    outbox and after; nothing is spent. A key of the rollback answers as before, and a new key redeems again."""
    book = await still.book("CODE-1", "CODE-2", max_redemptions_per_code=uses)
    asks: dict[str, Callable[[], Awaitable[Any]]] = {
        "bought": lambda: still.checkout("ann", "A-1", code="CODE-1", giftBookId=str(book.book_id), key="bought"),
        "repeated": lambda: still.checkout("ann", "A-1", code="CODE-1", key="repeated"),
        "redeemed": lambda: still.redeem("CODE-1", "ann", orderId="A-1", key="redeemed"),
    }
    first = {name: await ask() for name, ask in asks.items()}
    redemption = first["bought"][1]["redemption"]
    if recorded:
        await still.record()
    for name, ask in asks.items():
        assert await ask() == (first[name][0], first[name][1] | {"replayed": True}), name
    await still.unassign(first["bought"][1]["gift"]["code"])  # a gift is not what a sale depends on
    for name, ask in asks.items():
        assert (await ask())[1].pop("replayed"), name
    await still.wait(5)
    assert (await ROLLBACKS[how](still, redemption))[0] == 200
    await still.wait(5)
    if recorded:
        await still.record()
    for ask in asks.values():
        await _refused_as_rolled_back(still, ask(), redemption["redemptionId"], NOW_MS + 5)
    again = still.redeem("CODE-1", "ann", orderId="A-1", key="new")
    if how == "kept":
        await still.refuses("coupon_redeemed" if uses == 1 else "order_already_used", again)
        return
    status, other = await again
    assert (status, other["redemptionId"] != redemption["redemptionId"]) == (201, True)
    for ask in asks.values():
        await _refused_as_rolled_back(still, ask(), redemption["redemptionId"], NOW_MS + 5)


async def test_a_limited_caller_is_told_the_same(still: Shop) -> None:
    """Under limits a repeat is counted, and refused with the same figures, or decided again."""
    await still.book("CODE-1", "CODE-2")
    still.limit(requests_per_minute=100, misses_per_minute=1, live_locks=5)
    _, redeemed = await still.redeem("CODE-1", "ann", key="redeemed")
    _, held = await still.lock("CODE-2", "ann", key="lock")
    await still.rollback(redeemed["redemptionId"])
    await still.unlock("CODE-2", held["lockToken"])
    for left in (95, 94):
        answer = await still.redeem("CODE-1", "ann", key="redeemed")
        assert answer == (409, "already_rolled_back")
        assert still.refusal
        assert still.refusal.figures["redemptionId"] == redeemed["redemptionId"]
        assert still.rates.startswith(f"requests 100 {left} ")
    status, other = await still.lock("CODE-2", "ann", key="lock")
    assert (status, other["lockToken"] != held["lockToken"]) == (201, True)


async def test_what_an_archived_book_sold_is_answered(kind: str, url: str) -> None:
    """A redemption whose code left Redis stands if Postgres has no rollback of it."""
    async with shop_on(kind, url) as shop:
        still = await shop.freeze()
        await still.book("CODE-1", "CODE-2")
        first = await still.redeem("CODE-1", "ann", key="k")
        _, other = await still.redeem("CODE-2", "ann", key="rolled back")
        await still.rollback(other["redemptionId"])
        args = [part for code in ("CODE-1", "CODE-2") for part in (code, key_names.bucket(code))]
        await still.work("drop_codes", [still.caller.gate, f"{still.caller.prefix}w"], still.books[0].book, *args)
        assert await still.redeem("CODE-1", "ann", key="k") == (201, first[1] | {"replayed": True})
        await _refused_as_rolled_back(
            still, still.redeem("CODE-2", "ann", key="rolled back"), other["redemptionId"], NOW_MS
        )


GIFTS: dict[str, Callable[[Shop, str], Awaitable[Any]]] = {
    "gift": lambda shop, key: shop.gift(shop.books[0], "ann", "A-1", key=key),
    "checkout": lambda shop, key: shop.checkout("ann", "A-1", giftBookId=str(shop.books[0].book_id), key=key),
}


@pytest.mark.parametrize("how", GIFTS)
async def test_a_gift_that_went_with_its_order_is_not_given_by_its_key(still: Shop, how: str) -> None:
    """The key of a gift, of its repeat, and of a checkout without a redemption is refused for good, without a
    redemption's id; a new key gives again."""
    await still.book("GIFT-1", "GIFT-2")
    for key, status in (("one", 201), ("two", 200)):
        assert (await GIFTS[how](still, key))[0] == status
        assert (await GIFTS[how](still, key))[1].pop("replayed")
    await still.wait(5)
    assert (await still.rollback_order("A-1"))[0] == 200
    await still.wait(5)
    for key in ("one", "two"):
        await _refused_as_rolled_back(still, GIFTS[how](still, key), None, NOW_MS + 5)
    status, body = await GIFTS[how](still, "new")
    assert (status, "replayed" in body) == (201, False)
    await still.record()
    assert (await GIFTS[how](still, "new"))[1].pop("replayed")
    await _refused_as_rolled_back(still, GIFTS[how](still, "one"), None, NOW_MS + 5)


@pytest.mark.parametrize("how", GIFTS)
async def test_a_gift_that_was_unassigned_is_given_anew(still: Shop, how: str) -> None:
    """Its key then gives another, and answers with that; a repeat that only finds the order's gift stores nothing."""
    await still.book("GIFT-1")
    await GIFTS[how](still, "k")
    await still.unassign("GIFT-1")
    await still.wait(1)
    status, again = await GIFTS[how](still, "k")
    assert (status, again.get("gift", again)["assignedAt"]) == (201, from_ms(NOW_MS + 1))
    assert await GIFTS[how](still, "k") == (201, again | {"replayed": True})
    await still.unassign("GIFT-1")
    await still.wait(1)
    assert (await GIFTS[how](still, "other"))[0] == 201
    stored = await _is_stored(still, "k")
    assert (await GIFTS[how](still, "k"))[0] == 200
    assert await _is_stored(still, "k") == stored
    await still.rollback_order("A-1")
    assert (await GIFTS[how](still, "k"))[0] == 201  # of the gift that was unassigned


async def test_a_checkout_that_did_nothing_is_answered_for_good(still: Shop) -> None:
    """Without a redemption and a gift there is nothing that a rollback could take back."""
    await still.book("CODE-1")
    first = await still.checkout("ann", "A-1", key="k")
    assert first[1]["gift"] is None
    await still.redeem("CODE-1", "ann", orderId="A-1")
    await still.rollback_order("A-1")
    assert await still.checkout("ann", "A-1", key="k") == (201, first[1] | {"replayed": True})


async def test_a_rollback_races_with_repeats(shop: Shop) -> None:
    """Repeats in the same turns as the rollback get the redemption or `already_rolled_back`: they spend nothing."""
    book = await shop.book("CODE-1")
    _, redeemed = await shop.redeem("CODE-1", "ann", orderId="A-1", key="k")
    repeats = [shop.redeem("CODE-1", "ann", orderId="A-1", key="k") for _ in range(40)]
    answers = await together(*repeats[:20], shop.rollback(redeemed["redemptionId"]), *repeats[20:])
    counts = tally([*answers[:20], *answers[21:]])
    assert (answers[20][0], sum(counts.values())) == (200, 40)
    assert counts.keys() <= {201, (409, "already_rolled_back")}
    assert all(body["replayed"] for status, body in answers if status == 201)
    assert (await shop.stats(book))["redeemed"] == 0
    asked = redeem.REDEEM.prepare(Call(shop.caller), "CODE-1", redeem.RedeemRequest(user_id="ann"))
    assert (await shop.decide(asked))[3] == 0
