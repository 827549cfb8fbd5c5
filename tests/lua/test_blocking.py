"""A code of which an event is in quarantine is unusable, whatever its configuration is."""

import pytest

from service.engine.formats import key_names
from service.engine.formats.coupon_record import parse_coupon_record
from tests.harness.shop import Shop


async def block(shop: Shop, *codes: str) -> int:
    """Block codes of workspace 1 as recovery does; how many of them are there."""
    await shop.gate("closed")
    args = [part for code in codes for part in (1, key_names.bucket(code), code)]
    reply = await shop.work("block_codes", [key_names.gate(0)], "", *args)
    await shop.gate("open")
    return reply[1]


async def test_a_blocked_code_can_be_used_for_nothing(still: Shop, uses: int | None) -> None:
    """Lock, redeem, assign and a random assign refuse it; it counts as inactive. To block it again changes nothing."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    assert await block(still, "CODE-1", "NOWHERE") == 1
    for _ in range(2):
        await still.refuses("coupon_inactive", still.lock("CODE-1", "ann"))
        await still.refuses("coupon_inactive", still.redeem("CODE-1", "ann"))
        await still.refuses("coupon_inactive", still.assign("CODE-1", "ann"))
        await still.refuses("out_of_stock", still.assign_any(book, "ann"))
        assert (await still.coupon("CODE-1"))[1]["status"] == "inactive"
        assert (await still.stats(book))["inactive"] == 1
        assert await block(still, "CODE-1") == 1


@pytest.mark.parametrize("is_active", [True, False])
async def test_the_merchants_switch_leaves_a_block(still: Shop, is_active: bool) -> None:
    """A code that is blocked while it is on or off stays blocked when it is switched; its record has both."""
    book = await still.book("CODE-1")
    await still.add(book, "CODE-1", active=is_active)
    for _ in range(2):
        await block(still, "CODE-1")
    assert await off_of(still, "CODE-1") == ("2" if is_active else "3")
    for active, off in ((False, "3"), (True, "2"), (False, "3")):
        await still.add(book, "CODE-1", active=active)
        assert await off_of(still, "CODE-1") == off
        await still.refuses("coupon_inactive", still.redeem("CODE-1", "ann"))
    assert (await still.stats(book))["inactive"] == 1
    await block(still, "CODE-1")
    assert await off_of(still, "CODE-1") == "3"


async def off_of(shop: Shop, code: str) -> str:
    """Why a code is off, as its record has it."""
    record = parse_coupon_record(await shop.link.call("GET", key_names.coupon(shop.caller.prefix, code)))
    assert record
    return record.off


async def test_an_owner_keeps_a_blocked_code(still: Shop) -> None:
    """Of an assigned or a used code the assignment and the use stay."""
    book = await still.book("CODE-1", "CODE-2")
    await still.assign("CODE-1", "ann")
    status, sold = await still.redeem("CODE-2", "ann")
    assert status == 201
    assert await block(still, "CODE-1", "CODE-2") == 2
    assert (await still.coupon("CODE-1"))[1]["userId"] == "ann"
    assert (await still.coupon("CODE-2"))[1]["status"] == "redeemed"
    assert (await still.rollback(sold["redemptionId"]))[0] == 200
    await still.refuses("coupon_inactive", still.redeem("CODE-2", "ann"))
    assert (await still.stats(book))["inactive"] == 2


async def test_a_code_that_redis_has_an_error_on_keeps_no_other_from_being_blocked(still: Shop) -> None:
    """A key of another type is in its own code's way alone."""
    await still.add(await still.book("CODE-2"), "CODE-1", max_redemptions=1)
    await still.link.call("DEL", f"{still.caller.prefix}c:CODE-1")
    await still.link.call("HSET", f"{still.caller.prefix}c:CODE-1", "a", "hash")
    assert await block(still, "CODE-1", "CODE-2") == 1
    await still.refuses("coupon_inactive", still.redeem("CODE-2", "ann"))
    await still.link.call("FLUSHALL")
    await still.open()


async def test_a_full_redis_ends_the_blocking(still: Shop, kind: str) -> None:
    """Where no code can be blocked, since memory is full, the script fails, and no code counts as blocked."""
    if kind == "fakeredis":
        pytest.skip("it has no limit of memory")
    await still.book("CODE-1")
    await still.gate("closed")
    await still.link.call("CONFIG", "SET", "maxmemory", "1")
    reply = await still.work("block_codes", [key_names.gate(0)], "", 1, key_names.bucket("CODE-1"), "CODE-1")
    await still.link.call("CONFIG", "SET", "maxmemory", "0")
    await still.gate("open")
    assert "OOM" in str(reply)
    assert (await still.redeem("CODE-1", "ann"))[0] == 201
