"""The races: for each limit, rounds of requests that want more than it allows, and what should come of them."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

from loadtests.target import Check, Counts, Target, codes_of, count, new_codes, new_id
from loadtests.wire import Ask

LEFT = 5
"""What each limit leaves."""

Round = Callable[[Target], Awaitable[Check]]


class Race(NamedTuple):
    """One line of the table: which limit, what is asked for, and a round of it."""

    limit: str
    asked: str
    round: Round


RACES: list[Race] = []


def race(limit: str, asked: str) -> Callable[[Round], Round]:
    """Put a round into the table."""

    def add(round_: Round) -> Round:
        RACES.append(Race(limit, asked, round_))
        return round_

    return add


def _redeem(code: str, user: str, order: str | None = None, key: str = "") -> Ask:
    return Ask("POST", f"/v1/coupons/redeem/{code}", {"userId": user, "orderId": order}, key)


def _lock(code: str, user: str) -> Ask:
    return Ask("POST", f"/v1/coupons/lock/{code}", {"userId": user})


def _assign(code: str, user: str) -> Ask:
    return Ask("POST", f"/v1/coupons/assign/{code}", {"userId": user})


def _assign_any(book: str, user: str, key: str = "") -> Ask:
    return Ask("POST", "/v1/coupons/assign", {"bookId": book, "userId": user}, key)


def _gift(book: str, user: str, order: str) -> Ask:
    return Ask("POST", f"/v1/users/{user}/gifts", {"bookId": book, "orderId": order})


def _buy(user: str, order: str, gift_book: str, code: str | None = None) -> Ask:
    body = {"userId": user, "orderId": order, "orderValue": 100, "giftBookId": gift_book, "code": code}
    return Ask("POST", "/v1/checkout", body)


class Names(NamedTuple):
    """What the requests of a round are about."""

    book: str
    codes: list[str]
    user: str
    order: str
    key: str


def limited(
    limit: str, asked: str, ask: Callable[[Names, int], Ask], others: str, *, then: str = "redemptions",
    wins: int = LEFT, codes: int | None = None, **rules: int | None,
) -> None:  # fmt: skip
    """Put a round into the table, of one new book with these rules and as many codes as requests, or so many: so many
    requests win, the others get this answer, and `then` the book counts as many. All bodies of 2… are the winners'."""

    async def round_(on: Target) -> Check:
        made = new_codes(codes or on.at_once)
        names = Names(await on.book(made, **rules), made, new_id(), new_id(), new_id())
        answers = await on.fire(lambda n: ask(names, n))
        expected: Counts = {"201": wins, others: on.at_once - wins, then: wins}
        seen = count(answers)
        if others.startswith("2"):
            expected["bodies"], seen["bodies"] = wins, len({answer.content for answer in answers})
        match then:
            case "redemptions":
                state = await on.redeemed(names.book, answers)
            case "assigned":
                state = await on.assigned(names.book, codes_of(answers))
            case _:
                return Check(expected, seen | {then: (await on.stats(names.book))[then]})
        return Check(expected | {"recorded": wins}, seen | state)

    RACES.append(Race(limit, asked, round_))


# fmt: off
limited("code", f"redeem a code with {LEFT} uses, as many users", lambda s, n: _redeem(s.codes[0], f"u-{n}", new_id()),
        "409 coupon_exhausted", codes=1, maxRedemptionsPerCode=LEFT)
limited("code", "redeem a single-use code, as many users", lambda s, n: _redeem(s.codes[0], f"u-{n}", new_id()),
        "409 coupon_redeemed", wins=1, codes=1)
limited("code", "lock a single-use code, as many users", lambda s, n: _lock(s.codes[0], f"u-{n}"),
        "409 coupon_locked", then="locked", wins=1, codes=1)
limited("user", f"one user redeems as many codes, maxRedemptionsPerUser {LEFT}",
        lambda s, n: _redeem(s.codes[n], s.user, new_id()), "422 user_redemption_limit", maxRedemptionsPerUser=LEFT)
