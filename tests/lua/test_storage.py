"""A workspace's bound of storage: what is counted of it, and what a full workspace refuses."""

from functools import partial
from typing import Any

import pytest

from service.engine.domain.configuration import BookRow
from service.engine.domain.storage import PERIOD_BYTES, Mark, Stored
from service.engine.formats import key_names
from service.engine.hot.scripts import STORING, Scripts
from service.engine.operations import assign, checkout, coupon_view, gift, lock, redeem, rollback, unassign
from service.engine.operations.base import Operation
from tests.harness.script_runner import EPOCH, NOW_MS, STILL_CLOCK
from tests.harness.shop import Shop, together

SAMPLED_US = 64_000
"""Microseconds that choose a request; the still clock's otherwise never do."""


async def _work(shop: Shop, script: str, names: tuple[str, ...], *args: Any) -> Any:
    """The reply of a script of the worker, in an open partition."""
    scripts = Scripts(0, EPOCH, shop.nonce, STORING)
    for text in scripts.texts.values():
        await shop.link.call("SCRIPT", "LOAD", text)
    return await shop.link.call(*scripts.call(script, names, args))


async def _count(shop: Shop) -> Stored:
    """What the workspace has, by all pages."""
    w, cursor, counted = shop.caller.prefix, "0", Stored()
    names = (shop.caller.gate, key_names.settings(w), key_names.books(w), key_names.kept_bytes(w))
    while True:
        _, cursor, _, *more = await _work(shop, "count_storage", names, cursor)
        counted += tuple(map(int, more[: len(Stored._fields)]))
        if cursor == "0":
            return counted


async def _mark(shop: Shop, mark: Mark) -> None:
    w = shop.caller.prefix
    names = (shop.caller.gate, key_names.settings(w), key_names.kept_bytes(w))
    assert await _work(shop, "put_storage", names, mark, 70, 64) == [0]


async def test_what_is_counted(shop: Shop) -> None:
    """Books, codes, codes with a record, uses, locks, created users and stored answers are counted, page by page."""
    for number in range(300):
        await shop.book(f"OF-{number}")
    book = await shop.book(*(f"CODE-{n}" for n in range(6)))
    await shop.book("MANY-1", "MANY-2", max_redemptions_per_code=None)
    await shop.assign("CODE-0", "ann")
    await shop.add(book, "CODE-1", active=False)
    for n in (2, 3):
        await shop.redeem(f"CODE-{n}", "ann", orderId=f"A-{n}")
    await shop.redeem("MANY-1", "ann", orderId="A-9")
    await shop.lock("CODE-4", "ann")
    for user in ("ann", "bob", "cat"):
        await shop.lock("MANY-2", user)
    await shop.user("ann", 3)
    await shop.user("ann", 4)
    await shop.user("bob", 3)
    for n in range(3):  # what a gift that is taken back leaves
        given = await shop.gift(book, "bob", f"B-{n}")
        await shop.unassign(given[1]["code"])
    counted = await _count(shop)
    expected = Stored(books=302, codes=308, records=2, uses=3, locks=1, lock_bytes=1500, users=2, gifts=3)
    assert counted._replace(kept_bytes=0) == expected


async def test_answers_of_the_hot_path_are_counted_by_a_sample(still: Shop) -> None:
    """One in 64 microseconds counts the stored answers of its requests for 64; others count nothing. They count until
    the hour in which they end is over."""
    codes = [f"CODE-{n}" for n in range(9)]
    await still.book(*codes)
    await still.lock(codes[0], "ann", key="k0")
    assert (await _count(still)).kept_bytes == 0
    await still.link.call("HSET", STILL_CLOCK, "us", SAMPLED_US)
    token = (await still.lock(codes[1], "ann", key="k1"))[1]["lockToken"]
    await still.redeem(codes[2], "ann", key="k2")
    await still.extend(codes[1], token, lockSeconds=400, key="k3")
    await still.assign(codes[3], "ann", key="k4")
    await together(still.lock(codes[4], "ann", key="k5"), still.redeem(codes[5], "ann", key="k6"))
    await still.unlock(codes[1], token, key="k7")
    await still.redeem(codes[6], "ann")
    stored = await still.everything()
    entries = {name: text for name, text in stored.items() if name.startswith(f"{still.caller.prefix}i:k")}
    assert len(entries) == 8
    first = f"{still.caller.prefix}i:k0"
    expected = 64 * sum(len(name) + len(text) + 64 for name, text in entries.items() if name != first)
    assert stored[f"{still.caller.prefix}y"] == {f"h{(NOW_MS + 86_400_000) // 3_600_000}": str(expected)}
    assert (await _count(still)).kept_bytes == expected
    await still.wait(25 * 3_600_000)
    await _count(still)  # real time has not gone on for the worker's own scripts
    for hour in range(3):
        await still.link.call("HSET", f"{still.caller.prefix}y", f"h{hour}", "7", str(hour), "7", "users", "5")
    assert (await _count(still)).kept_bytes == expected
    assert set(await still.link.call("HKEYS", f"{still.caller.prefix}y")) == {
        "users",
        f"h{(NOW_MS + 86_400_000) // 3_600_000}",
    }


