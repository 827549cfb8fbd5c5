"""A workspace's settings over HTTP: each is read back as it was set, and governs the next request."""

from uuid import uuid4

import pytest

from tests.harness.service_fixture import Service, new_code, ok, refused

_DEFAULTS = {
    "currency": "USD",
    "couponsPerOrder": 1,
    "maxCoupons": None,
    "giftBookId": None,
    "idempotencyHours": 24,
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
        "maxCoupons": 7,
        "giftBookId": service.book(client=shop.client),
        "idempotencyHours": 8760,
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
    service.book(*codes, client=shop.client, discount={"type": "fixed", "value": 2, "currency": "JPY"})
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