limited("user", f"one user locks as many codes, maxRedemptionsPerUser {LEFT}", lambda s, n: _lock(s.codes[n], s.user),
        "422 user_redemption_limit", then="locked", maxRedemptionsPerUser=LEFT)
limited("user's codes", f"one user is assigned any code, maxCodesPerUser {LEFT}",
        lambda s, _: _assign_any(s.book, s.user), "422 user_code_limit", then="assigned", maxCodesPerUser=LEFT)
limited("user's codes", f"one user is assigned as many named codes, maxCodesPerUser {LEFT}",
        lambda s, n: _assign(s.codes[n], s.user), "422 user_code_limit", then="assigned", maxCodesPerUser=LEFT)
limited("user's codes", f"one user is given as many orders' gifts, maxCodesPerUser {LEFT}",
        lambda s, n: _gift(s.book, s.user, f"{s.order}-{n}"), "422 user_code_limit", then="assigned",
        maxCodesPerUser=LEFT)
limited("book", f"redeem as many codes, maxRedemptions {LEFT}", lambda s, n: _redeem(s.codes[n], f"u-{n}", new_id()),
        "409 out_of_stock", maxRedemptions=LEFT)
limited("book", f"lock as many codes, maxRedemptions {LEFT}", lambda s, n: _lock(s.codes[n], f"u-{n}"),
        "409 out_of_stock", then="locked", maxRedemptions=LEFT)
limited("last code", f"assign any code, {LEFT} free, as many users", lambda s, n: _assign_any(s.book, f"u-{n}"),
        "409 out_of_stock", then="assigned", codes=LEFT)
limited("last code", "assign one code by name, as many users", lambda s, n: _assign(s.codes[0], f"u-{n}"),
        "409 coupon_assigned_to_other", then="assigned", wins=1, codes=1)
limited("gift", "one order's gift to as many users", lambda s, n: _gift(s.book, f"u-{n}", s.order),
        "409 order_already_used", then="assigned", wins=1, codes=LEFT)
limited("code", "redeem a single-use code, one user and order", lambda s, _: _redeem(s.codes[0], s.user, s.order),
        "200", wins=1, codes=1)
limited("gift", "one user's gift of one order", lambda s, _: _gift(s.book, s.user, s.order),
        "200", then="assigned", wins=1, codes=LEFT)
limited("idempotency key", "redeem a code without end under one key, no order",
        lambda s, _: _redeem(s.codes[0], s.user, None, s.key), "201 replayed", wins=1, codes=1,
        maxRedemptionsPerCode=None)
limited("idempotency key", "assign any code under one key", lambda s, _: _assign_any(s.book, s.user, s.key),
        "201 replayed", then="assigned", wins=1)
limited("idempotency key", "as many different requests under one key",
        lambda s, n: _redeem(s.codes[0], f"u-{n}", None, s.key), "422 idempotency_key_reused", wins=1, codes=1,
        maxRedemptionsPerCode=None)
# fmt: on


@race("code", f"lock a code with {LEFT} uses, as many users")
async def _(on: Target) -> Check:
    (code,) = new_codes(1)
    await on.book([code], maxRedemptionsPerCode=LEFT)
    answers = await on.fire(lambda n: _lock(code, f"u-{n}"))
    tokens = {answer.body["lockToken"] for answer in answers if answer.status == 201}
    expected: Counts = {"201": LEFT, "409 coupon_locked": on.at_once - LEFT, "tokens": LEFT, "status": "locked"}
    state: Counts = {"tokens": len(tokens), "status": (await on.coupon(code))["status"]}
    return Check(expected, count(answers) | state)


