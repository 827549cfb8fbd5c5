"""The merchant ends all locks of a book: in one step their tokens are lost, and what they held is free again."""

from typing import Any

import pytest

from service.engine.domain.configuration import BookRow
from tests.harness.shop import Shop, tally, together
from tests.harness.stored_book import parse_settings
from tests.lua.consistency import assert_consistent


async def set_aside(shop: Shop, book: BookRow, monkeypatch: pytest.MonkeyPatch) -> BookRow:
    """End the locks, as a process does that dies before it has removed any."""
    with monkeypatch.context() as patched:
        patched.setattr(type(shop.projector), "_drop_ended_locks", _leave)
        return await shop.change(book, end_locks=True)


async def _leave(*_: Any) -> None:
    """Nothing is removed."""


async def test_a_token_of_an_ended_lock_is_lost(shop: Shop, uses: int | None) -> None:
    """For redeem, extend and validate; unlock has nothing to do. The code is free for another."""
    book = await shop.book("CODE-1", max_redemptions_per_code=uses)
    token = (await shop.lock("CODE-1", "ann", orderId="A-1"))[1]["lockToken"]
    await shop.change(book, end_locks=True)
    await assert_consistent(shop)
    await shop.refuses("lock_lost", shop.redeem("CODE-1", "ann", orderId="A-1", lockToken=token))
    await shop.refuses("lock_lost", shop.extend("CODE-1", token))
    _, validation = await shop.validate("CODE-1", userId="ann", orderId="A-1", lockToken=token)
    assert validation["reasons"] == ["lock_lost"]
    assert (await shop.unlock("CODE-1", token))[0] == 204
    assert (await shop.coupon("CODE-1"))[1]["lock"] is None
    assert (await shop.live_locks("CODE-1")).total == 0
    assert (await shop.lock("CODE-1", "bob"))[0] == 201


