"""Cards: coupons with a balance, of which a redemption takes a part and a lock holds one."""

import os
import random
from decimal import Decimal
from typing import Any

import pytest

from service.engine.domain.configuration import BookRow
from service.engine.formats import key_names
from service.engine.operations import table
from tests.harness import kinds
from tests.harness.cases import MISSING, posts
from tests.harness.described import Description, Good
from tests.harness.shop import Shop, tally, together
from tests.lua.consistency import assert_consistent

BALANCE = {"type": "balance", "value_e4": 500_000}
AT_RANDOM = int(os.environ.get("SCRIP_CARDS", "1"))
"""Sales of a card to many buyers; SCRIP_CARDS=20 tries more."""
CARDS: dict[str, Any] = {"discount": BALANCE, "max_redemptions_per_code": None}


async def cards(shop: Shop, *codes: str, **rules: Any) -> BookRow:
    """A book of cards of 50.00."""
    discount = BALANCE | rules.pop("discount", {})
    return await shop.book(*codes or ("CARD-1",), **CARDS | {"discount": discount} | rules)


async def balance(shop: Shop, code: str = "CARD-1") -> tuple[str, ...]:
    """Of the card: spent, held, closed, available."""
    _, coupon = await shop.coupon(code)
    sums = coupon["balance"]
    assert set(sums) == {"issued", "credited", "spent", "held", "closed", "available"}
    return tuple(sums[name] for name in ("spent", "held", "closed", "available"))


async def test_a_redemption_takes_what_the_order_needs(shop: Shop) -> None:
    """The smallest of what is available, the order's value and `amount`; `balanceAfter` is what is left."""
    await cards(shop)
    status, redemption = await shop.redeem("CARD-1", "ann", orderId="A-1", orderValue="20")
    assert status == 201
    taken = [redemption[name] for name in ("discountAmount", "finalAmount", "balanceAfter")]
    assert taken == ["20.00", "0.00", "30.00"]
    assert await balance(shop) == ("20.00", "0.00", "0.00", "30.00")
    _, redemption = await shop.redeem("CARD-1", "bob", orderId="A-2", orderValue="20", amount="5.5")
    assert [redemption["discountAmount"], redemption["balanceAfter"]] == ["5.50", "24.50"]
    _, redemption = await shop.redeem("CARD-1", "ann", orderId="A-3", orderValue="100")
    assert [redemption["discountAmount"], redemption["balanceAfter"]] == ["24.50", "0.00"]
    _, coupon = await shop.coupon("CARD-1")
    assert (coupon["status"], coupon["redemptions"], coupon["maxRedemptions"]) == ("exhausted", 3, None)
    await shop.refuses("coupon_exhausted", shop.redeem("CARD-1", "ann", orderId="A-4", orderValue="1"))


async def test_a_lock_holds_its_part(still: Shop) -> None:
    """Several locks hold parts of one card; only a lock's holder can spend what it holds."""
    await cards(still)
    status, lock = await still.lock("CARD-1", "ann", orderId="A-1", orderValue="30", lockSeconds=60)
    assert (status, lock["amount"], lock["discountAmount"], lock["finalAmount"]) == (201, "30.00", "30.00", "0.00")
    _, second = await still.lock("CARD-1", "bob", orderId="B-1", orderValue="30", lockSeconds=90)
    assert (second["amount"], second["finalAmount"]) == ("20.00", "10.00")
    assert await balance(still) == ("0.00", "50.00", "0.00", "0.00")
    assert (await still.coupon("CARD-1"))[1]["status"] == "locked"
    assert await still.retry_after_ms(still.lock, "CARD-1", "eve", orderValue="1") == ("coupon_locked", 60_000)
    await still.refuses("coupon_locked", still.redeem("CARD-1", "eve", orderValue="1"))
    _, redemption = await still.redeem("CARD-1", "bob", orderId="B-1")
    assert (redemption["discountAmount"], redemption["balanceAfter"]) == ("20.00", "0.00")
    assert await balance(still) == ("20.00", "30.00", "0.00", "0.00")
    await still.wait(60_000)
    assert await balance(still) == ("20.00", "0.00", "0.00", "30.00")
    _, redemption = await still.redeem("CARD-1", "eve", orderId="E-1", orderValue="100")
    assert (redemption["discountAmount"], redemption["balanceAfter"]) == ("30.00", "0.00")