@race("code", f"every other one redeems a code with {LEFT} uses, or locks it; then the locks' holders redeem")
async def _(on: Target) -> Check:
    (code,) = new_codes(1)
    book = await on.book([code], maxRedemptionsPerCode=LEFT)
    answers = await on.fire(lambda n: (_redeem if n % 2 else _lock)(code, f"u-{n}"))
    locks = [answer for answer in answers if answer.status == 201 and "lockToken" in answer.body]
    bought = [answer for answer in answers if answer.status == 201 and "lockToken" not in answer.body]
    spent = await on.barrage.fire([_redeem(code, answer.body["userId"]) for answer in locks]) if locks else []
    lost = [answer for answer in answers if answer.label in {"409 coupon_locked", "409 coupon_exhausted"}]
    seen: Counts = {
        "201": len(locks) + len(bought),
        "409 coupon_locked or coupon_exhausted": len(lost),
        "holders refused": sum(answer.status != 201 for answer in spent),
    }
    expected: Counts = {"201": LEFT, "409 coupon_locked or coupon_exhausted": on.at_once - LEFT, "holders refused": 0}
    expected |= {"redemptions": LEFT, "recorded": LEFT}
    return Check(expected, seen | await on.redeemed(book, [*bought, *spent]))


@race("user's coupons", f"one user is assigned codes of two books in turn, maxCoupons {LEFT}")
async def _(on: Target) -> Check:
    user, codes = new_id(), new_codes(on.at_once)
    books = [await on.book(codes[number::2]) for number in range(2)]
    await on.barrage.one("POST", "/v1/users", {"userId": user, "maxCoupons": LEFT})
    answers = await on.fire(lambda n: _assign_any(books[n % 2], user))
    held = (await on.barrage.one("GET", f"/v1/users/{user}")).body["coupons"]
    listed = {item["code"] for item in await on.listed(f"/v1/users/{user}/coupons")}
    state: Counts = {"coupons": held, "listed": len(listed) if listed == set(codes_of(answers)) else "others"}
    expected: Counts = {"201": LEFT, "422 user_coupon_limit": on.at_once - LEFT, "coupons": LEFT, "listed": LEFT}
    return Check(expected, count(answers) | state)


async def _order(places: int, on: Target) -> Check:
    """As many codes for one order, by two users in turn."""
    codes, order = new_codes(on.at_once), new_id()
    book = await on.book(codes)
    before = (await on.barrage.one("GET", "/v1/workspace")).body["couponsPerOrder"]
    await on.barrage.one("PATCH", "/v1/workspace", {"couponsPerOrder": places})
    try:
        answers = await on.fire(lambda n: _redeem(codes[n], f"u-{n % 2}", order))
    finally:
        await on.barrage.one("PATCH", "/v1/workspace", {"couponsPerOrder": before})
    refused = on.at_once - places
    expected: Counts = {"201": places, "409 order_already_used": refused, "redemptions": places, "recorded": places}
    return Check(expected, count(answers) | await on.redeemed(book, answers))


for _places in (1, 3):
    race("order", f"two users redeem as many codes for one order, couponsPerOrder {_places}")(partial(_order, _places))


@race("last code", "unassign one code")
async def _(on: Target) -> Check:
    (code,) = new_codes(1)
    book = await on.book([code])
    await on.barrage.one("POST", f"/v1/coupons/assign/{code}", {"userId": new_id()})
    answers = await on.same(Ask("POST", f"/v1/coupons/unassign/{code}", {}))
    expected: Counts = {"200": 1, "409 coupon_not_assigned": on.at_once - 1, "assigned": 0, "recorded": 0}
    return Check(expected, count(answers) | await on.assigned(book, []))


@race("last code", "make a coupon of one code")
async def _(on: Target) -> Check:
    (code,) = new_codes(1)
    answers = await on.same(Ask("POST", "/v1/coupons/generate", {"code": code, "description": code}))
    books = len(await on.listed(f"/v1/books?q={code}"))
    return Check({"201": 1, "409 code_exists": on.at_once - 1, "books": 1}, count(answers) | {"books": books})


@race("last gift", f"as many orders are completed, {LEFT} gifts free")
async def _(on: Target) -> Check:
    gifts = await on.book(new_codes(LEFT))
    answers = await on.fire(lambda n: _buy(f"u-{n}", new_id(), gifts))
    given = [answer.body["gift"]["code"] for answer in answers if answer.body["gift"]]
    expected: Counts = {"201": on.at_once, "gifts": LEFT, "assigned": LEFT, "recorded": LEFT}
    return Check(expected, count(answers) | {"gifts": len(given)} | await on.assigned(gifts, given))


