"""Recorded events that a Redis has not seen are applied to it again, and it is as if it had decided them itself."""

from typing import Any

import hiredis
import pytest

from service.engine.formats import discount_sum, key_names
from service.engine.formats.coupon_record import parse_coupon_record
from service.engine.formats.redemption_id import id_from_numbers
from tests.harness.redemptions import redeemed_text
from tests.harness.script_runner import EPOCH, NOW_MS
from tests.harness.shop import Shop


async def redone(shop: Shop, *events: tuple[str, str, str]) -> list[str]:
    """Apply events behind a closed gate, and write them into the outbox; why some were left out."""
    await shop.gate("closed")
    for event_id, decided, request in events:
        await shop.link.call("XADD", key_names.outbox(0), event_id, "e", f"{decided}\n{request}")
    args = [part for event_id, decided, _ in events for part in (decided, event_id, _more(decided))]
    reply = await redo(shop, "7-1", *args)
    left_out = [f"{events[position][0]}:{why}" for position, why in zip(reply[1::2], reply[2::2], strict=True)]
    assert await shop.link.call("GETDEL", key_names.mend(0)) == " ".join(["7-1", *left_out])
    await shop.gate("open")
    assert reply[0] == 0
    return reply[2::2]


async def redo(shop: Shop, mark: str, *args: str) -> Any:
    """The script's reply to a mark and three words for each event."""
    return await shop.work("apply_events", [key_names.gate(0), key_names.mend(0)], mark, *args)


def _more(decided: str) -> str:
    """The third word of a rollback for redo: its redemption, which is the second event, with discount and bucket."""
    return f"{EPOCH}-2 0 {key_names.bucket('ann')} {NOW_MS}" if decided.startswith("B") else ""


def event(seq: int, decided: str) -> tuple[str, str, str]:
    """An event of this epoch on CODE-1 of book 1 and order A-1, without a request's part."""
    buckets = {"cb": key_names.bucket("CODE-1"), "ob": key_names.bucket("A-1"), "ub": key_names.bucket("ann")}
    return f"{EPOCH}-{seq}", decided.format(**buckets), "{}"


ASSIGNED = "A 1 1 CODE-1 ann 1800000000000 {cb}"
UNASSIGNED = "U 1 1 CODE-1 {user} 180000000000%d {cb}"
ROLLED_BACK = f"B 1 1 CODE-1 ann A-1 {id_from_numbers(EPOCH, 2, NOW_MS)} 1800000000001 %d {{cb}} {{ob}} -"


async def test_a_redeem_ends_the_lock_that_it_was_under(still: Shop, uses: int | None) -> None:
    """A lock that outlived the loss of its own redeem ends with it: its use isn't held twice. Another's lock stays."""
    rules: dict[str, Any] = {"max_redemptions_per_code": uses, "max_redemptions": 2, "max_redemptions_per_user": 1}
    await still.book("CODE-1", "CODE-2", **rules)
    await still.lock("CODE-1", "ann", orderId="A-1")
    if uses != 1:
        await still.lock("CODE-1", "bob", orderId="A-1")
    await redone(still, event(1, redeemed_text(max_uses=uses or 0)))
    _, coupon = await still.coupon("CODE-1")
    assert coupon["redemptions"] == 1
    assert (coupon["lock"] or {"userId": None})["userId"] == (None if uses == 1 else "bob")
    if uses == 1:
        assert (await still.redeem("CODE-2", "bob"))[0] == 201


@pytest.mark.parametrize("restore", [1, 0])
async def test_all_kinds_of_events_are_applied(still: Shop, uses: int | None, restore: int) -> None:
    """Assigned, redeemed and rolled back: coupon, order and counts are as after the requests themselves."""
    book = await still.book("CODE-1", max_redemptions_per_code=uses)
    await redone(still, event(1, ASSIGNED), event(2, redeemed_text(max_uses=uses or 0)))
    stats = await still.stats(book)
    assert (stats["redemptions"], stats["touched"]) == (1, 1)
    status, again = await still.redeem("CODE-1", "ann", orderId="A-1")
    assert (status, again["redemptionId"]) == (200, id_from_numbers(EPOCH, 2, NOW_MS))
    await redone(still, event(3, ROLLED_BACK % restore))
    await still.refuses("already_rolled_back", still.rollback(again["redemptionId"]))
    assert (await still.coupon("CODE-1"))[1]["userId"] == "ann"
    status, _ = await still.redeem("CODE-1", "ann", orderId="A-1")
    assert status == (201 if restore else 409)