async def test_a_lock_of_a_card_needs_the_orders_value(shop: Shop) -> None:
    """Nothing else says how much it holds; a repeat may leave it out."""
    await cards(shop)
    await shop.refuses("order_value_required", shop.lock("CARD-1", "ann", orderId="A-1"))
    await shop.refuses("order_value_required", shop.lock("CARD-1", "ann", orderId="A-1", currency="USD"))
    await shop.refuses("order_value_required", shop.lock("CARD-1", "ann", orderId="A-1", amount="5"))
    await shop.refuses("currency_mismatch", shop.lock("CARD-1", "ann", orderValue="1", currency="EUR"))
    await shop.refuses("no_discount", shop.lock("CARD-1", "ann", orderValue="0"))
    assert (await shop.lock("CARD-1", "ann", orderId="A-1", orderValue="20"))[0] == 201
    status, lock = await shop.lock("CARD-1", "ann", orderId="A-1")
    assert (status, lock["amount"]) == (200, "20.00")


async def test_a_repeated_lock_holds_anew(shop: Shop) -> None:
    """Under the same token, up to what it held and what is available; the same value keeps what is held."""
    await cards(shop)
    _, first = await shop.lock("CARD-1", "ann", orderId="A-1", orderValue="30")
    for body, held in (
        ({"orderValue": "45"}, "45.00"),
        ({"orderValue": "45", "amount": "10"}, "10.00"),
        ({"orderValue": "45"}, "10.00"),
        ({"amount": "12"}, "12.00"),
        ({"orderValue": "60"}, "50.00"),
        ({}, "50.00"),
    ):
        _, lock = await shop.lock("CARD-1", "ann", orderId="A-1", **body)
        assert (lock["lockToken"], lock["amount"]) == (first["lockToken"], held), body
        assert (await balance(shop))[1] == held
        await assert_consistent(shop)
    _, extended = await shop.extend("CARD-1", first["lockToken"], lockSeconds=900)
    assert extended["amount"] == "50.00"
    await shop.unlock("CARD-1", first["lockToken"])
    assert await balance(shop) == ("0.00", "0.00", "0.00", "50.00")


async def test_a_holder_takes_what_it_holds_or_decides_anew(shop: Shop) -> None:
    """The same value, or none, takes what is held; another, or another `amount`, up to that and what is available."""
    await cards(shop)
    for n, (body, taken) in enumerate(
        [
            ({}, "5.00"),
            ({"orderValue": "20"}, "5.00"),
            ({"amount": "5"}, "5.00"),
            ({"amount": "4"}, "4.00"),
            ({"orderValue": "8"}, "8.00"),
            ({"orderValue": "100", "amount": "6"}, "6.00"),
            ({"orderValue": "100"}, "12.00"),
        ]
    ):
        await shop.lock("CARD-1", "ann", orderId=f"A-{n}", orderValue="20", amount="5")
        await shop.lock("CARD-1", "bob", orderId="B-1", orderValue="5")
        _, redemption = await shop.redeem("CARD-1", "ann", orderId=f"A-{n}", **body)
        assert redemption["discountAmount"] == taken, body
    assert await balance(shop) == ("45.00", "5.00", "0.00", "0.00")


async def test_an_amount_is_of_a_card(still: Shop) -> None:
    """It is `invalid` of other coupons, also usual ones, with too many digits, and 0."""
    await cards(still)
    await still.book("CODE-1", "CODE-2")
    fixed = {"type": "fixed", "value_e4": 10_000}
    await still.book("CODE-3", discount=fixed)
    for code in ("CODE-1", "CODE-3"):
        for ask in (still.lock, still.redeem):
            await still.refuses("invalid", ask(code, "ann", orderValue="20", amount="5"))
            assert still.refusal
            assert [error.field for error in still.refusal.errors] == ["amount"]
        await still.refuses("invalid", still.validate(code, userId="ann", orderValue="20", amount="5"))
        await still.refuses("invalid", still.checkout("ann", "A-1", code=code, amount=5))
    await still.refuses("invalid", still.checkout("ann", "A-1", amount=5))
    for amount in ("0", "5.001"):
        for body in ({}, {"currency": "USD"}):
            await still.refuses("invalid", still.lock("CARD-1", "ann", orderValue="20", amount=amount, **body))
            await still.refuses("invalid", still.redeem("CARD-1", "ann", orderValue="20", amount=amount, **body))


