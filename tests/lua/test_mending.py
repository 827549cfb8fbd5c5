"""Recorded events that a Redis has not seen are applied to it again, and it is as if it had decided them itself."""

from typing import Any

import hiredis
import pytest

from loadtests.harness.premises import EPOCH, NOW_MS
from loadtests.harness.shop import Shop
from service.formats import key_names
from tests.lua.outbox import made_id


async def redone(shop: Shop, *events: tuple[str, str, str]) -> list[str]:
    """Apply events while the gate is closed, and write them into the outbox as recovery leaves them there; why those
    that were left out were."""
    await shop.gate("closed")
    for event_id, decided, request in events:
        await shop.link.call("XADD", key_names.outbox(0), event_id, "d", decided, "r", request)
    words = [word for event_id, decided, _ in events for word in (decided, event_id, _more(decided))]
    reply = await redo(shop, "7-1", *words)
    left_out = [f"{events[position][0]}:{why}" for position, why in zip(reply[1::2], reply[2::2], strict=True)]
    assert await shop.link.call("GETDEL", key_names.mend(0)) == " ".join(["7-1", *left_out])
    await shop.gate("open")
    assert reply[0] == 0
    return reply[2::2]


async def redo(shop: Shop, mark: str, *words: str) -> Any:
    """The script's reply to a mark and three words for each event."""
    return await shop.work("redo", [key_names.gate(0), key_names.mend(0)], mark, *words)


def _more(decided: str) -> str:
    """What redo is told of a rollback besides: its redemption, which is the second event, with discount and bucket."""
    return f"{EPOCH}-2 0 {key_names.bucket('ann')}" if decided.startswith("B") else ""


def event(seq: int, decided: str) -> tuple[str, str, str]:
    """An event of this epoch on CODE-1 of book 1 and order A-1, without a request's part."""
    buckets = {"cb": key_names.bucket("CODE-1"), "ob": key_names.bucket("A-1"), "ub": key_names.bucket("ann")}
    return f"{EPOCH}-{seq}", decided.format(**buckets), "{}"


ASSIGNED = "A 1 1 CODE-1 ann 1800000000000 {cb}"
REDEEMED = "R 1 1 CODE-1 ann A-1 - - USD 2 0 1800000000000 1 {cb} {ob} %d {ub}"
UNASSIGNED = "U 1 1 CODE-1 {user} 180000000000%d {cb}"
ROLLED_BACK = f"B 1 1 CODE-1 ann A-1 {made_id('7-2', NOW_MS)} 1800000000001 %d {{cb}} {{ob}}"


async def test_a_redeem_ends_the_lock_that_it_was_under(still: Shop, uses: int | None) -> None:
    """A lock that outlived the loss of its own redeem ends with it: its use isn't held twice. Another's lock stays."""
    rules: dict[str, Any] = {"max_redemptions_per_code": uses, "max_redemptions": 2, "max_redemptions_per_user": 1}
    await still.book("CODE-1", "CODE-2", **rules)
    await still.lock("CODE-1", "ann", orderId="A-1")
    if uses != 1:
        await still.lock("CODE-1", "bob", orderId="A-1")
    await redone(still, event(1, REDEEMED % (uses or 0)))
    _, coupon = await still.coupon("CODE-1")
    assert coupon["redemptions"] == 1
    assert (coupon["lock"] or {"userId": None})["userId"] == (None if uses == 1 else "bob")
    if uses == 1:
        assert (await still.redeem("CODE-2", "bob"))[0] == 201


@pytest.mark.parametrize("restore", [1, 0])
async def test_all_kinds_of_events_are_applied(still: Shop, uses: int | None, restore: int) -> None:
    """Assigned, redeemed and rolled back: coupon, order and counts are as after the requests themselves."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    await redone(still, event(1, ASSIGNED), event(2, REDEEMED % (uses or 0)))
    stats = await still.stats(book)
    assert (stats["redemptions"], stats["touched"]) == (1, 1)
    status, again = await still.redeem("CODE-1", "ann", orderId="A-1")
    assert (status, again["redemptionId"]) == (200, made_id("7-2", NOW_MS))
    await redone(still, event(3, ROLLED_BACK % restore))
    await still.refuses("already_rolled_back", still.rollback(again["redemptionId"]))
    assert (await still.coupon("CODE-1"))[1]["userId"] == "ann"
    status, _ = await still.redeem("CODE-1", "ann", orderId="A-1")
    assert status == (201 if restore else 409)


async def test_an_assignment_taken_back_is_nobodys(still: Shop, uses: int | None) -> None:
    """Assigned, taken back, assigned to another and taken back again, in order: each time all is as if decided here."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    again = ASSIGNED.replace("ann 1800000000000", "bob 1800000000002")
    events = [ASSIGNED, UNASSIGNED.replace("{user}", "ann") % 1, again]
    await redone(still, *(event(seq, decided) for seq, decided in enumerate(events, 1)))
    _, coupon = await still.coupon("CODE-1")
    assert (coupon["userId"], await still.held("ann"), await still.held("bob")) == ("bob", 0, 1)
    await redone(still, event(4, UNASSIGNED.replace("{user}", "bob") % 3))
    assert (await still.stats(book))["assigned"] == 0
    await still.refuses("coupon_not_assigned", still.unassign("CODE-1"))
    assert (await still.assign_any(book, "cat"))[0] == 201


