"""Budgets and limits of uses: what they refuse, what locks hold of them, and in which period a redemption counts."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from service.engine.domain.configuration import BookRow
from service.engine.formats import key_names
from service.engine.formats.bounds import counter_names, encode_zone, parse_spent, read_counters, spans_at
from tests.harness.script_runner import NOW_MS
from tests.harness.shop import Shop, tally, together
from tests.harness.waiting import elapse
from tests.lua.outbox import read_outbox
from tests.lua.test_cards import AT_RANDOM
from tests.lua.test_formats import Lua, lua

__all__ = ["lua"]

HALF: dict[str, Any] = {"type": "percentage", "value_e4": 500_000}
DAY_MS = 86_400_000
CODES = [f"CODE-{n}" for n in range(1, 31)]


async def spent(shop: Shop, book: BookRow, user: str | None = None) -> dict[str, tuple[str, int]]:
    """What is counted by the kind of period, at the shop's time: of the book, or of a user."""
    w, found = shop.caller.prefix, {}
    zone = encode_zone(book.time_zone, 1969)
    for span in spans_at(zone, shop.still_ms or 0):
        if user is None:
            names = counter_names(book.counted_from, span.name)
            some = read_counters(*await shop.link.call("HMGET", key_names.counters(w, book.book), *names))
        else:
            text = await shop.link.call("HGET", key_names.orders(w, key_names.bucket(user)), f"{book.book}/{user}/")
            some = parse_spent(text, book.counted_from).get(span.name, read_counters(None, None, None))
        found[span.name[0]] = (str(Decimal(some.amount_e4) / 10_000), some.uses)
    return found


async def no_shares(shop: Shop) -> None:
    """No lock holds anything of a budget."""
    assert await shop.link.call("KEYS", "*:b[luh]:*") == []


def renews(shop: Shop) -> str | None:
    assert shop.refusal
    renewal: str | None = shop.refusal.figures["renewsAt"]
    return renewal


@pytest.mark.parametrize("uses", [1, 2])
async def test_a_redemption_that_does_not_fit_is_refused(still: Shop, uses: int) -> None:
    """It isn't cut: a smaller one fits; what is spent is exact, and a raised budget lets it pass."""
    rules = {"discount": HALF, "max_redemptions_per_code": uses}
    book = await still.book(*CODES, **rules, budgets=[("10", "book", "lifetime")])
    assert (await still.redeem("CODE-1", "ann", orderValue="12"))[0] == 201
    await still.refuses("budget_exhausted", still.redeem("CODE-2", "bob", orderValue="8.02"))
    assert renews(still) is None
    assert (await still.redeem("CODE-2", "bob", orderValue="8"))[0] == 201
    await still.refuses("budget_exhausted", still.redeem("CODE-3", "bob", orderValue="0.02"))
    assert await spent(still, book) == {"l": ("10", 2), "d": ("10", 2), "m": ("10", 2)}
    await still.change(book, budgets=[("10.01", "book", "lifetime")])
    assert (await still.redeem("CODE-3", "bob", orderValue="0.02"))[0] == 201


@pytest.mark.parametrize("uses", [1, 2])
@pytest.mark.parametrize("per", ["book", "user"])
async def test_a_lock_reserves_its_discount_and_its_use(still: Shop, per: str, uses: int) -> None:
    """Others get what is left of both. The holder redeems; a released, an expired and an ended lock hold nothing."""
    rules = {"discount": HALF, "max_redemptions_per_code": uses, "budgets": [("10", per, "day")]}
    book = await still.book(*CODES, **rules, use_limits=[(2, per, "month")])
    await still.refuses("order_value_required", still.lock("CODE-1", "ann"))
    _, held = await still.lock("CODE-1", "ann", orderValue="16", lockSeconds=10)
    await still.refuses("budget_exhausted", still.lock("CODE-2", "ann", orderValue="4.02"))
    assert renews(still) == "2027-01-16T00:00:00.000Z"
    _, other = await still.lock("CODE-2", "ann", orderValue="4", lockSeconds=60)
    _, told = await still.validate("CODE-3", userId="ann", orderValue="2")
    assert told["reasons"] == ["budget_exhausted", "period_limit"]
    assert [refusal["renewsAt"] for refusal in told["refusals"]] == [
        "2027-01-16T00:00:00.000Z",
        "2027-02-01T00:00:00.000Z",
    ]
    await still.unlock("CODE-2", other["lockToken"])
    _, other = await still.lock("CODE-2", "ann", orderValue="4", lockSeconds=60)
    assert (await still.redeem("CODE-1", "ann", lockToken=held["lockToken"]))[0] == 201
    await still.refuses("period_limit", still.redeem("CODE-3", "ann", orderValue="0.01"))
    await still.wait(60_000)
    assert (await still.redeem("CODE-3", "ann", orderValue="4"))[0] == 201
    assert (await spent(still, book))["d"] == ("10", 2)
    book = await still.change(book, budgets=[("20", per, "day")], use_limits=[])
    await still.lock("CODE-4", "ann", orderValue="20")
    await still.refuses("budget_exhausted", still.redeem("CODE-5", "ann", orderValue="2"))
    if per == "book":
        await still.change(book, end_locks=True)
        assert (await still.redeem("CODE-5", "ann", orderValue="2"))[0] == 201


