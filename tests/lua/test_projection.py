"""Configuration comes into Redis by version: what is newer is applied at once, what is older never."""

from typing import Any

import msgspec
import pytest

from service.engine.domain.errors import Refusal
from service.engine.domain.times import from_ms
from service.engine.formats import key_names
from service.engine.hot.projection import RedisProjector
from service.server.in_redis.workspace_state import Workspace
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop


async def test_an_older_row_changes_nothing(still: Shop) -> None:
    """A workspace, book, code or user that comes again, or in an older version, is as it was."""
    book = await still.book("CODE-1")
    await still.user("ann", 3)
    first = still.code_row(book, "CODE-1", still.next_version(), active=False)
    await still.projector.coupon(first)
    newer = msgspec.structs.replace(first, version=still.next_version(), active=True, expires_ms=NOW_MS + 5)
    await still.projector.coupon(newer)
    changed = await still.change(book, status="inactive")
    before = await still.everything()
    await still.projector.coupon(first)
    await still.projector.coupon(newer)
    await still.projector.codes(1, 0, 1, [first])
    await still.projector.book(changed)
    await still.projector.book(book)
    version, still.version = still.version, 0
    await still.put_workspace(currency="EUR")
    await still.user("ann", 1)
    still.version = version
    assert await still.everything() == before
    assert (await still.coupon("CODE-1"))[1]["expiresAt"] == from_ms(NOW_MS + 5)


async def test_codes_are_entered_once(still: Shop) -> None:
    """A code that comes again stays what it is, though it was assigned, locked or used since."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3", "CODE-4")
    await still.assign("CODE-1", "ann")
    await still.lock("CODE-2", "ann")
    await still.redeem("CODE-3", "ann")
    before = await still.everything()
    rows = [still.code_row(book, f"CODE-{n}", still.next_version()) for n in range(1, 5)]
    await still.projector.codes(1, 0, still.version, rows)
    after = await still.everything()
    del before["{p0}:newest"], after["{p0}:newest"]
    assert after == before
    assert (await still.stats(book))["codes"] == 4


async def test_many_codes_at_once(still: Shop) -> None:
    """An upload of more codes than one run takes enters all of them, each of its own book."""
    first, second = await still.book(), await still.book()
    version = still.next_version()
    rows = [still.code_row(first if n % 3 else second, f"CODE-{n:04}", version) for n in range(650)]
    await still.projector.codes(1, 0, version, rows)
    assert (await still.stats(first))["codes"] == 433
    assert (await still.stats(second))["codes"] == 217


async def test_an_uploaded_code_has_owner_limit_and_end_of_its_own(still: Shop) -> None:
    """Owner, limit and end that were uploaded are the coupon's; the owner's since the upload."""
    book = await still.book(max_redemptions_per_code=3)
    await still.add(book, "CODE-1", owner_id="ann", max_redemptions=2, expires_ms=NOW_MS + 9)
    await still.add(book, "CODE-2", max_redemptions=1)
    _, coupon = await still.coupon("CODE-1")
    assert (coupon["userId"], coupon["maxRedemptions"], coupon["status"]) == ("ann", 2, "assigned")
    assert (coupon["expiresAt"], coupon["assignedAt"]) == (from_ms(NOW_MS + 9), from_ms(1_700_000_000_000))
    assert await still.held("ann") == 1
    await still.refuses("coupon_assigned_to_other", still.assign("CODE-1", "bob"))
    await still.redeem("CODE-2", "bob")
    await still.refuses("coupon_redeemed", still.redeem("CODE-2", "cat"))
    assert (await still.stats(book))["redeemed"] == 1


async def test_owners_at_upload_pass_every_limit(still: Shop) -> None:
    """An owner at upload gets the code though the user has as many as allowed; they count for what comes then."""
    book = await still.book("CODE-1", max_codes_per_user=1)
    await still.user("ann", 1)
    await still.add(book, "CODE-2", "CODE-3", owner_id="ann")
    assert await still.held("ann") == 2
    await still.refuses("user_code_limit", still.assign("CODE-1", "ann"))


@pytest.mark.parametrize("state", ["idle", "assigned", "partly used", "dated"])
async def test_a_switched_off_code_comes_back_as_it_was(still: Shop, state: str) -> None:
    """A coupon that is off is neither given nor taken; on again it is as before, but for its locks (test_prices.py)."""
    book = await still.book("CODE-1", max_redemptions_per_code=2)
    says: dict[str, Any] = {"expires_ms": NOW_MS + 9} if state == "dated" else {}
    if says:
        await still.add(book, "CODE-1", **says)
    asks = {"assigned": still.assign, "partly used": still.redeem}
    if state in asks:
        await asks[state]("CODE-1", "ann")
    _, before = await still.coupon("CODE-1")
    sets = {name: held for name, held in (await still.everything()).items() if ":f" in name or ":l" in name}
    await still.add(book, "CODE-1", active=False, **says)
    assert (await still.coupon("CODE-1"))[1] == {**before, "status": "inactive"}
    await still.refuses("out_of_stock", still.assign_any(book, "bob"))
    await still.refuses("coupon_inactive", still.redeem("CODE-1", "ann"))
    await still.refuses("coupon_inactive", still.lock("CODE-1", "ann"))
    await still.refuses("coupon_inactive", still.assign("CODE-1", "ann"))
    assert (await still.stats(book))["inactive"] == 1
    await still.add(book, "CODE-1", **says)
    assert (await still.coupon("CODE-1"))[1] == before
    assert {name: held for name, held in (await still.everything()).items() if ":f" in name or ":l" in name} == sets
    assert (await still.stats(book))["inactive"] == 0


async def test_a_code_uploaded_switched_off(still: Shop) -> None:
    """A code that is off from the start is in no pool until it is switched on; used up, it is used up first."""
    book = await still.book()
    await still.add(book, "CODE-1", active=False)
    await still.refuses("out_of_stock", still.assign_any(book, "ann"))
    await still.add(book, "CODE-1")
    await still.redeem("CODE-1", "ann")
    await still.add(book, "CODE-1", active=False)
    assert (await still.coupon("CODE-1"))[1]["status"] == "redeemed"


async def test_an_expiry_is_set_moved_and_taken_away(still: Shop, uses: int | None) -> None:
    """A code's own end governs it at once, whether it is free, held or used."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3", valid_until_ms=NOW_MS + 100, max_redemptions_per_code=uses)
    await still.assign("CODE-2", "ann")
    await still.assign("CODE-3", "cat")
    await still.redeem("CODE-3", "cat")
    for code in ("CODE-1", "CODE-2", "CODE-3"):
        for own, expected in ((50, 50), (200, 100), (70, 70), (None, 100)):
            await still.add(book, code, expires_ms=own and NOW_MS + own)
            assert (await still.coupon(code))[1]["expiresAt"] == from_ms(NOW_MS + expected)
    assert (await still.held("ann"), await still.held("cat")) == (1, int(uses != 1))
    assert (await still.assign_any(book, "bob"))[1]["code"] == "CODE-1"