async def test_a_rollback_gives_back_to_what_is_available(shop: Shop) -> None:
    """With restore; without, it stays spent. A whole order's too."""
    await cards(shop)
    _, kept = await shop.redeem("CARD-1", "ann", orderId="A-1", orderValue="20")
    _, back = await shop.redeem("CARD-1", "ann", orderId="A-2", orderValue="30")
    assert await balance(shop) == ("50.00", "0.00", "0.00", "0.00")
    assert (await shop.rollback(kept["redemptionId"], restore=False))[0] == 200
    assert await balance(shop) == ("50.00", "0.00", "0.00", "0.00")
    status, answer = await shop.rollback(back["redemptionId"])
    assert (status, answer["balanceAfter"]) == (200, "0.00")
    assert await balance(shop) == ("20.00", "0.00", "0.00", "30.00")
    await shop.redeem("CARD-1", "ann", orderId="A-3", orderValue="30")
    assert (await shop.rollback_order("A-3"))[0] == 200
    assert await balance(shop) == ("20.00", "0.00", "0.00", "30.00")


async def test_a_credit_adds_and_a_close_takes_the_rest(still: Shop) -> None:
    """A close is refused while a part is held, and done twice changes nothing; a credit opens the card again."""
    await cards(still)
    await still.lock("CARD-1", "ann", orderId="A-1", orderValue="20", lockSeconds=10)
    await still.refuses("coupon_locked", still.close("CARD-1"))
    assert await still.retry_after_ms(still.close, "CARD-1") == ("coupon_locked", 10_000)
    await still.redeem("CARD-1", "ann", orderId="A-1")
    status, card = await still.close("CARD-1", reason="lost")
    assert (status, card["status"], card["balance"]["closed"], card["durability"]) == (
        200, "exhausted", "30.00", "accepted",
    )  # fmt: skip
    entries = len(await still.read_outbox_entries())
    assert (await still.close("CARD-1"))[1]["balance"] == card["balance"]
    assert len(await still.read_outbox_entries()) == entries
    await still.refuses("coupon_exhausted", still.lock("CARD-1", "ann", orderId="A-2", orderValue="1"))
    status, card = await still.credit("CARD-1", "12.5", reason="goodwill")
    assert (status, card["status"], card["balance"]["available"], card["balance"]["credited"]) == (
        200, "available", "12.50", "12.50",
    )  # fmt: skip
    assert (await still.redeem("CARD-1", "ann", orderId="A-3", orderValue="20"))[1]["discountAmount"] == "12.50"


async def test_what_comes_back_after_a_close_is_available(shop: Shop) -> None:
    await cards(shop)
    _, redemption = await shop.redeem("CARD-1", "ann", orderId="A-1", orderValue="20")
    await shop.close("CARD-1")
    await shop.rollback(redemption["redemptionId"])
    assert await balance(shop) == ("0.00", "0.00", "30.00", "20.00")


async def test_credits_and_closes_of_what_is_no_card(shop: Shop) -> None:
    """They are invalid, as is an amount of too many digits, and one with which a card would have had too much."""
    await cards(shop)
    await shop.book("CODE-1")
    await shop.refuses("coupon_not_found", shop.credit("NO-SUCH", "1"))
    await shop.refuses("coupon_not_found", shop.close("NO-SUCH"))
    await shop.refuses("invalid", shop.credit("CODE-1", "1"))
    await shop.refuses("invalid", shop.close("CODE-1"))
    await shop.refuses("invalid", shop.credit("CARD-1", "1.001"))
    await shop.refuses("invalid", shop.credit("CARD-1", "0"))
    assert (await shop.credit("CARD-1", "99999999949.99"))[0] == 200
    await shop.refuses("invalid", shop.credit("CARD-1", "0.01"))
    assert (await balance(shop))[3] == "99999999999.99"
    _, redemption = await shop.redeem("CARD-1", "ann", orderId="A-1", orderValue="99999999999")
    assert redemption["balanceAfter"] == "0.99"


async def test_a_repeat_under_a_key_credits_once(shop: Shop) -> None:
    await cards(shop)
    status, first = await shop.credit("CARD-1", "10", key="k")
    assert await shop.credit("CARD-1", "10", key="k") == (status, first | {"replayed": True})
    await shop.refuses("idempotency_key_reused", shop.credit("CARD-1", "10", key="k", fingerprint="other"))
    assert (await balance(shop))[3] == "60.00"
    status, first = await shop.close("CARD-1", key="c")
    assert await shop.close("CARD-1", key="c") == (status, first | {"replayed": True})