STEPS: list[tuple[Operation, str | None, dict[str, Any], int]] = [
    (assign.ASSIGN_CODE, "CODE-1", {"userId": "ann"}, 1),
    (assign.ASSIGN_ANY, None, {"bookId": "{book}", "userId": "ann"}, 1),
    (gift.GIFT, "ann", {"orderId": "A-9", "bookId": "{book}"}, 1),
    (lock.LOCK, "CODE-2", {"userId": "ann", "orderId": "A-2"}, 1),
    (lock.EXTEND, "HELD-1", {"lockToken": "{token}", "lockSeconds": 600}, 2),
    (redeem.REDEEM, "CODE-3", {"userId": "ann", "orderId": "A-3"}, 2),
    (checkout.CHECKOUT, None, {"userId": "ann", "orderId": "A-4", "orderValue": "5", "code": "CODE-4"}, 2),
    (redeem.VALIDATE, None, {"code": "CODE-5", "userId": "ann"}, 3),
    (coupon_view.READ, "CODE-5", {}, 3),
    (lock.UNLOCK, "HELD-1", {"lockToken": "{token}"}, 3),
    (rollback.ROLLBACK, "{spent}", {}, 3),
    (rollback.ROLLBACK_ORDER, "A-0", {}, 3),
    (unassign.UNASSIGN, "OWNED-1", {}, 3),
]
"""Requests with the mark's level from which on each is refused."""


@pytest.mark.parametrize(("level", "mark"), [(0, ""), (1, "!1"), (2, "!2")])
@pytest.mark.parametrize("keyed", [False, True])
async def test_what_a_full_workspace_refuses(still: Shop, level: int, mark: Mark, keyed: bool) -> None:
    """At the bound assignments, gifts and locks are refused, beyond the reserve redemptions and extensions too, and
    change nothing; what adds nothing never is. Below it everything goes on again."""
    book = await still.book(*(f"CODE-{n}" for n in range(12)), "HELD-1", "OWNED-1", "SPENT-1", "SPENT-2")
    _, held = await still.lock("HELD-1", "ann")
    await still.assign("OWNED-1", "ann")
    spent = (await still.redeem("SPENT-1", "ann", orderId="A-7"))[1]["redemptionId"]
    await still.redeem("SPENT-2", "ann", orderId="A-0")
    words = {"{book}": str(book.book_id), "{token}": held["lockToken"], "{spent}": spent}

    async def ask(step: int) -> Any:
        operation, code, body, _ = STEPS[step]
        body = {name: words.get(value, value) for name, value in body.items()}
        takes_key = keyed and operation not in (redeem.VALIDATE, coupon_view.READ)
        return await still.do(operation, words.get(code or "", code), key=f"k{step}" if takes_key else "", **body)

    await _mark(still, mark)
    for step, (operation, _, _, refused_from) in enumerate(STEPS):
        if refused_from <= level:
            before = await still.everything()
            await still.refuses("storage_full", ask(step))
            assert still.refusal
            assert still.refusal.figures == {"storageUsedMib": 70, "storageMib": 64}
            assert await still.everything() == before
        else:
            assert (await ask(step))[0] < 300, operation.texts.summary
    await _mark(still, "")
    for step, (_, _, _, refused_from) in enumerate(STEPS):
        if refused_from <= level and step != 4:  # its lock has been released
            assert (await ask(step))[0] < 300


