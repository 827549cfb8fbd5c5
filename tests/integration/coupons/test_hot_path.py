"""The hot path over HTTP, end to end: status codes, bodies and headers."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.harness.service_fixture import Service, new_code, new_id, ok, refused

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z").fullmatch
_COUPON = (
    "code bookId status userId redemptions maxRedemptions lock assignedAt expiresAt lastRedemption balance"
).split()
_REDEMPTION = (
    "redemptionId code bookId userId orderId orderValue currency discountAmount finalAmount balanceAfter redeemedAt "
    "rolledBackAt ipAddress userAgent metadata"
).split()
_TWENTY = {"type": "percentage", "value": 20, "maxAmount": 50, "minOrderValue": 10}


def _post(client: httpx.Client, path: str, key: str = "", **body: Any) -> httpx.Response:
    return client.post(path, json=body, headers={"Idempotency-Key": key} if key else {})


def _assign(service: Service, code: str, **body: Any) -> httpx.Response:
    return _post(service.checkout, f"/v1/coupons/assign/{code}", **body)


def _redeem(service: Service, code: str, **body: Any) -> httpx.Response:
    return _post(service.checkout, f"/v1/coupons/redeem/{code}", **body)


def _age_s(time_: str) -> float:
    """How long ago that was; negative in the future."""
    assert _TIME(time_), time_
    return (datetime.now(UTC) - datetime.fromisoformat(time_)).total_seconds()


def test_assign_any(service: Service) -> None:
    """Assigning from a book returns the whole coupon, each code once, until the book is out of stock."""
    codes, user = {new_code() for _ in range(3)}, new_id()
    book = service.book(*codes)
    given: set[str] = set()
    for _ in codes:
        coupon = ok(_post(service.checkout, "/v1/coupons/assign", bookId=book, userId=user), 201)
        assert list(coupon) == [*_COUPON, "durability"]
        assert coupon["durability"] == "fsynced"
        assert 0 <= _age_s(coupon.pop("assignedAt")) < 5
        given.add(coupon.pop("code"))
        assert coupon == {
            "bookId": book, "status": "assigned", "userId": user, "redemptions": 0, "maxRedemptions": 1, "lock": None,
            "expiresAt": None, "lastRedemption": None, "balance": None, "durability": "fsynced",
        }  # fmt: skip
    assert given == codes
    refused(_post(service.checkout, "/v1/coupons/assign", bookId=book, userId=new_id()), 409, "out_of_stock")


def test_assign_a_code(service: Service) -> None:
    """Assigning a code is 201 at first, 200 for its owner again, in either case of letters; others are refused."""
    code, user = service.coupon(), new_id()
    first = ok(_assign(service, code.lower(), userId=user), 201)
    assert (first["code"], first["userId"], first["status"]) == (code, user, "assigned")
    assert ok(_assign(service, code, userId=user), 200) == first
    refused(_assign(service, code, userId=new_id()), 409, "coupon_assigned_to_other")
    refused(_assign(service, new_code(), userId=user), 404, "coupon_not_found")


def test_an_assignment_is_taken_back(service: Service) -> None:
    """An unassign answers 200 with the whole free coupon; counts and lists of its user no longer have it."""
    code, other, user = new_code(), new_code(), new_id()
    book = service.book(code, other)

    def list_codes() -> list[str]:
        return [item["code"] for item in ok(service.checkout.get(f"/v1/users/{user}/coupons"))["items"]]

    for each in (code, other):
        ok(_assign(service, each, userId=user), 201)
    assert {*list_codes()} == {other, code}  # both may be of the same millisecond
    coupon = ok(_post(service.manage, f"/v1/coupons/unassign/{code.lower()}"), 200)
    assert list(coupon) == [*_COUPON, "durability"]
    assert coupon == dict.fromkeys(_COUPON) | {
        "code": code, "bookId": book, "status": "available", "redemptions": 0, "maxRedemptions": 1,
        "durability": "fsynced",
    }  # fmt: skip
    refused(_post(service.manage, f"/v1/coupons/unassign/{code}"), 409, "coupon_not_assigned")
    assert list_codes() == [other]
    assert ok(service.checkout.get(f"/v1/users/{user}"))["coupons"] == 1
    assert service.stats(book)["assigned"] == 1


def test_lock_extend_unlock(service: Service) -> None:
    """A lock lasts its book's lockSeconds, is the same when repeated, is only ever extended, and is released once."""
    code, user, order = service.coupon(lockSeconds=100, maxLockSeconds=200), new_id(), new_id("order")
    path = f"/v1/coupons/lock/{code}"
    lock = ok(_post(service.checkout, path, userId=user, orderId=order), 201)
    own = ["lockToken", "code", "bookId", "userId", "orderId", "lockSeconds", "expiresAt"]
    assert list(lock) == [*own, "orderValue", "currency", "discountAmount", "finalAmount", "amount"]
    assert (lock["code"], lock["userId"], lock["orderId"]) == (code, user, order)
    assert 98 < -_age_s(lock["expiresAt"]) <= 100
    again = ok(_post(service.checkout, path, userId=user, orderId=order, lockSeconds=1), 200)
    assert (again["lockToken"], again["expiresAt"]) == (lock["lockToken"], lock["expiresAt"])
    seen = ok(service.checkout.get(f"/v1/coupons/{code}"))
    assert seen["status"] == "locked"
    assert seen["lock"] == {"userId": user, "orderId": order, "expiresAt": lock["expiresAt"]}

    waiting = _post(service.checkout, path, userId=new_id())
    refused(waiting, 409, "coupon_locked")
    assert 95 <= int(waiting.headers["Retry-After"]) <= 100

    extend, token = f"/v1/coupons/extend/{code}", lock["lockToken"]
    longer = ok(_post(service.checkout, extend, lockToken=token, lockSeconds=150))
    assert 148 < -_age_s(longer["expiresAt"]) <= 150
    for _ in range(2):
        released = _post(service.checkout, f"/v1/coupons/unlock/{code}", lockToken=token)
        assert (released.status_code, released.content) == (204, b"")
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "available"
    refused(_redeem(service, code, userId=user, lockToken=token), 409, "lock_lost")