async def test_an_assignment_that_was_taken_back_is_applied(still: Shop, uses: int | None) -> None:
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
    """The limit that the event names is the code's from then on, whatever the book's limit is by now."""
    await still.book("CODE-1", max_redemptions_per_code=5)
    await redone(still, event(1, redeemed_text()))
    _, coupon = await still.coupon("CODE-1")
    assert (coupon["status"], coupon["maxRedemptions"]) == ("redeemed", 1)


async def test_what_happened_to_a_code_that_isnt_there(still: Shop) -> None:
    """Its events are skipped, and the next are applied: a Postgres that lost its end lacks the newest codes."""
    await still.book("CODE-1")
    lost = [decided.replace("CODE-1", "LOST-1") for decided in (redeemed_text(), ROLLED_BACK % 1, ASSIGNED)]
    lost.append(UNASSIGNED.format(user="ann", cb="{cb}").replace("CODE-1", "LOST-1") % 2)
    await assert_skipped(still, *(event(seq, decided) for seq, decided in enumerate(lost, 1)), why=["code_missing"] * 4)


@pytest.mark.parametrize(
    ("is_assigned", "decided", "why"),
    [
        (False, "nonsense", "unreadable"),
        (False, redeemed_text().replace(" 2 0 ", " 2 None "), "unreadable"),
        (False, ASSIGNED.replace("1800000000000", "None"), "unreadable"),
        (False, UNASSIGNED.replace("180000000000%d", "None").replace("{user}", "ann"), "not_assigned"),
        (False, redeemed_text(book=2), "other_book"),
        (False, UNASSIGNED.replace("{user}", "ann") % 1, "not_assigned"),
        (False, ROLLED_BACK % 1, "not_standing"),
        (False, ROLLED_BACK % 0, "not_standing"),
        (False, ROLLED_BACK % 2, "unreadable"),
        (True, ASSIGNED, "assigned"),
        (True, ASSIGNED.replace("ann", "bob"), "assigned"),
        (True, ASSIGNED.replace("1800000000000", "None"), "assigned"),
        (True, UNASSIGNED.replace("180000000000%d", "None").replace("{user}", "ann"), "unreadable"),
    ],
)
async def test_what_cant_be_applied_changes_nothing(
    still: Shop, uses: int | None, is_assigned: bool, decided: str, why: str
) -> None:
    """An event that can't be read, or doesn't fit the coupon's state or book, is skipped with its reason."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    if is_assigned:
        await redone(still, event(1, ASSIGNED))
    await assert_skipped(still, event(2, decided), why=[why])


@pytest.mark.parametrize(("counts", "restore"), [("", 1), ("", 0), ("0 1", 1), ("1 0", 0)])
async def test_a_rollback_is_not_applied_below_zero(still: Shop, uses: int | None, counts: str, restore: int) -> None:
    """Where a user has used nothing of the book, or nothing of it stands, nothing is given back."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    await redone(still, event(1, ASSIGNED), event(2, redeemed_text(max_uses=uses or 0)))
    bucket = f"{still.caller.prefix}o:{key_names.bucket('ann')}"
    await still.link.call("HDEL", bucket, "1/ann")
    if counts:
        await still.link.call("HSET", bucket, "1/ann", counts)
    await assert_skipped(still, event(3, ROLLED_BACK % restore), why=["below_zero"])
    await still.link.call("HSET", bucket, "1/ann", "1")


async def test_a_rollback_of_a_coupon_without_uses_is_not_applied(still: Shop, uses: int | None) -> None:
    """Where the coupon's record counts no use, it gets none back; one that can't be read is in its own event's way."""
    await still.book("CODE-1", max_redemptions_per_code=uses)
    await redone(still, event(1, ASSIGNED), event(2, redeemed_text(max_uses=uses or 0)))
    name = key_names.coupon(still.caller.prefix, "CODE-1")
    stored = await still.link.call("GET", name)
    record = parse_coupon_record(stored)
    assert record
    for text, why in ((str(record._replace(uses="0")), "below_zero"), ("0 -", "unreadable")):
        await still.link.call("SET", name, text)
        await assert_skipped(still, event(3, ROLLED_BACK % 1), why=[why])
    await still.link.call("SET", name, stored)