async def test_full_workspaces_in_a_call_of_many(still: Shop) -> None:
    """In a call each request of a full workspace is decided by its own script; stored answers are replayed."""
    await still.book(*(f"CODE-{n}" for n in range(8)))
    first = await still.lock("CODE-0", "ann", key="k0")
    await _mark(still, "!1")
    replayed, *others = await together(
        still.lock("CODE-0", "ann", key="k0"),
        still.lock("CODE-1", "ann"),
        still.redeem("CODE-2", "ann"),
        still.lock("CODE-3", "ann", key="k3"),
    )
    assert replayed == (first[0], {**first[1], "replayed": True})
    assert [status for status, _ in others] == [409, 201, 409]
    await _mark(still, "!2")
    assert [body for _, body in await together(still.redeem("CODE-4", "ann"), still.redeem("CODE-5", "ann"))] == [
        "storage_full"
    ] * 2


async def test_a_change_of_the_settings_keeps_the_mark(still: Shop) -> None:
    """Settings that are written again stay marked, until the worker removes the mark."""
    await still.book("CODE-1")
    await _mark(still, "!1")
    await still.put_workspace(coupons_per_order=3)
    await still.refuses("storage_full", still.lock("CODE-1", "ann"))
    before = await still.everything()
    await _mark(still, "!1")
    assert await still.everything() == before
    await _mark(still, "")
    assert f"{still.caller.prefix}y" not in await still.everything()
    assert (await still.lock("CODE-1", "ann"))[0] == 201


N, LONG_S = 1_500, 10_000_000
VALUE: dict[str, Any] = {"orderValue": 100}
FEW, MANY = (
    VALUE | {"items": [{"sku": f"sku-{n}", "quantity": 1, "unitPrice": 1} for n in range(lines)]} for lines in (8, 100)
)
TENTH: dict[str, Any] = {"type": "percentage", "value_e4": 100_000}
CARDS: dict[str, Any] = {"discount": {"type": "balance", "value_e4": 500_000}, "max_redemptions_per_code": None}
OF_BOOK, OF_USER = ({"budgets": [("99999999", whose, "day")]} for whose in ("book", "user"))
FIVE, ENDLESS = ({"max_redemptions_per_code": uses} for uses in (5, None))
FILLINGS: dict[str, tuple[dict[str, Any], int, str, dict[str, Any], int]] = {
    "locks": ({}, N, "lock", {}, N),
    "prices": ({}, N, "lock", FEW, N),
    "items": ({}, N, "lock", MANY, N),
    "locks of several uses": (FIVE, N, "lock", {}, N),
    "items of several uses": (FIVE, N, "lock", MANY, N),
    "locks of one code": (ENDLESS, 1, "lock", {}, N),
    "items of one code": (ENDLESS, 1, "lock", MANY, N),
    "cards": (CARDS, N, "", {}, N),
    "locks of one card": (CARDS, 1, "lock", VALUE | {"amount": "0.01"}, N),
    "shares": (OF_BOOK, N, "lock", VALUE, N),
    "shares of each user": (OF_USER, N, "lock", VALUE, N),
    "shares of few users": (OF_USER, N, "lock", VALUE, 5),
    "accounts of users": (OF_USER, N, "redeem", VALUE, N),
}
"""By what is added alone: the book's rules and codes; what users, so many, ask N times."""