def test_redeem(service: Service) -> None:
    """A redemption has all its fields, money with the currency's digits; its repeat for the order is 200 and equal."""
    code, user, order = service.coupon(discount=_TWENTY), new_id(), new_id("order")
    body: dict[str, Any] = {"userId": user, "orderId": order, "orderValue": 120.5, "metadata": {"a": ["ü", 1.5, None]}}
    answer = service.checkout.post(
        f"/v1/coupons/redeem/{code}", json=body, headers=[(b"User-Agent", "till/1 ü".encode())]
    )
    made = ok(answer, 201)
    assert list(made) == [*_REDEMPTION, "durability"]
    assert UUID(made["redemptionId"]).version == 7
    assert 0 <= _age_s(made["redeemedAt"]) < 5
    assert made | {"redemptionId": 0, "bookId": 0, "redeemedAt": 0} == {
        "redemptionId": 0, "code": code, "bookId": 0, "userId": user, "orderId": order, "orderValue": "120.50",
        "currency": "USD", "discountAmount": "24.10", "finalAmount": "96.40", "balanceAfter": None, "redeemedAt": 0,
        "rolledBackAt": None,
        "ipAddress": "127.0.0.1", "userAgent": "till/1 ??", "metadata": body["metadata"], "durability": "fsynced",
    }  # fmt: skip
    again = service.checkout.post(f"/v1/coupons/redeem/{code}", json=body)
    assert ok(again, 200) == made
    assert "Idempotency-Replayed" not in again.headers
    refused(_redeem(service, code, userId=new_id(), orderValue=50), 409, "coupon_redeemed")
    seen = ok(service.checkout.get(f"/v1/coupons/{code}"))
    assert (seen["status"], seen["redemptions"], seen["userId"]) == ("redeemed", 1, None)
    assert seen["lastRedemption"] == {name: made[name] for name in ("redemptionId", "userId", "orderId", "redeemedAt")}


def test_the_demos_tiers_and_free_units(service: Service) -> None:
    """TIERED-1 discounts larger orders more, BUY2GET1 makes one unit of three free; validate names the same amounts."""
    items = [{"sku": "tea", "quantity": 3, "unitPrice": 20}]
    for code, value, discount in (("TIERED-1", 60, "3.00"), ("TIERED-1", 240, "30.00"), ("BUY2GET1", 60, "20.00")):
        body = {"userId": new_id(), "orderValue": value, "items": items}
        validated = ok(_post(service.checkout, "/v1/coupons/validate", code=code, **body))
        assert ok(_redeem(service, code, **body), 201)["discountAmount"] == validated["discountAmount"] == discount


def test_idempotency_keys(service: Service) -> None:
    """A repeat under an Idempotency-Key has the first answer's bytes and a header; any other body is refused."""
    key, path, body = new_id("key"), f"/v1/coupons/redeem/{service.coupon()}", {"userId": new_id()}
    first = _post(service.checkout, path, key, **body)
    ok(first, 201)
    assert "Idempotency-Replayed" not in first.headers
    again = _post(service.checkout, path, key, **body)
    assert (again.status_code, again.content) == (201, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    refused(_post(service.checkout, path, key, **body, colour=1), 400, "malformed", "colour")
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    spaced = service.checkout.post(path, content=b" " + first.request.content, headers=headers)
    refused(spaced, 422, "idempotency_key_reused")


@pytest.mark.parametrize(
    "prefer", ["durability=recorded", "durability=recorded, wait=5", 'wait="5", durability="recorded"']
)
async def test_recorded(service: Service, prefer: str) -> None:
    """With `Prefer: durability=recorded` response and replay come once Postgres has the change, and name it."""
    code, headers = service.coupon(), {"Prefer": prefer, "Idempotency-Key": new_id("key")}
    made: dict[str, Any] = {}
    for _ in range(2):
        answer = service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"}, headers=headers)
        made = ok(answer, 201)
        assert made["durability"] == "recorded"
        assert answer.headers["Preference-Applied"] == "durability=recorded"
        rows = await service.fetch("SELECT code FROM redemptions WHERE redemption_id = $1", UUID(made["redemptionId"]))
        assert [row["code"] for row in rows] == [code]
    path = f"/v1/redemptions/{made['redemptionId']}/rollback"
    rolled = service.manage.post(path, json={}, headers={"Prefer": prefer})
    assert ok(rolled)["durability"] == "recorded"
    assert rolled.headers["Preference-Applied"] == "durability=recorded"


def test_unmet_preferences(service: Service) -> None:
    """Another preference, or one that can't be parsed, is ignored: the response names no applied preference."""
    for prefer in ("wait=5", "return=minimal", "durability=accepted", "durability=fsynced", ",,;="):
        answer = service.checkout.post(
            f"/v1/coupons/redeem/{service.coupon()}", json={"userId": "u"}, headers={"Prefer": prefer}
        )
        assert ok(answer, 201)["durability"] == "fsynced"
        assert "Preference-Applied" not in answer.headers
