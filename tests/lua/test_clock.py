"""A test workspace's clock in the scripts, to the millisecond; and times far from now."""

import pytest

from service.engine.domain.times import LATEST_MS
from service.server.in_redis.workspace_state import CLAIM_MS, Workspace
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop

_LAST = "9999-12-31T23:59:59.999Z"
_DAY_MS = 86_400_000


@pytest.mark.parametrize("uses", [1, 2])
async def test_a_lock_is_exact_on_the_moved_clock(still: Shop, uses: int) -> None:
    """The clock set to a millisecond before a lock's end leaves it its use; set to its end, that is another's."""
    await still.book("CODE-1", max_redemptions_per_code=uses, max_redemptions=1)
    _, held = await still.lock("CODE-1", "ann", lockSeconds=60)
    await still.set_offset(59_999)
    await still.refuses("coupon_locked" if uses == 1 else "out_of_stock", still.redeem("CODE-1", "bob"))
    await still.set_offset(60_000)
    await still.refuses("lock_lost", still.redeem("CODE-1", "ann", lockToken=held["lockToken"]))
    assert (await still.redeem("CODE-1", "bob"))[0] == 201


async def test_going_back_revives_no_lock_of_what_was_sold(still: Shop) -> None:
    """A lock that ended by the clock lives again when that goes back, but not on a coupon that was used since."""
    await still.book("CODE-1", "CODE-2")
    tokens = [(await still.lock(code, "ann", lockSeconds=60))[1]["lockToken"] for code in ("CODE-1", "CODE-2")]
    await still.set_offset(60_000)
    assert (await still.redeem("CODE-2", "bob"))[0] == 201
    await still.set_offset(0)
    assert (await still.redeem("CODE-1", "ann", lockToken=tokens[0]))[0] == 201
    await still.refuses("lock_lost", still.redeem("CODE-2", "ann", lockToken=tokens[1]))


@pytest.mark.parametrize("uses", [1, 2])
@pytest.mark.parametrize("limit", ["max_redemptions", "max_redemptions_per_user"])
async def test_going_back_counts_no_lock_that_is_forgotten(still: Shop, limit: str, uses: int) -> None:
    """A lock that had ended and was forgotten holds no use of its book's total, or its user's, when that goes back."""
    await still.book("CODE-1", "CODE-2", max_redemptions_per_code=uses, **{limit: 1})
    await still.lock("CODE-1", "ann", lockSeconds=60)
    await still.set_offset(60_000)
    assert (await still.assign("CODE-1", "bob"))[0] == 201
    await still.set_offset(0)
    assert (await still.redeem("CODE-2", "ann"))[0] == 201


@pytest.mark.parametrize(
    ("how", "uses"),
    [("redeem", 1), ("redeem", 2), ("lock", 1), ("lock", 2), ("unlock", 2), ("rollback", 2), ("sweep", 2)],
)
async def test_every_change_of_a_coupon_forgets_its_ended_locks(still: Shop, how: str, uses: int) -> None:
    """Another user's request is enough: when the clock goes back, the ended lock holds no use of its user's limit."""
    book = await still.book("CODE-1", "CODE-2", max_redemptions_per_code=uses, max_redemptions_per_user=1)
    _, held = await still.lock("CODE-1", "bob", lockSeconds=300) if how == "unlock" else (0, {})
    _, sold = await still.redeem("CODE-1", "bob") if how == "rollback" else (0, {})
    await still.lock("CODE-1", "ann", lockSeconds=60)
    await still.set_offset(60_000)
    asks = {
        "redeem": lambda: still.redeem("CODE-1", "bob"),
        "lock": lambda: still.lock("CODE-1", "bob"),
        "unlock": lambda: still.unlock("CODE-1", held["lockToken"]),
        "rollback": lambda: still.rollback(sold["redemptionId"]),
        "sweep": lambda: still.work("sweep_locks", (still.caller.gate, f"{still.caller.prefix}w"), book.book, "p"),
    }
    await asks[how]()
    await still.set_offset(0)
    assert (await still.redeem("CODE-2", "ann"))[0] == 201


async def test_going_back_counts_no_lock_that_was_replaced(still: Shop) -> None:
    """Nor does one that its holder replaced, of so many beside a live one that not all could be forgotten at once."""
    await still.book("CODE-1", max_redemptions_per_code=200, max_redemptions=100)
    await still.lock("CODE-1", "bob", lockSeconds=300)
    for number in range(49):
        await still.lock("CODE-1", f"u{number}", lockSeconds=60)
    await still.lock("CODE-1", "ann", lockSeconds=61)
    await still.set_offset(61_000)
    assert (await still.lock("CODE-1", "ann", lockSeconds=60))[0] == 201
    await still.set_offset(0)
    counted = 9 + 2  # of those that ended 20 were forgotten, 20 left the book's set to make room, one was replaced
    for number in range(100 - counted):
        assert (await still.redeem("CODE-1", f"other{number}"))[0] == 201
    await still.refuses("out_of_stock", still.redeem("CODE-1", "late"))
    await still.set_offset(61_000)


async def test_a_claim_goes_by_the_real_time(still: Shop) -> None:
    """A claim's minute, and the hours of stored answers, go by the real time, wherever the clock is set."""
    workspace, caller = Workspace(still.decider), still.caller
    assert await workspace.claim_key(caller, "k", "f") is None
    await still.book("CODE-1")
    for offset_ms in (1000 * _DAY_MS, -1000 * _DAY_MS):
        await still.set_offset(offset_ms)
        with pytest.raises(Exception, match="request_in_progress"):
            await workspace.claim_key(caller, "k", "f")
        assert (await still.lock("CODE-1", "ann", key="k", fingerprint="f"))[1] == "request_in_progress"
    await still.wait(CLAIM_MS)
    assert await workspace.claim_key(caller, "k", "g") is None
    await workspace.store_answer(caller, "k", "g", 201, b"{}", "")
    hours = (await still.everything())[f"{caller.prefix}y"]
    assert set(hours) == {str((NOW_MS + CLAIM_MS + _DAY_MS) // 3_600_000)}


async def test_answers_have_an_end_in_the_year_9999(shop: Shop) -> None:
    """Every answer has the end of a coupon that ends in the last millisecond of 9999, by its book or by itself."""
    await shop.book("CODE-1", valid_until_ms=LATEST_MS)
    book = await shop.book("CODE-2")
    await shop.add(book, "CODE-2", expires_ms=LATEST_MS)
    for code in ("CODE-1", "CODE-2"):
        assert (await shop.coupon(code))[1]["expiresAt"] == _LAST
        status, coupon = await shop.assign(code, "ann")
        assert (status, coupon["expiresAt"]) == (201, _LAST)
        _, held = await shop.lock(code, "ann")
        assert (await shop.coupon(code))[1]["expiresAt"] == _LAST
        assert (await shop.validate(code=code, userId="ann"))[1]["valid"]
        assert await shop.held("ann") == 1
        assert (await shop.redeem(code, "ann", lockToken=held["lockToken"]))[0] == 201
        assert await shop.held("ann") == 0