@race("checkout", "one order completed by its user, with a coupon and a gift")
async def _(on: Target) -> Check:
    (code,), user, order = new_codes(1), new_id(), new_id()
    book, gifts = await on.book([code]), await on.book(new_codes(on.at_once))
    answers = await on.same(_buy(user, order, gifts, code))
    given = {answer.body["gift"]["code"] for answer in answers}
    expected: Counts = {"201": 1, "200": on.at_once - 1, "redemptions": 1, "recorded": 1, "gifts": 1}
    gifts_seen = await on.assigned(gifts, given)
    same = gifts_seen["recorded"] if gifts_seen["recorded"] == gifts_seen["assigned"] else str(gifts_seen)
    return Check(expected, count(answers) | await on.redeemed(book, answers) | {"gifts": same})


@race("checkout", f"as many orders with one code of {LEFT} uses, each with a gift")
async def _(on: Target) -> Check:
    (code,) = new_codes(1)
    book, gifts = await on.book([code], maxRedemptionsPerCode=LEFT), await on.book(new_codes(on.at_once))
    answers = await on.fire(lambda n: _buy(f"u-{n}", new_id(), gifts, code))
    expected: Counts = {"201": LEFT, "409 coupon_exhausted": on.at_once - LEFT, "redemptions": LEFT, "recorded": LEFT}
    seen = count(answers) | await on.redeemed(book, answers)
    return Check(expected | {"gifts": LEFT}, seen | {"gifts": (await on.stats(gifts))["assigned"]})


@race("idempotency key", "make a book under one key (off the hot path)")
async def _(on: Target) -> Check:
    name = key = new_id()
    answers = await on.same(Ask("POST", "/v1/books", {"name": name}, key))
    others = [answer for answer in answers if answer.label in {"201 replayed", "409 request_in_progress"}]
    seen: Counts = {
        "201": sum(answer.label == "201" for answer in answers),
        "201 replayed or 409 request_in_progress": len(others),
        "bodies": len({answer.content for answer in answers if answer.status == 201}),
        "books": len(await on.listed(f"/v1/books?q={name}")),
    }
    expected: Counts = {"201": 1, "201 replayed or 409 request_in_progress": on.at_once - 1, "bodies": 1, "books": 1}
    return Check(expected, seen)


@race("rollback", "roll one redemption back")
async def _(on: Target) -> Check:
    (code,) = new_codes(1)
    book = await on.book([code])
    made = (await on.barrage.one("POST", f"/v1/coupons/redeem/{code}", {"userId": new_id()})).body["redemptionId"]
    answers = await on.same(Ask("POST", f"/v1/redemptions/{made}/rollback", {}))
    stats = await on.stats(book)
    state: Counts = {"rolledBack": stats["rolledBack"], "available": stats["available"]}
    expected: Counts = {"200": 1, "409 already_rolled_back": on.at_once - 1, "rolledBack": 1, "available": 1}
    return Check(expected | {"redemptions": 0, "recorded": 0}, count(answers) | state | await on.redeemed(book, []))


@race("rollback", "roll one order back, with its gift")
async def _(on: Target) -> Check:
    (code,), order = new_codes(1), new_id()
    book, gifts = await on.book([code]), await on.book(new_codes(1))
    await on.barrage.fire([_buy(new_id(), order, gifts, code)])
    answers = await on.same(Ask("POST", f"/v1/orders/{order}/rollback", {}))
    free: Counts = {"gifts free": (await on.stats(gifts))["available"]}
    expected: Counts = {"200": 1, "409 already_rolled_back": on.at_once - 1, "gifts free": 1}
    return Check(expected | {"redemptions": 0, "recorded": 0}, count(answers) | free | await on.redeemed(book, []))