@pytest.mark.parametrize("settings", [None, "1 -"])
async def test_an_event_of_a_book_that_isnt_there_is_left_out(still: Shop, settings: str | None) -> None:
    """Without settings of its book that can be read an event is skipped."""
    book = await still.book("CODE-1")
    name = key_names.book(still.caller.prefix, book.book)
    stored = await still.link.call("GETDEL", name)
    if settings:
        await still.link.call("SET", name, settings)
    await assert_skipped(still, event(1, ASSIGNED), event(2, redeemed_text()), why=["book_missing"] * 2)
    await still.link.call("SET", name, stored)


async def test_an_assignment_of_a_coupon_that_is_used_up_holds_nothing(still: Shop) -> None:
    """As where the rollback between them could not be applied."""
    await still.book("CODE-1")
    await redone(still, event(1, redeemed_text()), event(2, ASSIGNED))
    assert (await still.coupon("CODE-1"))[1]["userId"] == "ann"
    assert await still.held("ann") == 0


async def test_a_rollback_without_its_redemption_is_left_out(still: Shop) -> None:
    """Where the redemption could not be recorded, the view has nothing for it: it is named, and the rest applied."""
    await still.book("CODE-1", "CODE-2")
    await still.gate("closed")
    lost = event(1, ROLLED_BACK % 1)[1]
    sold = event(2, redeemed_text(code="CODE-2"))[1]
    args = [lost, "7-0", "None-None None 5", sold, "7-1", "", lost.replace("CODE-1", "CODE-2"), "7-2", ""]
    args[6] = args[6].replace(f" {key_names.bucket('CODE-1')} ", f" {key_names.bucket('CODE-2')} ")
    await still.link.call("XADD", key_names.outbox(0), "7-1", "e", f"{sold}\n{{}}")
    reply = await redo(still, "7-1", *args)
    assert reply == [0, 0, "redemption_missing", 2, "redemption_missing"]
    skipped = "7-0:redemption_missing 7-2:redemption_missing"
    assert await still.link.call("GETDEL", key_names.mend(0)) == f"7-1 {skipped}"
    await still.gate("open")
    assert (await still.coupon("CODE-2"))[1]["status"] == "redeemed"


@pytest.mark.parametrize(
    ("before", "decided", "stray"),
    [
        ([], f"{ASSIGNED} A-1 {{ob}}", f"g:{key_names.bucket('A-1')}"),
        ([ASSIGNED], UNASSIGNED.replace("{user}", "ann") % 1, "u:ann"),
        ([], redeemed_text(), f"o:{key_names.bucket('A-1')}"),
        ([ASSIGNED, redeemed_text()], ROLLED_BACK % 1, f"o:{key_names.bucket('A-1')}"),
    ],
)
async def test_an_error_of_redis_is_one_events(
    still: Shop, kind: str, before: list[str], decided: str, stray: str
) -> None:
    """A key of another type fails the event that needs it, and no other, while everything is rebuilt: `failed` where it
    was begun. In a tail, in which no event is at fault for it, it ends the run, and the mark stays."""
    await still.add(await still.book("CODE-1", "CODE-2"), "CODE-3", max_redemptions=1)
    await redone(still, *(event(seq, text) for seq, text in enumerate(before, 1)))
    await still.link.call("DEL", f"{still.caller.prefix}{stray}")
    await still.link.call("SET", f"{still.caller.prefix}{stray}", "stray")
    await still.link.call("DEL", key_names.coupon(still.caller.prefix, "CODE-3"))
    await still.link.call("LPUSH", key_names.coupon(still.caller.prefix, "CODE-3"), "x")

    def other(code: str) -> str:
        text = ASSIGNED.replace("CODE-1", code).replace(" ann ", " bob ")
        return text.replace("{cb}", str(key_names.bucket(code)))

    await still.gate("closed")
    events = (event(3, decided), event(4, other("CODE-3")), event(5, other("CODE-2")))
    args = [part for event_id, text, _ in events for part in (text, event_id, _more(text))]
    await still.link.call("SET", key_names.mend(0), "7-0")
    reply = await redo(still, "7-2", *args)
    assert isinstance(reply, hiredis.ReplyError)
    assert kind == "fakeredis" or "WRONGTYPE" in str(reply)  # which says of no such error what it is
    assert await still.link.call("GET", key_names.mend(0)) == "7-0"
    assert await still.link.call("GET", f"{still.caller.prefix}c:CODE-2") is None
    assert await redo(still, "whole", *args) == [0, 0, "failed", 1, "unreadable"]
    assert await still.link.call("GET", key_names.mend(0)) == "whole"
    await still.gate("open")
    assert (await still.coupon("CODE-2"))[1]["userId"] == "bob"
    await still.link.call("FLUSHALL")
    await still.open()