async def test_a_code_keeps_the_limit_it_was_first_used_under(still: Shop) -> None:
    """A book's limit by code that changes while a code is used or locked governs the others, not that one."""
    book = await still.book("CODE-1", "CODE-2", "CODE-3")
    await still.redeem("CODE-1", "ann")
    _, lock = await still.lock("CODE-2", "ann")
    await still.change(book, max_redemptions_per_code=2)
    assert [(await still.coupon(f"CODE-{n}"))[1]["maxRedemptions"] for n in (1, 2, 3)] == [1, 1, 2]
    assert (await still.redeem("CODE-2", "ann", lockToken=lock["lockToken"]))[0] == 201
    assert [(await still.redeem("CODE-3", "ann", orderId=f"A-{n}"))[0] for n in range(3)] == [201, 201, 409]


@pytest.mark.parametrize("own", [None, 2])
@pytest.mark.parametrize("how", ["redeem", "lock"])
async def test_a_book_remembers_that_a_code_was_touched(still: Shop, own: int | None, how: str) -> None:
    """Once a code of the book was locked or redeemed, with or without a limit of its own, the book is `touched`."""
    book = await still.book()
    await still.add(book, "CODE-1", max_redemptions=own)
    assert (await still.stats(book))["touched"] == 0
    await still.assign("CODE-1", "ann")
    await still.validate("CODE-1", userId="ann")
    assert (await still.stats(book))["touched"] == 0
    if how == "redeem":
        await still.redeem("CODE-1", "ann")
    else:
        _, lock = await still.lock("CODE-1", "ann")
        await still.unlock("CODE-1", lock["lockToken"])
    assert (await still.stats(book))["touched"] == 1


async def test_counts_as_clients_see_them(still: Shop) -> None:
    """Each code counts once under its status; available is what remains."""
    codes = [f"CODE-{n}" for n in range(8)]
    book = await still.book(*codes, max_redemptions_per_code=2, discount={"type": "fixed", "value_e4": 10_000})
    await still.assign("CODE-0", "ann")
    await still.assign("CODE-1", "ann")
    for code in ("CODE-1", "CODE-2", "CODE-7"):
        for order in ("A-1", "A-2"):
            await still.lock(code, "ann", orderId=order, lockSeconds=10)
    for order in ("A-3", "A-4"):
        await still.redeem("CODE-3", "ann", orderId=order, orderValue="5")
    await still.add(book, "CODE-4", "CODE-7", active=False)
    await still.add(book, "CODE-8", max_redemptions=1)
    _, back = await still.redeem("CODE-8", "bob", orderId="A-5", orderValue="5")
    await still.rollback(back["redemptionId"], restore=False)
    counts = await Workspace(still.decider).book_counts(still.caller, str(book.book_id))
    assert msgspec.to_builtins(counts) == {
        "codes": 9,
        "available": 2,
        "assigned": 1,
        "locked": 2,
        "redeemed": 1,
        "exhausted": 1,
        "inactive": 2,
        "redemptions": 2,
        "rolledBack": 1,
        "discountTotal": "2.00",
        "users": 1,
        "budgets": [],
        "balance": None,
        "touched": True,
        "taken": 3,
        "nowMs": NOW_MS,
    }
    await still.wait(10_000)
    counts = await Workspace(still.decider).book_counts(still.caller, str(book.book_id))
    assert (counts.available, counts.assigned, counts.locked) == (3, 2, 0)


