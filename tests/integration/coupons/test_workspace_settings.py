"""A workspace's settings over HTTP: each is read back as it was set, and governs the next request."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.service_fixture import Service, new_code, ok, refused
from tests.waiting import until

_DEFAULTS = {
    "currency": "USD",
    "couponsPerOrder": 1,
    "orderDays": 400,
    "maxCoupons": None,
    "giftBookId": None,
    "idempotencyHours": 24,
    "lockHistory": False,
    "timeZone": "UTC",
}
_HOUR_MS = 3_600_000


class SettingsShop:
    def __init__(self, service: Service) -> None:
        self.service = service
        self.client = service.make_workspace(f"shop-{uuid4().hex}", "live").admin

    def patch(self, **changes: object) -> dict[str, object]:
        """Change settings; return all of them."""
        workspace = ok(self.client.patch("/v1/workspace", json=changes))
        assert workspace == ok(self.client.get("/v1/workspace"))
        return {name: workspace[name] for name in _DEFAULTS}


@pytest.fixture
def shop(service: Service) -> SettingsShop:
    return SettingsShop(service)


def test_settings_are_read_back(service: Service, shop: SettingsShop) -> None:
    """GET returns each setting as PATCH set it, and its default after null; another workspace's book gets the same
    refusal as an unknown one."""
    settings = {
        "currency": "JPY",
        "couponsPerOrder": 100,
        "orderDays": 4000,
        "maxCoupons": 7,
        "giftBookId": service.book(client=shop.client),
        "idempotencyHours": 8760,
        "lockHistory": True,
        "timeZone": "Asia/Kolkata",
    }
    assert shop.patch() == _DEFAULTS
    for name, value in settings.items():
        assert shop.patch(**{name: value}) == _DEFAULTS | {name: value}
        assert shop.patch(**{name: None}) == _DEFAULTS
    assert shop.patch(**settings) == settings
    errors = [
        refused(shop.client.patch("/v1/workspace", json={"giftBookId": book}), 422, "invalid", "giftBookId")["errors"]
        for book in (service.book(), str(uuid4()))
    ]
    assert errors[0] == errors[1]
    refused(shop.client.patch("/v1/workspace", json={"timeZone": "Europe/Nowhere"}), 422, "invalid", "timeZone")
    assert shop.patch() == settings


def test_settings_govern_the_next_request(service: Service, shop: SettingsShop) -> None:
    """Currency, coupons per order, coupons per user and the lifetime of an Idempotency-Key hold from the PATCH on, on
    the hot path and off it."""
    codes = [new_code() for _ in range(4)]
    service.book(*codes, client=shop.client, discount={"type": "fixed", "value": 2})
    shop.patch(couponsPerOrder=2, maxCoupons=1, currency="JPY", idempotencyHours=1)
    order = {"userId": "ann", "orderId": "A-1", "orderValue": 10}
    redeem = "/v1/coupons/redeem/"
    for code in codes[:2]:
        used = ok(shop.client.post(redeem + code, json=order, headers={"Idempotency-Key": code}), 201)
        assert (used["currency"], used["discountAmount"]) == ("JPY", "2")
    refused(shop.client.post(redeem + codes[2], json=order), 409, "order_already_used")
    ok(shop.client.post(f"/v1/coupons/assign/{codes[2]}", json={"userId": "bob"}), 201)
    refused(shop.client.post(f"/v1/coupons/assign/{codes[3]}", json={"userId": "bob"}), 422, "user_coupon_limit")
    keys = [codes[0], new_code()]
    ok(shop.client.post("/v1/books", json={"name": "b"}, headers={"Idempotency-Key": keys[1]}), 201)
    with service.redis() as client:
        for key in keys:
            (name,) = client.scan_iter(match=f"*:i:{key}", count=100_000)
            assert 0 < client.pttl(name) <= _HOUR_MS


class Holding:
    """Codes of a test workspace, each with any number of uses, and their timelines."""

    def __init__(self, service: Service) -> None:
        self.client = service.make_workspace(f"holding-{uuid4().hex}", "test").admin
        self.codes = [new_code(), new_code()]
        service.book(*self.codes, client=self.client, maxRedemptionsPerCode=None)

    def ask(
        self, name: str, code: str, status: int = 200, headers: dict[str, str] | None = None, **body: Any
    ) -> dict[str, Any]:
        response = self.client.post(f"/v1/coupons/{name}/{code}", json=body, headers=headers)
        assert response.status_code == status, response.text
        return response.json() if response.content else {}

    def past(self, code: str) -> list[tuple[Any, ...]]:
        """Holder, order and end of the code's past holds, the newest first, and the seconds to the deadline in
        hundreds: a busy machine takes some between requests."""
        timeline = ok(self.client.get("/console/data/timeline", params={"kind": "code", "name": code}))
        holds: list[tuple[Any, ...]] = []
        for hold in timeline["pastHolds"]["newest"]:
            since, until_ = (datetime.fromisoformat(hold[name]) for name in ("since", "until"))
            if hold["ended"] != "unknown":  # as it is until the end is noted
                assert since <= datetime.fromisoformat(hold["endedAt"]) <= until_
            hundreds = round((until_ - since).total_seconds(), -2)
            holds.append((hold["userId"], hold["orderId"], hold["ended"], hundreds))
        return holds


def test_the_history_of_locks(service: Service) -> None:
    """With `lockHistory` a code's timeline has each past hold once and how it ended, by the fast lane, Litestar and
    batches, also after repeated answers; without it nothing is noted."""
    place = Holding(service)
    code, other = place.codes
    token = place.ask("lock", other, 201, userId="off")["lockToken"]
    place.ask("unlock", other, 204, lockToken=token)
    ok(place.client.patch("/v1/workspace", json={"lockHistory": True}))
    once = {"Idempotency-Key": "once"}
    for _ in range(2):  # the second answer is the first one's
        token = place.ask("lock", code, 201, once, userId="ann", orderId="A-1")["lockToken"]
    place.ask("extend", code, lockToken=token, lockSeconds=400)
    place.ask("unlock", code, 204, lockToken=token)
    batch = {"operations": [{"op": "lock", "code": code, "userId": "bob", "orderId": "B-1", "lockSeconds": 200}]}
    (result,) = ok(place.client.post("/v1/batch", json=batch))["results"]
    place.ask("redeem", code, 201, userId="bob", orderId="B-1", lockToken=result["body"]["lockToken"])
    place.ask("unlock", code, 204, lockToken=result["body"]["lockToken"])  # releases nothing
    place.ask("unlock", code, 204, lockToken="of-no-lock")
    place.ask("lock", code, 201, userId="eve", lockSeconds=100)
    place.ask("lock", code, 200, {"Prefer": "wait=1"}, userId="eve", lockSeconds=300)  # by Litestar
    place.ask("lock", code, 201, userId="zoe", lockSeconds=900)
    ended = [("bob", "B-1", "redeemed", 200), ("ann", "A-1", "released", 400)]
    until(lambda: place.past(code) == ended)
    sql = "SELECT count(DISTINCT (user_id, until)) FROM lock_notes WHERE code = $1 AND user_id IN ('eve', 'zoe')"
    until(lambda: asyncio.run(service.fetch(sql, code))[0][0] == 3)  # the clock passes no deadline before it is noted
    later = datetime.now(UTC) + timedelta(seconds=400)
    ok(place.client.post("/v1/test/clock", json={"now": later.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    until(lambda: place.past(code) == [("eve", None, "expired", 300), *ended])
    assert place.past(other) == []
    ok(place.client.patch("/v1/workspace", json={"lockHistory": None}))
    place.ask("unlock", other, 204, lockToken=place.ask("lock", other, 201, userId="off")["lockToken"])
    ok(place.client.patch("/v1/workspace", json={"lockHistory": True}))
    token = place.ask("lock", other, 201, userId="on", lockSeconds=100)["lockToken"]
    place.ask("unlock", other, 204, lockToken=token)
    until(lambda: place.past(other) == [("on", None, "released", 100)])