async def test_the_mark_keeps_what_was_left_out(still: Shop) -> None:
    """A worker that dies reads in the mark what the runs before skipped; a mark `whole` stays."""
    await still.book("CODE-1")
    await still.gate("closed")

    async def run(mark: str, *decided: str) -> str:
        args = [part for place, text in enumerate(decided) for part in (text, f"7-{place}", "")]
        await redo(still, mark, *args)
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


async def assert_skipped(shop: Shop, *events: tuple[str, str, str], why: list[str]) -> None:
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
    reply = await redo(still, "7-1", event(1, ASSIGNED)[1], "7-1", "")
    await still.link.call("CONFIG", "SET", "maxmemory", "0")
    assert isinstance(reply, hiredis.ReplyError)
    assert "maxmemory" in str(reply)
    assert await still.everything() == before
    await still.gate("open")


async def test_a_rebuild_counts_free_codes_at_its_end(still: Shop) -> None:
    """While everything is rebuilt neither codes nor events count free codes; then fill_pool does, each once."""
    book, codes = await still.book(), [f"CODE-{n}" for n in range(1, 5)]
    names = (still.caller.gate, key_names.settings(still.caller.prefix), key_names.newest(0))
    pool, version = key_names.pool(still.caller.prefix, book.book), still.next_version()
    await still.gate("closed")
    plain = [part for code in codes for part in (key_names.bucket(code), code, "")]
    dated = (key_names.bucket("CODE-5"), "CODE-5", f"- 0 - {NOW_MS} 1 -")
    assert await still.work("put_codes", names, book.book, version, "1", *plain, *dated) == [0, 5]
    events = [event(1, ASSIGNED), event(2, UNASSIGNED.replace("{user}", "ann") % 1)]
    for event_id, decided, request in events:
        await still.link.call("XADD", key_names.outbox(0), event_id, "e", f"{decided}\n{request}")
    assert await redo(still, "whole", *(part for seq, text, _ in events for part in (text, seq, ""))) == [0]
    assert await still.link.call("EXISTS", pool) == 0
    assert await still.work("fill_pool", names[:2], *map(key_names.bucket, codes)) == [0]
    assert await still.link.call("HLEN", pool) == 4
    await still.link.call("DEL", key_names.mend(0))
    await still.gate("open")


@pytest.mark.parametrize("counted", [1, 2**63 - 10**15, 2**63, 10**6 * 2**63])
async def test_the_largest_discounts_are_summed_to_the_digit(still: Shop, counted: int) -> None:
    """Sums beyond what Lua's numbers, or one counter, hold exactly are exact, and what rollbacks leave, too."""

    async def read_sum() -> int:
        low, high = await still.link.call("HMGET", counters, discount_sum.LOW, discount_sum.HIGH)
        return discount_sum.join_sum(int(low), int(high))

    await still.book("CODE-1", max_redemptions_per_code=None)
    counters = f"{still.caller.prefix}n:1"
    for name, by in discount_sum.split_into(discount_sum.LOW, counted).items():
        await still.link.call("HSET", counters, name, by)
    largest = redeemed_text(discount_e4=999_999_999_999_999, max_uses=0)
    assert await redone(still, *(event(seq, largest.replace(" A-1 ", f" A-{seq} ")) for seq in range(1, 21))) == []
    assert await read_sum() == counted + 20 * 999_999_999_999_999
    assert await still.link.call("HGET", counters, "redemptions") == "20"
    await still.gate("closed")
    args: list[str] = []
    for seq in range(1, 21):
        event_id, text, _ = event(20 + seq, (ROLLED_BACK % 1).replace(" A-1 ", f" A-{seq} "))
        args += (text, event_id, f"7-{seq} 999999999999999 {key_names.bucket('ann')} {NOW_MS}")
    assert await redo(still, "7-40", *args) == [0]
    assert await read_sum() == counted
    await still.link.call("FLUSHALL")
    await still.open()