@pytest.mark.parametrize("uses", [1, 2])
async def test_another_price_under_a_lock_is_decided_anew(still: Shop, uses: int) -> None:
    """Its own share is free for it; the use stays held."""
    rules = {"discount": HALF, "max_redemptions_per_code": uses, "budgets": [("10", "book", "day")]}
    await still.book(*CODES, **rules, use_limits=[(1, "book", "day")])
    await still.lock("CODE-1", "ann", orderValue="16")
    await still.refuses("budget_exhausted", still.redeem("CODE-1", "ann", orderValue="20.02"))
    await still.refuses("budget_exhausted", still.lock("CODE-1", "ann", orderValue="20.02"))
    status, again = await still.lock("CODE-1", "ann", orderValue="20")
    assert (status, again["discountAmount"]) == (200, "10.00")
    assert (await still.lock("CODE-1", "ann"))[0] == 200
    status, redemption = await still.redeem("CODE-1", "ann", orderValue="14")
    assert (status, redemption["discountAmount"]) == (201, "7.00")
    await no_shares(still)
    await still.refuses("period_limit", still.redeem("CODE-2", "ann", orderValue="1"))


@pytest.mark.parametrize("uses", [1, 2])
async def test_a_redemption_counts_in_the_period_of_its_lock(still: Shop, uses: int) -> None:
    """The event says so; a rollback gives back to that period, and without `restore` nothing is given back."""
    rules = {"discount": HALF, "max_redemptions_per_code": uses, "budgets": [("10", "user", "day")]}
    book = await still.book(*CODES, **rules, use_limits=[(2, "book", "day")], max_lock_seconds=200_000)
    await still.lock("CODE-1", "ann", orderValue="20", lockSeconds=100_000)
    await still.wait(DAY_MS)
    _, first = await still.redeem("CODE-1", "ann")
    (event,) = read_outbox(await still.read_outbox_entries()).redeemed.values()
    assert event.counted_ms == NOW_MS
    assert await spent(still, book) == {"l": ("10", 1), "d": ("0", 0), "m": ("10", 1)}
    assert await spent(still, book, "ann") == {"l": ("10", 1), "d": ("0", 0), "m": ("10", 1)}
    _, second = await still.redeem("CODE-2", "ann", orderValue="20")
    await still.refuses("budget_exhausted", still.redeem("CODE-3", "ann", orderValue="2"))
    await still.rollback(second["redemptionId"], restore=False)
    await still.refuses("budget_exhausted", still.redeem("CODE-3", "ann", orderValue="2"))
    await still.rollback(first["redemptionId"])
    assert await spent(still, book, "ann") == {"l": ("10", 1), "d": ("10", 1), "m": ("10", 1)}
    assert await spent(still, book) == {"l": ("10", 1), "d": ("10", 1), "m": ("10", 1)}
    await still.wait(DAY_MS)
    assert (await still.redeem("CODE-3", "ann", orderValue="2"))[0] == 201


