"""Budgets on the running service: set later under traffic, in another time zone, compared, and rebuilt."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from service.engine.formats import key_names
from service.engine.record import pool
from tests.harness.comparing import compare, compared
from tests.harness.rebuilt_redis import unlike_built
from tests.harness.servers import VALKEY
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused, shared_service
from tests.harness.waiting import elapse, until

TENTH = {"type": "percentage", "value": 10, "currency": "USD"}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service of this file's own, whose Redis it damages."""
    with shared_service() as service:
        yield service


def redeem(service: Service, code: str, user: str = "ann", value: str = "10.00", **more: Any) -> Any:
    body = {"userId": user, "orderId": new_id("order"), "orderValue": value} | more
    return service.checkout.post(f"/v1/coupons/redeem/{code}", json=body)


def change(service: Service, book: str, **fields: Any) -> Any:
    return ok(service.manage.patch(f"/v1/books/{book}", json=fields))


def test_a_book_shows_its_budgets(service: Service) -> None:
    """A response has them as they were set; null, and what is out of range, as other fields."""
    budgets = [
        {"amount": "10.00", "per": "book", "period": "lifetime"},
        {"amount": "5.00", "per": "user", "period": "day"},
    ]
    limits = [{"uses": 3, "per": "book", "period": "month"}]
    book = service.book(discount=TENTH, budgets=budgets, useLimits=limits)
    shown = ok(service.manage.get(f"/v1/books/{book}"))
    assert (shown["budgets"], shown["useLimits"]) == (budgets, limits)
    (first,) = ok(service.manage.get(f"/v1/books/{book}/stats"))["budgets"]
    zeros = dict.fromkeys(("spent", "held"), "0.00")
    assert first == budgets[0] | zeros | {"left": "10.00", "renewsAt": None}
    shown = change(service, book, budgets=None)
    assert (shown["budgets"], shown["useLimits"]) == ([], limits)
    for field, value in (("amount", "0.001"), ("amount", "0"), ("per", "shop"), ("period", "week")):
        sent = service.manage.patch(f"/v1/books/{book}", json={"budgets": [budgets[0] | {field: value}]})
        assert sent.status_code in (400, 422), sent.text
    refused(service.manage.patch(f"/v1/books/{book}", json={"budgets": budgets * 3}), 422, "invalid", "budgets")


def test_a_budget_that_is_set_later_counts_what_was_redeemed(service: Service) -> None:
    """While buyers redeem: exactly what it allows is sold in all, and its sums are those of the record."""
    codes = [new_code() for _ in range(620)]
    book = service.book(*codes, discount=TENTH, maxRedemptionsPerUser=500)
    early = [ok(redeem(service, code, f"user-{n}"), 201)["redemptionId"] for n, code in enumerate(codes[:20])]
    for one in early[:3]:
        ok(service.manage.post(f"/v1/redemptions/{one}/rollback", json={}))
    left = codes[20:]

    def buy(user: str) -> int:
        """Until one is refused; how many were sold."""
        for sold in range(600):
            answer = redeem(service, left.pop(), user)
            if answer.status_code != 201:
                refused(answer, 409, "budget_exhausted")
                return sold
            asyncio.run(elapse(0.03, "the pace of a buyer"))
        raise AssertionError

    with ThreadPoolExecutor(4) as buyers:
        going = [buyers.submit(buy, f"user-{n}") for n in range(4)]
        per_user = {"amount": "400.00", "per": "user", "period": "day"}
        change(service, book, budgets=[{"amount": "400.00", "per": "book", "period": "month"}, per_user])
        assert sum(one.result() for one in going) + 17 == 400
    problem = refused(redeem(service, left.pop(), "new", "0.20"), 409, "budget_exhausted")
    assert (problem["for"], problem["renewsAt"][8:10]) == ("shopper", "01")
    service.recorded()
    outcome, differences = compare(service)
    assert (outcome.differing, differences) == ({}, [])