async def test_an_owner_given_at_upload_is_taken_again(still: Shop) -> None:
    """Configuration first brings the owner back, and the event then takes the coupon."""
    book = await still.book()
    await still.add(book, "CODE-1", owner_id="ann", expires_ms=NOW_MS + 9)
    await redone(still, event(1, UNASSIGNED.replace("{user}", "ann") % 1))
    assert (await still.coupon("CODE-1"))[1]["userId"] is None
    assert await still.held("ann") == 0


async def test_a_redeem_is_applied_under_the_limit_that_it_had(still: Shop) -> None:
    """The limit that the event names is the code's from then on, whatever the book says by now."""
    await still.book("CODE-1", max_redemptions_per_code=5)
    await redone(still, event(1, REDEEMED % 1))
    _, coupon = await still.coupon("CODE-1")
    assert (coupon["status"], coupon["maxRedemptions"]) == ("redeemed", 1)


async def test_a_code_with_a_limit_of_its_own_marks_its_book_too(still: Shop) -> None:
    """A redeem that is applied again says that a code of the book was touched, as the first time."""
    book = await still.book()
    await still.add(book, "CODE-1", max_redemptions=2)
    await redone(still, event(1, REDEEMED % 2))
    assert (await still.stats(book))["touched"] == 1


async def test_what_happened_to_a_code_that_isnt_there(still: Shop) -> None:
    """It is left out, and what comes after it is gone on with: a Postgres that lost its end lacks the newest codes."""
    await still.book("CODE-1")
    lost = [told.replace("CODE-1", "LOST-1") for told in (REDEEMED % 1, ROLLED_BACK % 1, ASSIGNED)]
    lost.append(UNASSIGNED.format(user="ann", cb="{cb}").replace("CODE-1", "LOST-1") % 2)
    await _changes_nothing(still, *(event(seq, told) for seq, told in enumerate(lost, 1)), why=["code_missing"] * 4)


@pytest.mark.parametrize(
    ("decided", "why"),
    [
        ("nonsense", "unreadable"),
        ("R 1 1 CODE-1 ann A-1 - - USD 2 None 1800000000000 1 {cb} {ob} 1 {ub}", "unreadable"),
        (ASSIGNED.replace("1800000000000", "None"), "unreadable"),
        (UNASSIGNED.replace("180000000000%d", "None").replace("{user}", "ann"), "not_assigned"),
        (REDEEMED.replace(" 1 CODE", " 2 CODE") % 1, "other_book"),
        (UNASSIGNED.replace("{user}", "ann") % 1, "not_assigned"),
        (ROLLED_BACK % 1, "not_standing"),
        (ROLLED_BACK % 0, "not_standing"),
    ],
)
async def test_what_cant_be_applied_changes_nothing(still: Shop, uses: int | None, decided: str, why: str) -> None:
    """An event that can't be read, of another book, or that takes back what isn't there is named, and all is as it
    was."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    await _changes_nothing(still, event(1, decided), why=[why])


async def test_what_is_somebodys_is_not_assigned_again(still: Shop, uses: int | None) -> None:
    """A second assignment, to whomever, is left out: the coupon and all counts stay the first user's."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    await redone(still, event(1, ASSIGNED))
    again = [event(2, ASSIGNED), event(3, ASSIGNED.replace("ann", "bob"))]
    await _changes_nothing(still, *again, why=["assigned"] * 2)