async def test_the_stats_count_used_up_and_held_cards(still: Shop) -> None:
    """Exhausted where nothing is left or held, locked where live locks hold all; the locks of others don't count."""
    book = await cards(still, "CARD-1", "CARD-2", "CARD-3", "CARD-4")
    await still.redeem("CARD-1", "ann", orderId="A-1", orderValue="50")
    await still.lock("CARD-2", "ann", orderId="A-2", orderValue="50", lockSeconds=10)
    await still.lock("CARD-3", "ann", orderId="A-3", orderValue="49.99", lockSeconds=10)
    counts = await still.stats(book)
    assert (counts["exhausted"], counts["locked_unassigned"], counts["redeemed"]) == (1, 1, 0)
    await still.wait(10_000)
    assert (await still.stats(book))["locked_unassigned"] == 0
    assert (await still.assign_any(book, "bob"))[0] == 201


async def test_a_used_up_card_is_not_held_by_its_user(shop: Shop) -> None:
    """It doesn't count towards maxCoupons; a rollback, or a credit, makes it count again."""
    await cards(shop)
    await shop.assign("CARD-1", "ann")
    assert await shop.held("ann") == 1
    _, redemption = await shop.redeem("CARD-1", "ann", orderId="A-1", orderValue="50")
    assert await shop.held("ann") == 0
    await shop.rollback(redemption["redemptionId"])
    assert await shop.held("ann") == 1
    await shop.close("CARD-1")
    assert await shop.held("ann") == 0
    await shop.credit("CARD-1", "1")
    assert await shop.held("ann") == 1
    await shop.close("CARD-1")
    assert (await shop.unassign("CARD-1"))[0] == 200
    await assert_consistent(shop)
    await shop.refuses("coupon_exhausted", shop.assign("CARD-1", "bob"))


async def test_a_card_that_is_put_again_keeps_its_account(shop: Shop) -> None:
    """A newer version, an expiry or a switch changes no amount; switched off, its locks end."""
    book = await cards(shop)
    await shop.redeem("CARD-1", "ann", orderId="A-1", orderValue="20")
    await shop.lock("CARD-1", "ann", orderId="A-2", orderValue="20")
    await shop.add(book, "CARD-1", amount_e4=900_000, expires_ms=(await shop.now()) + 900_000)
    assert await balance(shop) == ("20.00", "20.00", "0.00", "10.00")
    await shop.add(book, "CARD-1", active=False)
    assert await balance(shop) == ("20.00", "0.00", "0.00", "30.00")
    await shop.refuses("coupon_inactive", shop.redeem("CARD-1", "ann", orderId="A-2"))


async def test_ended_locks_give_their_parts_back(shop: Shop) -> None:
    book = await cards(shop)
    _, lock = await shop.lock("CARD-1", "ann", orderId="A-1", orderValue="20")
    await shop.change(book, end_locks=True)
    assert await balance(shop) == ("0.00", "0.00", "0.00", "50.00")
    await shop.refuses("lock_lost", shop.redeem("CARD-1", "ann", orderId="A-1", lockToken=lock["lockToken"]))


@pytest.mark.parametrize("locks", [25, 450, 1_100])
async def test_expired_locks_hold_nothing(still: Shop, locks: int) -> None:
    """However many there are: the next takes all but what a live lock holds, and the worker's sweep removes them."""
    book = await cards(still)
    await still.lock("CARD-1", "zoe", orderId="Z-1", orderValue="0.05", lockSeconds=1200)
    for n in range(locks):
        status, _ = await still.lock("CARD-1", f"u{n}", orderId=f"A-{n}", orderValue="0.01", lockSeconds=300 + n % 7)
        assert status == 201
    assert (await balance(still))[1] == f"{locks / 100 + 0.05:.2f}"
    await still.wait(400_000)
    assert await balance(still) == ("0.00", "0.05", "0.00", "49.95")
    assert (await still.validate("CARD-1", orderValue="100"))[1]["discountAmount"] == "49.95"
    status, lock = await still.lock("CARD-1", "eve", orderId="E-1", orderValue="100", lockSeconds=1200)
    assert (status, lock["amount"]) == (201, "49.95")
    await still.refuses("coupon_locked", still.redeem("CARD-1", "ann", orderId="B-1", orderValue="1"))
    names, more = (still.caller.gate, f"{still.caller.prefix}w"), 1
    while more:
        _, _, more = await still.work("sweep_locks", names, book.book, "u")
    assert len((await still.everything())[f"{still.caller.prefix}kd:CARD-1"]) == 2
    _, redemption = await still.redeem("CARD-1", "eve", orderId="E-1")
    assert redemption["balanceAfter"] == "0.00"
    assert await balance(still) == ("49.95", "0.05", "0.00", "0.00")


