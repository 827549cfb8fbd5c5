"""Recorded events that a Redis has not seen are applied to it again, and it is as if it had decided them itself."""

from typing import Any

import pytest

from service.domain import keys
from service.hot.scripts import MENDING, Scripts
from tests.lua.outbox import made_id
from tests.premises import EPOCH, NOW_MS
from tests.shop import Shop


async def redone(shop: Shop, *events: tuple[str, str, str]) -> int:
    """Apply events while the gate is closed, and write them into the outbox as recovery leaves them there; how many
    were of codes that aren't there."""
    scripts = Scripts(0, EPOCH, "nonce", MENDING, "closed")
    for text in scripts.texts.values():
        await shop.link.call("SCRIPT", "LOAD", text)
    await shop.gate("closed")
    for event_id, decided, request in events:
        await shop.link.call("XADD", keys.outbox(0), event_id, "d", decided, "r", request)
    words = [word for event_id, decided, _ in events for word in (decided, *_of(event_id, decided))]
    reply = await shop.link.call("EVALSHA", scripts.digests["redo"], 2, keys.gate(0), keys.mend(0), "7-1", *words)
    assert await shop.link.call("GETDEL", keys.mend(0)) == "7-1"
    await shop.gate("open")
    assert reply[0] == 0
    return reply[1]


def _of(event_id: str, decided: str) -> tuple[str, str]:
    """What redo is told of an event besides: of a rollback its redemption, the one before, with discount and bucket."""
    if decided.startswith("B"):
        return f"{EPOCH}-2", f"0 {keys.bucket('ann')}"
    return (event_id, "") if decided.startswith("R") else ("", "")


def event(seq: int, decided: str) -> tuple[str, str, str]:
    """An event of this epoch on CODE-1 of book 1 and order A-1, without a request's part."""
    buckets = {"cb": keys.bucket("CODE-1"), "ob": keys.bucket("A-1"), "ub": keys.bucket("ann")}
    return f"{EPOCH}-{seq}", decided.format(**buckets), "{}"


ASSIGNED = "A 1 1 CODE-1 ann 1800000000000 {cb}"
REDEEMED = "R 1 1 CODE-1 ann A-1 - - USD 2 0 1800000000000 1 {cb} {ob} %d {ub}"
UNASSIGNED = "U 1 1 CODE-1 {user} 180000000000%d {cb}"
ROLLED_BACK = f"B 1 1 CODE-1 ann A-1 {made_id('7-2', NOW_MS)} 1800000000001 %d {{cb}} {{ob}}"
USES = pytest.mark.parametrize("uses", [1, 3, None], ids=["single", "several", "unlimited"])


@USES
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


@USES
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


@USES
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
    before = await still.everything()
    lost = [told.replace("CODE-1", "LOST-1") for told in (REDEEMED % 1, ROLLED_BACK % 1, ASSIGNED)]
    lost.append(UNASSIGNED.format(user="ann", cb="{cb}").replace("CODE-1", "LOST-1") % 2)
    assert await redone(still, *(event(seq, told) for seq, told in enumerate(lost, 1))) == 4
    await still.link.call("XDEL", keys.outbox(0), *(f"{EPOCH}-{seq}" for seq in range(1, 5)))
    assert await still.everything() == before
