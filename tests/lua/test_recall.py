"""A redemption that the outbox no longer has is answered from Postgres's facts, as it was before."""

from functools import partial

import pytest

from service.engine.formats import key_names
from service.engine.formats.events import Redeemed, record_text
from service.server.in_redis.pseudonyms import UserEraser
from tests.harness.shop import Shop
from tests.lua.outbox import parse_entry
from tests.lua.test_erase_user import GONE, Eraser


async def test_a_recorded_redemption_is_answered_as_before(still: Shop) -> None:
    """Reads and repeats that name a redemption answer the same once it is recorded and trimmed, and write nothing."""
    await still.book("MANY-1", max_redemptions_per_code=3)
    gifts = await still.book("GIFT-1", max_redemptions_per_code=3)
    bought = {"code": "MANY-1", "giftBookId": str(gifts.book_id), "key": "bought"}
    await still.assign("MANY-1", "ann")
    redemption = (await still.checkout("ann", "A-1", **bought))[1]["redemption"]
    assert (await still.redeem("GIFT-1", "ann", orderId="A-2", key="redeemed"))[0] == 201
    asks = {
        "coupon": lambda: still.coupon("MANY-1"),
        "validate": lambda: still.validate("MANY-1", userId="ann"),
        "redeem again": lambda: still.redeem("GIFT-1", "ann", orderId="A-2", key="redeemed"),
        "checkout again": lambda: still.checkout("ann", "A-1", **bought),
    }
    keyed = {
        "assign": lambda **key: still.assign("MANY-1", "ann", **key),
        "redeem": lambda **key: still.redeem("MANY-1", "ann", orderId="A-1", **key),
        "gift": lambda **key: still.gift(gifts, "ann", "A-1", **key),
        "checkout": lambda **key: still.checkout("ann", "A-1", code="MANY-1", **key),
        "checkout of a gift alone": lambda **key: still.checkout("ann", "A-1", **key),
    }
    asks |= keyed
    before = {name: await ask() for name, ask in asks.items()}
    coupon = before["coupon"][1]
    assert coupon == before["validate"][1]["coupon"]
    assert coupon["lastRedemption"]["redemptionId"] == redemption["redemptionId"]
    await still.record()
    stored = await still.everything()
    for name, ask in asks.items():
        recalled = still.recalled
        assert await ask() == before[name], name
        assert still.recalled > recalled, name
    assert await still.everything() == stored
    for name, ask in keyed.items():
        status, body = before[name]
        assert await ask(key=name) == (status, body), name
        assert await ask(key=name) == (status, body | {"replayed": True}), name


@pytest.mark.parametrize("how", ["assign", "assign_any", "gift", "checkout", "checkout of a gift alone"])
async def test_a_coupon_with_a_recorded_redemption_is_given(still: Shop, how: str) -> None:
    """A coupon whose last redemption is recorded is given as one change, and the answer names that redemption."""
    book = await still.book("MANY-1", max_redemptions_per_code=3)
    await still.book("CODE-1")
    _, redeemed = await still.redeem("MANY-1", "bob")
    await still.record()
    gift = {"giftBookId": str(book.book_id)}
    asks = {
        "assign": lambda: still.assign("MANY-1", "ann"),
        "assign_any": lambda: still.assign_any(book, "ann"),
        "gift": lambda: still.gift(book, "ann", "A-1"),
        "checkout": lambda: still.checkout("ann", "A-1", code="CODE-1", **gift),
        "checkout of a gift alone": lambda: still.checkout("ann", "A-1", **gift),
    }
    before = len(await still.events())
    status, body = await asks[how]()
    coupon = body.get("gift", body)
    assert (status, coupon["userId"], still.recalled) == (201, "ann", 1)
    assert coupon["lastRedemption"]["redemptionId"] == redeemed["redemptionId"]
    assert len(await still.events()) == before + 1


async def test_what_the_outbox_still_has_of_a_deleted_user(still: Shop) -> None:
    """Where the outbox still names the user, answers have the pseudonym: before Postgres has it and after."""
    eraser = Eraser(still)
    await still.book("CODE-1", "CODE-2", "CODE-3")
    await still.redeem("CODE-1", "ann")
    _, other = await still.redeem("CODE-2", "ann")
    event = parse_entry(*(await still.read_outbox_entries())[1])
    assert isinstance(event, Redeemed)
    await eraser.count(await eraser.spent())
    assert (await still.coupon("CODE-1"))[1]["lastRedemption"]["userId"] == GONE
    assert (await still.rollback(other["redemptionId"]))[1]["userId"] == GONE
    assert still.recalled == 0
    still.recorded[str(event.id)] = record_text(event).replace(" ann ", f" {GONE} ")
    await eraser.of().recall_redemptions(event.id, [event.id])
    assert (await still.coupon("CODE-1"))[1]["lastRedemption"]["userId"] == GONE
    assert still.recalled == 1


async def test_facts_from_before_a_deletion_are_ignored(still: Shop) -> None:
    """Facts that Postgres returned just before a user was deleted are read again, also if the last deletion was of the
    user of a later redemption."""
    eraser = Eraser(still)
    await still.book("CODE-1", "CODE-2")
    await still.redeem("CODE-1", "ann")
    await still.redeem("CODE-2", "bob")
    for user in ("bob", "ann"):
        spent = await eraser.spent(user)
        await eraser.count(spent, user)
        if user == "ann":
            still.meanwhile = partial(eraser.finish, spent, user)
            assert (await still.coupon("CODE-1"))[1]["lastRedemption"]["userId"] == GONE
        else:
            await eraser.finish(spent, user)
    assert still.recalled == 2


async def test_a_deletion_leaves_facts_of_other_workspaces(still: Shop) -> None:
    """After a user of another workspace was deleted, scripts still read facts in the outbox."""
    await still.book("CODE-1")
    await still.redeem("CODE-1", "ann")
    event = parse_entry(*(await still.read_outbox_entries())[1])
    assert event
    w = key_names.prefix(0, 2)
    await still.link.call("COPY", key_names.settings(still.caller.prefix), key_names.settings(w))
    await UserEraser(Eraser(still).run, 0, 2, "ann", GONE).recall_redemptions(event.id, [])
    assert (await still.coupon("CODE-1"))[1]["lastRedemption"]["userId"] == "ann"
    assert still.recalled == 0
    assert await still.link.call("DEL", key_names.settings(w), key_names.moved(w)) == 2


async def test_a_redemption_that_postgres_does_not_have(still: Shop) -> None:
    """Its repeat is judged as a redeem, since nothing shows whose it was."""
    await still.book("CODE-1")
    await still.redeem("CODE-1", "ann", orderId="A-1")
    await still.record()
    still.recorded = {}
    await still.refuses("coupon_redeemed", still.redeem("CODE-1", "ann", orderId="A-1"))