@pytest.mark.parametrize("seed", range(AT_RANDOM))
async def test_500_buyers_of_a_card_of_100(shop: Shop, seed: int) -> None:
    """Each wants a random amount: together they get exactly 100.00, the last one what is left."""
    draw = random.Random(seed)
    await cards(shop, discount={"value_e4": 1_000_000})
    values = [f"{draw.randint(1, 500) / 100:.2f}" for _ in range(500)]
    answers = await together(*(shop.redeem("CARD-1", f"u{n}", orderValue=value) for n, value in enumerate(values)))
    assert {status for status, _ in answers} == {201, 409}
    assert tally(answers)[409, "coupon_exhausted"] > 300
    taken = [Decimal(body["discountAmount"]) for status, body in answers if status == 201]
    assert sum(taken) == 100
    assert await balance(shop) == ("100.00", "0.00", "0.00", "0.00")


async def test_too_many_locks_to_know_what_they_hold(still: Shop) -> None:
    """Where over a thousand locks are live and as many have expired, what depends on their sum is `unavailable`; the
    card can be read, and the sweep makes it known again."""
    book = await cards(still)
    for n in range(2_020):
        seconds = 300 if n % 2 else 1200
        await still.lock("CARD-1", f"u{n}", orderId=f"A-{n}", orderValue="0.01", lockSeconds=seconds)
    await still.wait(300_000)
    for ask in (still.lock, still.redeem):
        await still.refuses("unavailable", ask("CARD-1", "eve", orderId="E-1", orderValue="1"))
    await still.refuses("unavailable", still.validate("CARD-1", orderValue="1"))
    await still.refuses("unavailable", still.credit("CARD-1", "1"))
    await still.refuses("coupon_locked", still.close("CARD-1"))
    assert (await balance(still))[3] == "29.80"
    names, more = (still.caller.gate, f"{still.caller.prefix}w"), 1
    while more:
        _, _, more = await still.work("sweep_locks", names, book.book, "p")
    assert (await balance(still))[3] == "39.90"
    assert (await still.lock("CARD-1", "eve", orderId="E-1", orderValue="100"))[1]["amount"] == "39.90"


async def test_ids_that_look_like_a_hold(shop: Shop) -> None:
    """A user's and an order's id decide nothing of what a lock holds."""
    await cards(shop)
    names = {"userId": "9:USD:2:400000:k:-", "orderId": "7:USD:2:300000:k:-"}
    _, lock = await shop.lock("CARD-1", names["userId"], orderId=names["orderId"], orderValue="1")
    assert lock["amount"] == "1.00"
    assert (await balance(shop))[1] == "1.00"
    await assert_consistent(shop)
    await shop.unlock("CARD-1", lock["lockToken"])
    assert (await balance(shop))[1] == "0.00"


async def test_a_clock_that_goes_back_takes_no_more_than_there_is(still: Shop) -> None:
    """Locks that are live again, of amounts that others have spent since, take the rest, and the last take nothing."""
    await cards(still)
    for n in range(30):
        await still.lock("CARD-1", f"u{n}", orderId=f"A-{n}", orderValue="1.6", lockSeconds=10)
    await still.lock("CARD-1", "zoe", orderId="Z-1", orderValue="1", lockSeconds=15)
    await still.wait(10_000)
    assert (await still.redeem("CARD-1", "bob", orderId="B-1", orderValue="44"))[0] == 201
    await still.wait(-10_000)
    answers = [await still.redeem("CARD-1", f"u{n}", orderId=f"A-{n}") for n in range(30)]
    taken = [Decimal(body["discountAmount"]) for status, body in answers if status == 201]
    assert (len(taken), sum(taken)) == (4, 6)
    assert await balance(still) == ("50.00", "0.00", "0.00", "0.00")
    await still.wait(20_000)


