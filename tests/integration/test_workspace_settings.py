"""A workspace's settings: each is read back as it was set, governs what comes after, and refuses nonsense by name."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.service_fixture import Service, new_code, new_id, ok, refused

_DEFAULTS = {
    "currency": "USD",
    "couponsPerOrder": 1,
    "maxCoupons": None,
    "giftBookId": None,
    "idempotencyHours": 24,
}
_HOUR_MS = 3_600_000


class Shop:
    """A workspace with its settings."""

    def __init__(self, service: Service) -> None:
        self.service, self.name = service, f"shop-{uuid4().hex}"
        self.client: httpx.Client = service.make_workspace(self.name, "live")

    def read(self) -> dict[str, Any]:
        """The settings."""
        told = ok(self.client.get("/v1/workspace"))
        return {name: told[name] for name in _DEFAULTS}

    def patch(self, **said: Any) -> dict[str, Any]:
        """Change settings; all of them."""
        told = ok(self.client.patch("/v1/workspace", json=said))
        assert told == ok(self.client.get("/v1/workspace"))
        return {name: told[name] for name in _DEFAULTS}

    def book(self, *codes: str, **said: Any) -> str:
        """A new book's id."""
        return self.service.book(*codes, client=self.client, **said)

    def ask(self, verb: str, code: str, **body: Any) -> httpx.Response:
        """One request of the hot path."""
        return self.client.post(f"/v1/coupons/{verb}/{code}", json=body)


@pytest.fixture(scope="module")
def shared_shop(service: Service) -> Shop:
    """The workspace of this module."""
    return Shop(service)


@pytest.fixture
def shop(shared_shop: Shop) -> Iterator[Shop]:
    """The workspace with its defaults, before and after."""
    yield shared_shop
    assert shared_shop.patch(**dict.fromkeys(_DEFAULTS)) == _DEFAULTS


def test_settings_are_read_back(shop: Shop) -> None:
    """Each setting is changed alone, all at once, and cleared by null to its default."""
    assert shop.read() == _DEFAULTS
    said = {
        "currency": "JPY",
        "couponsPerOrder": 100,
        "maxCoupons": 7,
        "giftBookId": shop.book(),
        "idempotencyHours": 8760,
    }
    for name, value in said.items():
        assert shop.patch(**{name: value}) == _DEFAULTS | {name: value}
        assert shop.patch(**{name: None}) == _DEFAULTS
    assert shop.patch(**said) == said
    assert shop.patch() == said


def test_a_gift_book_is_ones_own(service: Service, shop: Shop) -> None:
    """Another workspace's book is no gift here: it is refused as one that nobody has, in the same words."""
    others, nobodys = service.book(), str(uuid4())
    told = [
        refused(shop.client.patch("/v1/workspace", json={"giftBookId": book}), 422, "invalid", "giftBookId")
        for book in (others, nobodys)
    ]
    assert told[0]["errors"] == told[1]["errors"]
    own = shop.book()
    assert shop.patch(giftBookId=own)["giftBookId"] == own
    refused(shop.client.patch("/v1/workspace", json={"giftBookId": others}), 422, "invalid", "giftBookId")
    assert shop.read()["giftBookId"] == own


def test_coupons_per_order(shop: Shop) -> None:
    """An order takes as many coupons as the workspace says now."""
    codes, order = [new_code() for _ in range(4)], new_id("order")
    shop.book(*codes)
    shop.patch(couponsPerOrder=2)
    for code in codes[:2]:
        ok(shop.ask("redeem", code, userId="ann", orderId=order), 201)
    refused(shop.ask("redeem", codes[2], userId="ann", orderId=order), 409, "order_already_used")
    shop.patch(couponsPerOrder=3)
    ok(shop.ask("redeem", codes[2], userId="ann", orderId=order), 201)
    shop.patch(couponsPerOrder=None)
    refused(shop.ask("redeem", codes[3], userId="ann", orderId=order), 409, "order_already_used")
    refused(shop.ask("redeem", codes[3], userId="ann", orderId=order, currency="USD"), 409, "order_already_used")
    ok(shop.ask("redeem", codes[3], userId="ann", orderId=new_id("order")), 201)


def test_coupons_of_a_user(shop: Shop) -> None:
    """A user without a bound of its own holds at most what the workspace says, and one with its own that many."""
    codes, user, favoured = [new_code() for _ in range(6)], new_id(), new_id()
    shop.book(*codes)
    ok(shop.client.patch(f"/v1/users/{favoured}", json={"maxCoupons": 2}))
    shop.patch(maxCoupons=1)
    ok(shop.ask("assign", codes[0], userId=user), 201)
    refused(shop.ask("assign", codes[1], userId=user), 422, "user_coupon_limit")
    for code in codes[1:3]:
        ok(shop.ask("assign", code, userId=favoured), 201)
    refused(shop.ask("assign", codes[3], userId=favoured), 422, "user_coupon_limit")
    assert ok(shop.client.get(f"/v1/users/{user}"))["maxCoupons"] == 1
    shop.patch(maxCoupons=None)
    ok(shop.ask("assign", codes[4], userId=user), 201)
    assert ok(shop.client.get(f"/v1/users/{user}"))["maxCoupons"] is None


def test_the_currency(shop: Shop) -> None:
    """A discount without a currency follows the workspace's, which must have the digits for it; others keep theirs."""
    own, follows = new_code(), new_code()
    shop.book(own, discount={"type": "fixed", "value": "1.50", "currency": "EUR"})
    cents = shop.book(follows, discount={"type": "fixed", "value": "1.50"})
    refused(shop.client.patch("/v1/workspace", json={"currency": "JPY"}), 422, "invalid")
    assert shop.read() == _DEFAULTS
    ok(shop.client.patch(f"/v1/books/{cents}", json={"discount": {"type": "fixed", "value": 2}}))
    shop.patch(currency="JPY")
    for code, currency, amount in ((follows, "JPY", "2"), (own, "EUR", "1.50")):
        said = {"userId": "ann", "orderValue": 10}
        refused(shop.ask("redeem", code, **said, currency="USD"), 422, "currency_mismatch")
        told = ok(shop.ask("redeem", code, **said, currency=currency), 201)
        assert (told["currency"], told["discountAmount"]) == (currency, amount)
    ok(shop.client.patch(f"/v1/books/{cents}", json={"discount": None}))


def test_idempotency_hours(shop: Shop) -> None:
    """A key is known for the hours that hold when it is used, on the hot path and off it; earlier ones keep theirs."""
    keys: list[tuple[int, str]] = []
    for hours in (24, 1, 8760):
        shop.patch(idempotencyHours=hours)
        for path, body in ((f"/v1/coupons/redeem/{_coupon(shop)}", {"userId": "ann"}), ("/v1/books", {"name": "b"})):
            keys.append((hours, uuid4().hex))
            ok(shop.client.post(path, json=body, headers={"Idempotency-Key": keys[-1][1]}), 201)
    with shop.service.redis() as client:
        for hours, key in keys:
            (name,) = client.scan_iter(match=f"*:i:{key}", count=100_000)
            assert (hours - 1) * _HOUR_MS < client.pttl(name) <= hours * _HOUR_MS


def _coupon(shop: Shop) -> str:
    code = new_code()
    shop.book(code)
    return code