async def test_it_is_in_the_step_of_the_change(shop: Shop, uses: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any lock is removed none can be used: a new one of the same order has another token."""
    book = await shop.book("CODE-1", max_redemptions_per_code=uses)
    first = (await shop.lock("CODE-1", "ann", orderId="A-1", key="k", fingerprint="f"))[1]["lockToken"]
    await set_aside(shop, book, monkeypatch)
    await shop.refuses("lock_lost", shop.extend("CODE-1", first))
    await shop.refuses("lock_lost", shop.redeem("CODE-1", "ann", orderId="A-1", lockToken=first))
    status, again = await shop.lock("CODE-1", "ann", orderId="A-1", key="k", fingerprint="f")
    assert status == 201
    assert again["lockToken"] != first
    assert (await shop.redeem("CODE-1", "ann", orderId="A-1", lockToken=again["lockToken"]))[0] == 201
    await finish(shop, 1)


async def test_the_total_is_free_in_that_step(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ended locks held of the book's total is another's before any of them is removed."""
    book = await shop.book("CODE-1", "CODE-2", max_redemptions=1)
    await shop.lock("CODE-1", "ann")
    await shop.refuses("out_of_stock", shop.lock("CODE-2", "bob"))
    await set_aside(shop, book, monkeypatch)
    assert (await shop.lock("CODE-2", "bob"))[0] == 201
    await finish(shop, 1)


async def finish(shop: Shop, book: int) -> None:
    """What the next projection, or the hourly sweep, does."""
    await shop.change(shop.books[book - 1], locks_ended=await ended(shop, book))


async def ended(shop: Shop, book: int) -> int:
    """Which change last ended the book's locks, as Redis has it."""
    return int(parse_settings(await shop.link.call("GET", f"{shop.caller.prefix}b:{book}"))["ended"])


async def test_locks_of_later_stay(shop: Shop, uses: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are made between the change and the removal of the ended ones, to the same deadline too."""
    await shop.freeze()
    book = await shop.book("CODE-1", "CODE-2", max_redemptions_per_code=uses)
    for code in ("CODE-1", "CODE-2"):
        assert (await shop.lock(code, "ann"))[0] == 201
    await set_aside(shop, book, monkeypatch)
    token = (await shop.lock("CODE-1", "bob"))[1]["lockToken"]
    await finish(shop, 1)
    await assert_consistent(shop)
    assert (await shop.extend("CODE-1", token, lockSeconds=600))[0] == 200
    await finish(shop, 1)
    assert (await shop.live_locks("CODE-1")).total == 1
    assert (await shop.redeem("CODE-1", "bob", lockToken=token))[0] == 201
    assert (await shop.live_locks("CODE-2")).total == 0


async def test_what_they_held_is_free(shop: Shop, uses: int | None) -> None:
    """Of the book's total, of the user's limit, of what a user and a key may lock, and of the codes to assign."""
    book = await shop.book(
        "CODE-1",
        "CODE-2",
        max_redemptions=2,
        max_redemptions_per_user=2,
        max_redemptions_per_code=uses,
        limits={"locksPerUser": 2},
    )
    for code in ("CODE-1", "CODE-2"):
        assert (await shop.lock(code, "ann", orderId=code))[0] == 201
    await shop.change(book, end_locks=True)
    stats = await shop.stats(book)
    assert (stats["locked_unassigned"], stats["locked_assigned"]) == (0, 0)
    assert await shop.link.call("KEYS", "*:l:*") == []
    for code in ("CODE-1", "CODE-2"):
        assert (await shop.lock(code, "ann", orderId=f"again-{code}"))[0] == 201
    await shop.change(await shop.change(book, end_locks=True), max_redemptions=None)
    assert [(await shop.assign_any(book, "cat"))[0] for _ in range(2)] == [201, 201]


async def test_other_books_keep_theirs(shop: Shop) -> None:
    book = await shop.book("CODE-1")
    await shop.book("CODE-2")
    token = (await shop.lock("CODE-2", "ann"))[1]["lockToken"]
    await shop.change(book, end_locks=True)
    assert (await shop.redeem("CODE-2", "ann", lockToken=token))[0] == 201


async def test_many_locks_of_a_code_end_in_steps(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run removes some hundreds; it goes on where it stopped, and leaves the locks of later."""
    book = await shop.book("CODE-1", max_redemptions_per_code=None, max_redemptions_per_user=2)
    await together(*(shop.lock("CODE-1", f"user-{n}") for n in range(700)))
    book = await set_aside(shop, book, monkeypatch)
    assert (await shop.lock("CODE-1", "bob"))[0] == 201
    names = (shop.caller.gate, f"{shop.caller.prefix}w")
    runs = [await shop.work("sweep_locks", names, book.book, f"p{book.locks_ended}")]
    while runs[-1][2]:
        runs.append(await shop.work("sweep_locks", names, book.book, f"p{book.locks_ended}"))
    assert len(runs) > 5
    assert [run[1] for run in runs] == [0] * (len(runs) - 1) + [1]
    assert (await shop.live_locks("CODE-1")).total == 1
    assert len(await shop.link.call("KEYS", "*:lu:*")) == 1


async def test_an_unreadable_book_ends_no_locks(shop: Shop) -> None:
    """A book that can't be projected for a while, and then again, keeps the locks that it had."""
    book = await shop.change(await shop.book("CODE-1", max_redemptions=2), end_locks=True)
    token = (await shop.lock("CODE-1", "ann"))[1]["lockToken"]
    await shop.projector.close_book(0, 1, book.book, book.book_id, shop.next_version())
    await shop.change(book)
    await assert_consistent(shop)
    await shop.refuses("coupon_locked", shop.lock("CODE-1", "bob"))
    assert (await shop.redeem("CODE-1", "ann", lockToken=token))[0] == 201


async def test_a_race_of_redemptions_with_the_end(shop: Shop, uses: int | None) -> None:
    """Each of 100 redemptions under locks is decided before the end or after it: 201, or lock_lost."""
    codes = [f"CODE-{n}" for n in range(100)]
    book = await shop.book(*codes, max_redemptions_per_code=uses, max_redemptions_per_user=3, max_redemptions=1000)
    tokens = [(await shop.lock(code, code))[1]["lockToken"] for code in codes]

    async def end() -> tuple[int, str]:
        await shop.change(book, end_locks=True)
        return 0, "ended"

    asked = [shop.redeem(code, code, lockToken=token) for code, token in zip(codes, tokens, strict=True)]
    answers = await together(*asked[:50], end(), *asked[50:])
    await assert_consistent(shop)
    assert set(tally(answers)) <= {(0, "ended"), 201, (409, "lock_lost")}
    assert (await shop.stats(book))["locked_unassigned"] == 0