async def test_a_race_for_a_card(shop: Shop) -> None:
    """Locks, redemptions, credits and closes at once: what succeeded adds up, and nothing is negative."""
    await cards(shop)
    asks: list[Any] = []
    for n in range(150):
        asks.append(shop.lock("CARD-1", f"u{n}", orderId=f"L-{n}", orderValue="1.5", lockSeconds=1 + n % 3))
        asks.append(shop.redeem("CARD-1", f"u{n}", orderId=f"R-{n}", orderValue="1.5"))
        if n % 25 == 0:
            asks.append(shop.close("CARD-1"))
        if n % 10 == 0:
            asks.append(shop.credit("CARD-1", "2"))
    random.Random(1).shuffle(asks)
    answers = await together(*asks)
    assert {code for status, code in answers if status > 300} <= {"coupon_locked", "coupon_exhausted"}
    _, coupon = await shop.coupon("CARD-1")
    sums = {name: Decimal(text) for name, text in coupon["balance"].items()}
    assert min(sums.values()) >= 0
    assert sums["issued"] + sums["credited"] == sums["spent"] + sums["held"] + sums["closed"] + sums["available"]
    redeemed = [body for status, body in answers if status in (200, 201) and "redemptionId" in body]
    assert sums["spent"] == sum(Decimal(body["discountAmount"]) for body in redeemed)
    assert sums["credited"] == 30


async def test_a_lost_redis_gets_its_accounts_again(still: Shop) -> None:
    """Recorded events on a card that was just issued lead to the account that they were decided with, without locks."""
    await cards(still, "CARD-1", "CARD-2")
    _, first = await still.redeem("CARD-1", "ann", orderId="A-1", orderValue="20")
    await still.redeem("CARD-1", "ann", orderId="A-2", orderValue="7.5")
    await still.rollback(first["redemptionId"])
    await still.close("CARD-1")
    await still.credit("CARD-1", "3")
    await still.lock("CARD-1", "ann", orderId="A-3", orderValue="1")
    events = [(entry_id, fields["d"]) for entry_id, fields in await still.read_outbox_entries()][1:]
    before = await balance(still)
    moved = [decided.replace("CARD-1", "CARD-2") for _, decided in events]
    assert before == ("7.50", "1.00", "42.50", "2.00")
    args: list[str] = []
    for (event, _), decided in zip(events, moved, strict=True):
        words = decided.split(" ")
        bucket = str(key_names.bucket("CARD-2"))
        at = {"R": 12, "B": 9, "C": 8}[words[0]]
        words[at] = bucket
        at_ms = words[10] if words[0] == "R" else "0"
        more = f"{events[0][0]} 200000 {key_names.bucket('ann')} {at_ms}" if words[0] == "B" else ""
        args += [" ".join(words), event, more]
    w = still.caller.prefix
    for kind in ("o", "s"):  # orders and uses are CARD-1's
        for name in await still.link.call("KEYS", f"{w}{kind}:*"):
            await still.link.call("DEL", name)
    await still.gate("closed")
    reply = await still.work("apply_events", [key_names.gate(0), key_names.mend(0)], "7-9", *args)
    await still.link.call("DEL", key_names.mend(0))
    assert reply == [0]
    account = await still.link.call("HGET", key_names.accounts(w, key_names.bucket("CARD-2")), "CARD-2")
    assert account == "500000 30000 75000 425000 0"
    await still.link.call("FLUSHDB")
    await Shop(still.link).open()


DESCRIBED = (
    Description(
        row=table.CREDIT,
        scopes="manage",
        path="/v1/coupons/{card}/credit",
        body={"amount": "10.00"},
        goods=(Good({"amount": "10.00"}, {"amount": kinds.POSITIVE, "reason": kinds.text(0, 500)}, "amount"),),
        refusals=posts(
            "/v1/coupons/{code}/credit", *MISSING, ("invalid", {"code": "{free}", "field": "amount"}), amount=1
        ),
        refused="behind",
        writes=True,
        rules=CARDS,
        ask=lambda shop, _, code, *__, **more: shop.credit(code, "10", **more),
    ),
    Description(
        row=table.CLOSE,
        scopes="manage",
        path="/v1/coupons/{card2}/close",
        body={},
        goods=(Good({}, {"reason": kinds.text(0, 500)}),),
        refusals=posts(
            "/v1/coupons/{code}/close",
            *MISSING,
            ("coupon_locked", {"code": "{card1}"}),
            ("invalid", {"code": "{free}"}),
        ),
        refused="behind",
        writes=True,
        rules=CARDS,
        ask=lambda shop, _, code, *__, **more: shop.close(code, **more),
    ),
)