async def test_the_order_of_refusals(still: Shop) -> None:
    """They come after the book's total and before the order; a budget is judged only where the discount is known."""
    rules = {
        "discount": HALF | {"min_order_value_e4": 100_000},
        "max_redemptions": 1,
        "budgets": [("6", "book", "month")],
    }
    book = await still.book(*CODES, **rules, use_limits=[(1, "book", "day"), (1, "user", "month")])
    assert (await still.redeem("CODE-1", "ann", orderValue="10", orderId="A-1"))[0] == 201
    request: dict[str, Any] = {"userId": "ann", "orderId": "A-1"}

    async def reasons(**more: Any) -> list[str]:
        _, body = await still.validate("CODE-2", **request | more)
        named: list[str] = body["reasons"]
        for ask in (still.redeem, still.lock):
            body = dict(request | more)
            await still.refuses(named[0], ask("CODE-2", body.pop("userId"), **body))
        return named

    late = ["order_already_used"]
    assert await reasons(orderValue="10") == ["out_of_stock", "budget_exhausted", "period_limit", *late]
    book = await still.change(book, max_redemptions=None)
    assert await reasons(orderValue="10") == ["budget_exhausted", "period_limit", *late]
    assert renews(still) == "2027-02-01T00:00:00.000Z"
    assert await reasons(orderValue="9") == ["period_limit", *late, "order_value_too_low"]
    assert renews(still) == "2027-02-01T00:00:00.000Z"
    assert await reasons() == ["period_limit", *late, "order_value_required"]
    assert await reasons(orderValue="10", currency="EUR") == ["period_limit", *late, "currency_mismatch"]
    book = await still.change(book, use_limits=[(9, "user", "day")])
    assert await reasons(orderValue="10") == ["budget_exhausted", *late]
    await still.change(book, budgets=[("10", "book", "month"), ("5", "user", "lifetime")])
    assert await reasons(orderValue="10") == ["budget_exhausted", *late]
    assert renews(still) is None
    assert (await still.redeem("CODE-2", "bob", orderValue="10"))[0] == 201


@pytest.mark.parametrize("seed", range(AT_RANDOM))
async def test_of_many_buyers_as_many_succeed_as_the_budget_allows(shop: Shop, seed: int) -> None:
    """500 buyers race with locks, some of which expire: never over, and under by less than what was refused."""
    draw = random.Random(seed)
    rules = {"discount": {"type": "percentage", "value_e4": 333_300}, "budgets": [("500", "book", "month")]}
    book = await shop.book(*(f"C-{n:04}" for n in range(500)), **rules, use_limits=[(50, "user", "day")])
    values = [f"{draw.randint(300, 900) / 100:.2f}" for _ in range(500)]

    async def buy(n: int) -> Any:
        user, code = f"user-{n % 20}", f"C-{n:04}"
        status, body = await shop.lock(code, user, orderValue=values[n], lockSeconds=1 if n % 3 == 0 else 60)
        if status != 201 or n % 3 == 0:
            return 0, body
        return await shop.redeem(code, user, lockToken=body["lockToken"])

    answers = await together(*(buy(n) for n in range(500)))
    assert tally(answers)[201] > 50
    await elapse(1.1, "so that a third of the locks expires")
    refused = []
    for n in range(500):
        status, body = await shop.redeem(f"C-{n:04}", f"user-{n % 20}", orderValue=values[n])
        if status == 201:
            answers.append((status, body))
        elif body == "budget_exhausted":
            refused.append(Decimal(values[n]) * Decimal("0.3333"))
    total = sum(Decimal(body["discountAmount"]) for status, body in answers if status == 201)
    assert Decimal(500) - min(refused) - Decimal("0.01") < total <= 500
    w = shop.caller.prefix
    low, high, _ = await shop.link.call(
        "HMGET", key_names.counters(w, book.book), *counter_names(book.counted_from, "l")
    )
    assert read_counters(low, high, None).amount_e4 == total * 10_000
    await no_shares(shop)


async def test_notices_at_80_and_100_percent(still: Shop) -> None:
    """Each is sent once in a period, and names the budget, what is left, and when it renews."""
    rules = {"discount": HALF, "max_redemptions_per_code": None}
    book = await still.book(
        "MULTI", **rules, budgets=[("10", "book", "day"), ("100", "book", "lifetime"), ("9", "user", "day")]
    )
    day = "budget:d:100000:1800057600000"
    steps = [("15.98", []), ("0.02", [("low", 20_000)]), ("2", []), ("2", [("out", 0)])]
    for number, (value, expected) in enumerate(steps):
        before = len(await still.notices(book))
        assert (await still.redeem("MULTI", f"user-{number}", orderValue=value))[0] == 201
        texts = (await still.notices(book))[before:]
        assert texts == [f"{notice} {day} {left}" for notice, left in expected]
    await still.wait(DAY_MS)
    assert (await still.redeem("MULTI", "ann", orderValue="17"))[0] == 201
    assert len(await still.notices(book)) == 3