async def test_a_rebuilt_redis_has_the_same_accounts(service: Service, tmp_path: Path) -> None:
    """Of locks, rollbacks and budgets that were set later, too."""
    codes = [new_code() for _ in range(9)]
    book = service.book(*codes, discount=TENTH, useLimits=[{"uses": 9, "per": "user", "period": "day"}])
    ok(redeem(service, codes[0]), 201)
    change(service, book, budgets=[{"amount": "9.00", "per": "user", "period": "month"}], useLimits=None)
    lock = {"userId": "ann", "orderId": "o", "orderValue": "20"}
    token = ok(service.checkout.post(f"/v1/coupons/lock/{codes[1]}", json=lock), 201)["lockToken"]
    spend = {"userId": "ann", "orderId": "o", "lockToken": token}
    ok(service.checkout.post(f"/v1/coupons/redeem/{codes[1]}", json=spend), 201)
    service.recorded()
    async with await pool.connect(service.run.facts["databaseUrl"], name="tests") as database:
        assert await unlike_built(service.run.facts["redisUrl"], database, VALKEY, tmp_path) == []


@pytest.mark.parametrize("of_user", [False, True])
async def test_a_comparison_mends_accounts(service: Service, of_user: bool) -> None:
    """A wrong sum of a book, or of a user, is found and mended; so is that of a user who never redeemed."""
    code, user = new_code(), new_id()
    book = service.book(code, new_code(), discount=TENTH, budgets=[{"amount": "1", "per": "user", "period": "day"}])
    ok(redeem(service, code, user), 201)
    service.recorded()
    ((number, generation),) = await service.fetch("SELECT book, counted_from FROM books WHERE book_id = $1", book)
    w = service.prefix
    with service.redis() as redis:
        if of_user:
            key, field = key_names.orders(w, key_names.bucket(user)), f"{number}/{user}/"
            right = redis.hget(key, field)
            redis.hset(key, field, f"{generation} l:5:1")
            redis.hset(key, f"{number}/nobody/", f"{generation} l:5:1")
        else:
            key, field = key_names.counters(w, number), f"{generation}:l"
            right = redis.hget(key, field)
            redis.hset(key, field, "7")
        outcome, _ = await compared(service, repair=True)
        assert outcome.differing == ({"user_counts": 2} if of_user else {"book_counts": 1})
        assert set(redis.hget(key, field).split(" ")) == set(right.split(" "))
        assert not redis.hexists(key, f"{number}/nobody/")
    assert (await compared(service))[0].differing == {}


def test_another_time_zone_counts_anew(service: Service) -> None:
    """Days are those of the workspace's zone, by its test clock; another zone's have what was redeemed in them."""
    shop = service.make_workspace(f"zones-{new_id()}", "test").admin
    codes = [new_code() for _ in range(9)]
    service.book(*codes, client=shop, useLimits=[{"uses": 3, "per": "book", "period": "day"}])
    sold = iter(codes)

    def spend(at: str) -> Any:
        ok(shop.post("/v1/test/clock", json={"now": at}))
        return shop.post(f"/v1/coupons/redeem/{next(sold)}", json={"userId": "ann"})

    for at in ("2026-03-10T14:00:00Z", "2026-03-10T16:00:00Z", "2026-03-10T16:30:00Z"):
        ok(spend(at), 201)
    problem = refused(spend("2026-03-10T17:00:00Z"), 409, "period_limit")
    assert problem["renewsAt"] == "2026-03-11T00:00:00.000Z"
    ok(shop.patch("/v1/workspace", json={"timeZone": "Asia/Tokyo"}))
    until(lambda: shop.post("/v1/coupons/validate", json={"code": codes[-1]}).json().get("reasons") == [])
    ok(spend("2026-03-10T17:30:00Z"), 201)
    problem = refused(spend("2026-03-10T18:00:00Z"), 409, "period_limit")
    assert problem["renewsAt"] == "2026-03-11T15:00:00.000Z"
    ok(shop.patch("/v1/workspace", json={"timeZone": "America/New_York"}))
    until(lambda: shop.post("/v1/coupons/validate", json={"code": codes[-1]}).json().get("reasons") == ["period_limit"])
    refused(spend("2026-03-10T19:00:00Z"), 409, "period_limit")
    service.recorded()
    assert compare(service)[0].differing == {}