async def _take(shop: Shop) -> int:
    """The bytes of the workspace's keys."""
    keys = await shop.link.call("KEYS", f"{shop.caller.prefix}*")
    return sum([await shop.link.call("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys])


@pytest.mark.parametrize("what", FILLINGS)
async def test_what_a_tenant_adds_is_counted(shop: Shop, kind: str, what: str) -> None:
    """Of each thing that a tenant can add alone, Valkey takes 0.5 to 1.3 times what is counted, Redis 7.0 up to 1.9."""
    if kind not in ("valkey", "redis"):
        pytest.skip("it has no memory of its own")
    rules, size, asks, body, users = FILLINGS[what]
    codes = [f"CODE-{n:04}" for n in range(size)]
    book = await shop.book(**{"discount": TENTH, "max_lock_seconds": LONG_S} | rules)
    before = await _take(shop), (await _count(shop)).used_bytes
    for first in range(0, size, 200):
        await shop.add(book, *codes[first : first + 200])
    if asks:
        before = await _take(shop), (await _count(shop)).used_bytes
    ask = partial(shop.lock, lockSeconds=LONG_S) if asks == "lock" else shop.redeem
    for first in range(0, N if asks else 0, 100):
        some = range(first, first + 100)
        answers = await together(*(ask(codes[n % size], f"user-{n % users}", orderId=f"A-{n}", **body) for n in some))
        assert {status for status, _ in answers} == {201}
    taken, counted = await _take(shop) - before[0], (await _count(shop)).used_bytes - before[1]
    assert 0.5 < taken / counted < (1.3 if kind == "valkey" else 1.9)


async def test_counters_of_periods_are_counted(still: Shop, kind: str) -> None:
    """What a book with budgets by day counts in a year takes what is counted."""
    if kind not in ("valkey", "redis"):
        pytest.skip("it has no memory of its own")
    book = await still.book("CODE-1", discount=TENTH, max_redemptions_per_code=None, **OF_BOOK)
    for _ in range(400):
        assert (await still.redeem("CODE-1", "ann", orderValue="1", currency="USD"))[0] == 201
        await still.wait(24 * 3_600_000)
    key = key_names.counters(still.caller.prefix, book.book)
    taken = await still.link.call("MEMORY", "USAGE", key, "SAMPLES", 0)
    counted = await _count(still)
    assert counted.periods > 800
    assert 0.5 < taken / (counted.periods * PERIOD_BYTES) < 1.5


async def _sweep(shop: Shop, book: BookRow) -> None:
    for kind in ("u", "p"):
        of = f"{kind}{book.locks_ended or ''}"
        await shop.work("sweep_locks", (shop.caller.gate, f"{shop.caller.prefix}w"), book.book, of)


ENDS = ["redeem", "unlock", "expire", "relock", "extend", "switch off", "end all", "assign"]


@pytest.mark.parametrize("end", ENDS)
async def test_items_count_until_the_lock_ends(still: Shop, uses: int | None, end: str) -> None:
    """However a lock with many items ends, its bytes are no longer counted; the usual redemption leaves it to the
    general one."""
    book = await still.book("CODE-1", discount=TENTH, max_redemptions_per_code=uses)
    order = {"orderId": "A-1", **MANY}
    _, held = await still.lock("CODE-1", "ann", **order)
    of_one = 0 if uses == 1 else 500
    was = (await _count(still)).lock_bytes
    assert was > of_one + 1_000
    left = 0
    if end == "redeem":
        assert (await still.redeem("CODE-1", "ann", **order))[0] == 201
    elif end == "unlock":
        await still.unlock("CODE-1", held["lockToken"])
    elif end == "expire":
        await still.wait(10**9)
        await _sweep(still, book)
    elif end == "relock":
        await still.lock("CODE-1", "ann", orderId="A-1", **FEW)
        left = of_one
    elif end == "extend":
        await still.extend("CODE-1", held["lockToken"], lockSeconds=900)
        left = was
    elif end == "switch off":
        await still.add(book, "CODE-1", active=False)
    elif end == "end all":
        await _sweep(still, await still.change(book, end_locks=True))
    else:
        await still.wait(10**9)
        await still.assign("CODE-1", "ann")
    assert (await _count(still)).lock_bytes == left


@pytest.mark.parametrize("end", ["switch off", "expire"])
async def test_items_count_of_locks_that_end_unread(still: Shop, end: str) -> None:
    """Of a code with more locks than a change reads those that it removes unread count no more, either."""
    book = await still.book("CODE-1", discount=TENTH, max_redemptions_per_code=None)
    for n in range(130):
        assert (await still.lock("CODE-1", f"user-{n}", **MANY if n % 9 == 0 else {}))[0] == 201
    if end == "switch off":
        await still.add(book, "CODE-1", active=False)
    else:
        await still.wait(10**9)
        await still.assign("CODE-1", "ann")
    assert (await _count(still)).lock_bytes == 0