async def test_very_many_expired_locks_are_no_refusal(still: Shop) -> None:
    """What up to 1,000 of them held is free; beyond that the answer is `unavailable`, until some are removed."""
    rules = {"discount": HALF, "budgets": [("10.2", "book", "lifetime")]}
    await still.book("MULTI", "OTHER", **rules, max_redemptions_per_code=None)
    for n in range(1020):
        assert (await still.lock("MULTI", f"user-{n}", orderValue="0.02", lockSeconds=1))[0] == 201
    await still.wait(2000)
    await still.refuses("unavailable", still.redeem("OTHER", "ann", orderValue="20.4"))
    await still.refuses("unavailable", still.validate("OTHER", userId="ann", orderValue="20.4"))
    assert (await still.lock("OTHER", "ann", orderValue="0.02"))[0] == 201  # which removes 20 of them
    _, told = await still.validate("OTHER", userId="bob", orderValue="20.38")
    assert told["reasons"] == []
    await still.refuses("budget_exhausted", still.redeem("OTHER", "bob", orderValue="20.4"))


ZONES = (
    "Europe/Berlin America/New_York America/Sao_Paulo Asia/Kolkata Australia/Lord_Howe Africa/Cairo Asia/Beirut".split()
)
ZONES += "America/Havana Pacific/Apia America/Santiago Africa/Casablanca UTC".split()


@pytest.mark.parametrize("name", ZONES)
def test_periods_are_the_local_days_and_months(lua: Lua, name: str) -> None:
    """Of each moment around each change of the offset, and of others: day, month, and when the next ones begin."""
    zone, encoded = ZoneInfo(name), encode_zone(name, 2025)
    changes = [int(change.split(":")[0]) * 60_000 for change in encoded.split(",")[1:]]
    draw = random.Random(name)
    times = [at + hours * 1_800_000 for at in changes for hours in range(-50, 51, 7)]
    times += [at + one for at in changes for one in (-1, 0, 1)]
    times += [draw.randrange(1_740_000_000_000, 2_050_000_000_000) for _ in range(200)]
    text = """local found = {}
    for i = 2, #ARGV do
      local at, own = tonumber(ARGV[i]), periods_of(ARGV[1], tonumber(ARGV[i]))
      local day, month = renews_at(ARGV[1], 'd', at), renews_at(ARGV[1], 'm', at)
      found[#found + 1] = own.d .. ' ' .. own.m .. ' ' .. day .. ' ' .. month
    end
    return found"""
    for at, found in zip(times, lua.run("budgets", text, encoded, *times), strict=True):
        local = datetime.fromtimestamp(at / 1000, UTC).astimezone(zone).date()
        day, month, next_day, next_month = found.split()
        _, of_day, of_month = spans_at(encoded, at)
        assert (day, month) == (of_day.name, of_month.name)
        assert day == f"d{(local - date(1970, 1, 1)).days}"
        assert month == f"m{local.year * 12 + local.month - 1}"
        for begins, begin_of in (
            (next_day, local + timedelta(days=1)),
            (next_month, (local.replace(day=1) + timedelta(days=32)).replace(day=1)),
        ):
            after, before = (
                datetime.fromtimestamp(int(begins) / 1000 + s, UTC).astimezone(zone).date() for s in (0, -0.001)
            )
            assert int(begins) > at
            assert before < begin_of <= after


async def test_what_cards_pay_is_bounded_too(still: Shop) -> None:
    """A budget of a book of cards counts what they pay, and what locks hold of them; both sums are exact together."""
    cards: dict[str, Any] = {"discount": {"type": "balance", "value_e4": 500_000}, "max_redemptions_per_code": None}
    book = await still.book("CARD-1", "CARD-2", **cards, budgets=[("60", "book", "lifetime")])
    assert (await still.lock("CARD-1", "ann", orderId="A-1", orderValue="45", lockSeconds=60))[0] == 201
    await still.refuses("budget_exhausted", still.lock("CARD-2", "bob", orderId="B-1", orderValue="15.01"))
    assert (await still.redeem("CARD-2", "bob", orderId="B-1", orderValue="15"))[0] == 201
    await still.refuses("budget_exhausted", still.redeem("CARD-1", "ann", orderId="A-1", orderValue="45.01"))
    assert (await still.redeem("CARD-1", "ann", orderId="A-1", orderValue="44.99"))[0] == 201
    assert (await spent(still, book))["l"] == ("59.99", 2)
    _, last = await still.redeem("CARD-1", "eve", orderId="E-1", orderValue="100", amount="0.01")
    assert (last["discountAmount"], last["balanceAfter"]) == ("0.01", "5.00")
    await still.refuses("budget_exhausted", still.redeem("CARD-1", "eve", orderId="E-2", orderValue="1"))
    assert (await still.rollback(last["redemptionId"]))[0] == 200
    assert (await spent(still, book))["l"] == ("59.99", 2)
    assert (await still.coupon("CARD-1"))[1]["balance"]["available"] == "5.01"
    await no_shares(still)