async def test_the_last_version_of_which_all_is_here(still: Shop) -> None:
    """seen moves on only over what was seen, without a gap, and never back."""
    projector = still.projector
    await still.link.call("DEL", key_names.newest(0))
    assert await projector.read_last_version(0) == 0
    await projector.confirm_version(0, 1)
    await projector.confirm_version(0, 3)  # 2 is missing
    assert await projector.read_last_version(0) == 1
    await projector.confirm_version(0, 2)
    assert await projector.read_last_version(0) == 2
    await projector.advance_config(0, 9)
    await projector.confirm_version(0, 5)
    assert await projector.read_last_version(0) == 9


async def test_the_newest_version_that_anything_is_of(still: Shop) -> None:
    """Each kind of row writes its version at once; an older row changes nothing."""
    projector = still.projector
    book = await still.book("CODE-1")
    writes = [
        lambda: still.put_workspace(currency="USD"),
        lambda: still.change(book, status="inactive"),
        lambda: still.user("ann", 3),
        lambda: projector.codes(1, 0, still.next_version(), [still.code_row(book, "CODE-2", still.version)]),
        lambda: projector.coupon(still.code_row(book, "CODE-1", still.next_version(), active=False)),
    ]
    for write in writes:
        await write()
        assert await projector.read_versions(0) == (0, still.version)
    await projector.book(book)
    assert await projector.read_versions(0) == (0, still.version)
    await projector.advance_config(0, still.version + 3)
    assert await projector.read_versions(0) == (still.version + 3, still.version + 3)


async def test_a_code_that_redis_has_an_error_on_is_left_out(still: Shop) -> None:
    """It is in no directory, and the codes beside it are; one that was there stays as it was."""
    book = await still.book()
    await still.add(book, "CODE-4", owner_id="ann")
    user = f"{still.caller.prefix}u:ann"
    await still.link.call("RENAME", user, "aside")
    await still.link.call("SET", user, "stray")
    left_out: list[str] = []

    async def run(partition: int, script: str, names: Any, args: Any) -> Any:
        return await still.decider.run(partition, script, names, args)

    projector = RedisProjector(run, lambda row: left_out.append(row.code))
    rows = [still.code_row(book, f"CODE-{n}", 90, owner_id="ann" if n == 2 else None) for n in range(1, 4)]
    before = await still.coupon("CODE-4")
    rows.insert(2, still.code_row(book, "CODE-4", 90, active=False))
    await projector.codes(still.workspace, 0, 90, rows)
    assert left_out == ["CODE-2", "CODE-4"]
    assert await still.coupon("CODE-4") == before
    assert await still.coupon("CODE-2") == (404, "coupon_not_found")
    assert (await still.stats(book))["codes"] == 3
    assert (await still.assign_any(book, "bob"))[0] == 201
    with pytest.raises(Refusal, match="outcome_unknown"):
        await RedisProjector(run).codes(still.workspace, 0, 90, rows)
    await still.link.call("RENAME", "aside", user)


@pytest.mark.parametrize("settings", ["", "no words", "a b c d e f g h i j k l m n o p q r s t u v w"])
async def test_settings_that_scripts_cant_read_are_refused(still: Shop, settings: str) -> None:
    """Nothing is written of them: a script that can't read its book fails on every request."""
    await still.book("CODE-1")
    w, gate, newest = still.caller.prefix, key_names.gate(0), key_names.newest(0)
    before = await still.everything()
    with pytest.raises(Refusal, match=r"outcome_unknown|unavailable"):  # the error's kind is the server's
        await still.decider.run(0, "put_book", (gate, f"{w}w", f"{w}x", f"{w}b:1", newest), (900, settings, 1))
    with pytest.raises(Refusal, match=r"outcome_unknown|unavailable"):
        await still.decider.run(0, "put_workspace", (gate, f"{w}w", f"{w}m", newest), (900, settings))
    assert await still.everything() == before


async def test_a_book_that_is_closed_sells_nothing(still: Shop) -> None:
    """A book whose settings can't be projected permits nothing until they can be."""
    book = await still.book("CODE-1")
    await still.projector.close_book(0, still.workspace, book.book, book.book_id, still.next_version())
    await still.refuses("unavailable", still.redeem("CODE-1", "ann"))
    await still.refuses("unavailable", still.lock("CODE-1", "ann"))
    await still.refuses("unavailable", still.assign_any(book, "ann"))
    assert (await still.coupon("CODE-1"))[1]["status"] == "available"
    await still.change(book, name="again")
    assert (await still.redeem("CODE-1", "ann"))[0] == 201