async def test_a_rollback_is_not_applied_below_zero(still: Shop, uses: int | None) -> None:
    """Where a user has used nothing of the book, nothing is given back."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    await redone(still, event(1, ASSIGNED), event(2, REDEEMED % (uses or 0)))
    bucket = f"{still.caller.prefix}o:{key_names.bucket('ann')}"
    await still.link.call("HDEL", bucket, "1/ann")
    await _changes_nothing(still, event(3, ROLLED_BACK % 1), why=["below_zero"])
    await still.link.call("HSET", bucket, "1/ann", "1")


async def test_a_rollback_without_its_redemption_is_left_out(still: Shop) -> None:
    """Where the redemption could not be recorded, the view has nothing for it: it is named, and the rest applied."""
    await still.book("CODE-1", "CODE-2")
    await still.gate("closed")
    lost = event(1, ROLLED_BACK % 1)[1]
    sold = event(2, REDEEMED.replace("CODE-1", "CODE-2").replace("{cb}", str(key_names.bucket("CODE-2"))) % 1)[1]
    words = [lost, "7-0", "None-None None 5", sold, "7-1", ""]
    await still.link.call("XADD", key_names.outbox(0), "7-1", "d", sold, "r", "{}")
    reply = await redo(still, "7-1", *words)
    assert reply == [0, 0, "redemption_missing"]
    assert await still.link.call("GETDEL", key_names.mend(0)) == "7-1 7-0:redemption_missing"
    await still.gate("open")
    assert (await still.coupon("CODE-2"))[1]["status"] == "redeemed"


async def test_an_error_of_redis_is_one_events(still: Shop, kind: str) -> None:
    """A key of another type fails the event that needs it, and no other, while everything is rebuilt: `failed` where it
    was begun. In a tail, in which no event is at fault for it, it ends the run, and the mark stays."""
    await still.book("CODE-1", "CODE-2")
    await still.link.call("SET", f"{still.caller.prefix}g:{key_names.bucket('A-1')}", "stray")
    of_two = {"CODE-1": "CODE-2", "{cb}": str(key_names.bucket("CODE-2"))}
    gift = f"{ASSIGNED} A-1 {{ob}}"
    other = ASSIGNED
    for old, new in of_two.items():
        other = other.replace(old, new)
    await still.gate("closed")
    words = [word for event_id, decided, _ in (event(1, gift), event(2, other)) for word in (decided, event_id, "")]
    await still.link.call("SET", key_names.mend(0), "7-0")
    reply = await redo(still, "7-2", *words)
    assert isinstance(reply, hiredis.ReplyError)
    assert kind == "fakeredis" or "WRONGTYPE" in str(reply)  # which says of no such error what it is
    assert await still.link.call("GET", key_names.mend(0)) == "7-0"
    assert await still.link.call("GET", f"{still.caller.prefix}c:CODE-2") is None
    assert await redo(still, "whole", *words) == [0, 0, "failed"]
    assert await still.link.call("GET", key_names.mend(0)) == "whole"
    await still.gate("open")
    assert (await still.coupon("CODE-2"))[1]["userId"] == "ann"
    await still.link.call("FLUSHALL")
    await still.open()


async def test_the_mark_keeps_what_was_left_out(still: Shop) -> None:
    """A worker that dies finds in the mark what the runs before left out; a mark that says `whole` stays."""
    await still.book("CODE-1")
    await still.gate("closed")

    async def run(mark: str, *decided: str) -> str:
        words = [word for place, text in enumerate(decided) for word in (text, f"7-{place}", "")]
        await redo(still, mark, *words)
        return await still.link.call("GET", key_names.mend(0))

    assert await run("7-1", "x") == "7-1 7-0:unreadable"
    assert await run("7-2") == "7-2 7-0:unreadable"
    assert await run("7-3", "x", "y") == "7-3 7-0:unreadable 7-0:unreadable 7-1:unreadable"
    assert await run("whole", "x") == "whole"
    assert await run("7-4", "x") == "whole"
    await still.link.call("DEL", key_names.mend(0))
    assert (await run("7-5", *["x"] * 2000)) == "whole"
    await still.link.call("DEL", key_names.mend(0))
    await still.gate("open")


async def _changes_nothing(shop: Shop, *events: tuple[str, str, str], why: list[str]) -> None:
    before = await shop.everything()
    assert await redone(shop, *events) == why
    await shop.link.call("XDEL", key_names.outbox(0), *(event_id for event_id, _, _ in events))
    assert await shop.everything() == before


async def test_an_error_of_the_server_ends_the_run(still: Shop, kind: str) -> None:
    """A full Redis fails the run, and no event is taken for the fault's."""
    if kind == "fakeredis":
        pytest.skip("it has no limit of memory")
    await still.book("CODE-1")
    await still.gate("closed")
    before = await still.everything()
    await still.link.call("CONFIG", "SET", "maxmemory", "1")
    words = (event(1, ASSIGNED)[1], "7-1", "")
    reply = await redo(still, "7-1", *words)
    await still.link.call("CONFIG", "SET", "maxmemory", "0")
    assert isinstance(reply, hiredis.ReplyError)
    assert "maxmemory" in str(reply)
    assert await still.everything() == before
    await still.gate("open")


@pytest.mark.parametrize(
    ("counted", "becomes"), [("1", str(1 + 20 * 999_999_999_999_999)), (str(2**63 - 1), str(2**63 - 1))]
)
async def test_the_largest_discounts_are_summed_to_the_digit(still: Shop, counted: str, becomes: str) -> None:
    """Sums beyond what Lua's numbers hold exactly are exact; one that no counter holds stays, and stops nothing."""
    await still.book("CODE-1", max_redemptions_per_code=None)
    counters = f"{still.caller.prefix}n:1"
    await still.link.call("HSET", counters, "discount", counted)
    largest = REDEEMED.replace(" 2 0 ", " 2 999999999999999 ") % 0
    assert await redone(still, *(event(seq, largest.replace(" A-1 ", f" A-{seq} ")) for seq in range(1, 21))) == []
    assert await still.link.call("HGET", counters, "discount") == becomes
    assert await still.link.call("HGET", counters, "redemptions") == "20"
    await still.link.call("FLUSHALL")
    await still.open()
