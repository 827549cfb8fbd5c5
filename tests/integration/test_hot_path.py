"""The hot path over HTTP, end to end: statuses, bodies, headers, word for word as clients are promised them."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.service_fixture import Service, new_code, new_id, ok, refused

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z").fullmatch
_COUPON = ("code bookId status userId redemptions maxRedemptions lock assignedAt expiresAt lastRedemption").split()
_REDEMPTION = (
    "redemptionId code bookId userId orderId orderValue currency discountAmount finalAmount redeemedAt rolledBackAt "
    "ipAddress userAgent metadata"
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
    """A free coupon is given as the whole coupon, now assigned, each code once, until nothing is left."""
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
            "expiresAt": None, "lastRedemption": None, "durability": "fsynced",
        }  # fmt: skip
    assert given == codes
    refused(_post(service.checkout, "/v1/coupons/assign", bookId=book, userId=new_id()), 409, "out_of_stock")


def test_assign_a_code(service: Service) -> None:
    """A named coupon is 201 the first time, 200 for its owner again, in whatever case it is spelt, and no other's."""
    code, user = service.coupon(), new_id()
    first = ok(_assign(service, code.lower(), userId=user), 201)
    assert (first["code"], first["userId"], first["status"]) == (code, user, "assigned")
    assert ok(_assign(service, code, userId=user), 200) == first
    refused(_assign(service, code, userId=new_id()), 409, "coupon_assigned_to_other")
    refused(_assign(service, new_code(), userId=user), 404, "coupon_not_found")


def test_lock_extend_unlock(service: Service) -> None:
    """A lock lives as long as its book says, is the same when asked for again, moves forward, and is released once."""
    code, user, order = service.coupon(lockSeconds=100, maxLockSeconds=200), new_id(), new_id("order")
    path = f"/v1/coupons/lock/{code}"
    lock = ok(_post(service.checkout, path, userId=user, orderId=order), 201)
    assert list(lock) == ["lockToken", "code", "bookId", "userId", "orderId", "expiresAt"]
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
    refused(_assign(service, code, userId=new_id()), 409, "coupon_locked")
    refused(_redeem(service, code, userId=new_id()), 409, "coupon_locked")

    extend, token = f"/v1/coupons/extend/{code}", lock["lockToken"]
    longer = ok(_post(service.checkout, extend, lockToken=token, lockSeconds=150))
    assert 148 < -_age_s(longer["expiresAt"]) <= 150
    longest = ok(_post(service.checkout, extend, lockToken=token, lockSeconds=5000))
    assert 195 < -_age_s(longest["expiresAt"]) <= 200
    refused(_post(service.checkout, extend, lockToken=token, lockSeconds=5000), 422, "lock_ceiling")
    refused(_post(service.checkout, extend, lockToken="another"), 409, "lock_lost")

    for _ in range(2):
        released = _post(service.checkout, f"/v1/coupons/unlock/{code}", lockToken=token)
        assert (released.status_code, released.content) == (204, b"")
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "available"
    refused(_post(service.checkout, extend, lockToken=token), 409, "lock_lost")
    refused(_redeem(service, code, userId=user, lockToken=token), 409, "lock_lost")


def test_redeem(service: Service) -> None:
    """A redemption tells everything, money with the currency's digits, and a repeat for the order is the same, 200."""
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
        "currency": "USD", "discountAmount": "24.10", "finalAmount": "96.40", "redeemedAt": 0, "rolledBackAt": None,
        "ipAddress": "127.0.0.1", "userAgent": "till/1 ??", "metadata": body["metadata"], "durability": "fsynced",
    }  # fmt: skip
    again = service.checkout.post(f"/v1/coupons/redeem/{code}", json=body)
    assert ok(again, 200) == made
    assert "Idempotency-Replayed" not in again.headers
    refused(_redeem(service, code, userId=new_id(), orderValue=50), 409, "coupon_redeemed")
    seen = ok(service.checkout.get(f"/v1/coupons/{code}"))
    assert (seen["status"], seen["redemptions"], seen["userId"]) == ("redeemed", 1, None)
    assert seen["lastRedemption"] == {name: made[name] for name in ("redemptionId", "userId", "orderId", "redeemedAt")}


def test_redeem_by_tiers_and_by_free_units(service: Service) -> None:
    """A book with tiers, then with free units, is answered as it was said, and validate and redeem reckon with it."""
    tiers = [
        {"from": "10.00", "type": "percentage", "value": "10"},
        {"from": "50.00", "type": "fixed", "value": "7.50"},
    ]
    plain = {"maxAmount": None, "minOrderValue": None, "currency": None}
    tiered = {"type": "tiered", "tiers": tiers} | plain
    code = new_code()
    path = "/v1/books/" + service.book(code, discount=tiered, maxRedemptionsPerCode=None)
    assert ok(service.manage.get(path))["discount"] == tiered
    items = [
        {"sku": "tea", "quantity": 2, "unitPrice": 4.5},
        {"sku": "cup", "quantity": 2, "unitPrice": "12"},
        {"sku": "tea", "quantity": 1, "unitPrice": "3.00"},
    ]

    def takes(discount: str, value: str) -> None:
        body = {"userId": new_id(), "orderId": new_id("order"), "orderValue": value, "items": items}
        said = ok(_post(service.checkout, "/v1/coupons/validate", code=code, **body))
        made = ok(_redeem(service, code, **body), 201)
        assert said["valid"]
        assert said["discountAmount"] == made["discountAmount"] == discount
        assert said["finalAmount"] == made["finalAmount"] == f"{Decimal(value) - Decimal(discount):.2f}"

    takes("1.00", "10")
    takes("3.60", "36")
    takes("7.50", "50.00")
    refused(_redeem(service, code, userId="u", orderValue="9.99"), 422, "order_value_too_low")
    by_address = service.checkout.get(f"/v1/coupons/{code}/validate", params={"orderValue": "9.99"})
    assert ok(by_address)["reasons"] == ["order_value_too_low"]

    free = {"type": "buyXGetY", "buy": 2, "get": 1} | plain
    assert ok(service.manage.patch(path, json={"discount": free}))["discount"] == free
    assert ok(service.manage.get(path))["discount"] == free
    takes("3.00", "36")
    takes("2.00", "2")
    refused(_redeem(service, code, userId="u", items=items), 422, "order_value_required")
    bare = ok(_redeem(service, code, userId=new_id(), orderValue="36"), 201)
    assert bare["discountAmount"] == "0.00"


def test_the_demos_tiers_and_free_units(service: Service) -> None:
    """TIERED-1 takes more off larger orders, and of three of a kind BUY2GET1 gives one."""
    items = [{"sku": "tea", "quantity": 3, "unitPrice": 20}]
    for code, value, discount in (("TIERED-1", 60, "3.00"), ("TIERED-1", 240, "30.00"), ("BUY2GET1", 60, "20.00")):
        body = {"userId": new_id(), "orderValue": value, "items": items}
        assert ok(_redeem(service, code, **body), 201)["discountAmount"] == discount


def test_redeem_without_a_discount_or_a_value(service: Service) -> None:
    """Without a discount nothing is taken off; without a value there is no final amount."""
    bare = ok(_redeem(service, service.coupon(), userId=new_id()), 201)
    assert [bare[name] for name in ("orderId", "orderValue", "currency", "discountAmount", "finalAmount")] == [
        None, None, "USD", "0.00", None,
    ]  # fmt: skip
    path = f"/v1/coupons/redeem/{service.coupon()}"
    valued = ok(_post(service.checkout, path, userId=new_id(), orderValue="7.000"), 201)
    assert (valued["orderValue"], valued["discountAmount"], valued["finalAmount"]) == ("7.00", "0.00", "7.00")
    yen = service.coupon(discount={"type": "fixed", "value": 500, "currency": "JPY"})
    refused(_redeem(service, yen, userId="u", orderValue=1, currency="USD"), 422,
            "currency_mismatch")  # fmt: skip
    told = ok(_redeem(service, yen, userId="u", orderValue=400), 201)
    assert [told[name] for name in ("orderValue", "currency", "discountAmount", "finalAmount")] == [
        "400",
        "JPY",
        "400",
        "0",
    ]


def test_idempotency_keys(service: Service) -> None:
    """Under its key every request of the hot path answers what it answered first, byte for byte, though all changed."""
    code, user, order = service.coupon(maxRedemptionsPerCode=5), new_id(), new_id("order")
    book = ok(service.checkout.get(f"/v1/coupons/{code}"))["bookId"]
    ok(service.manage.post(f"/v1/books/{book}/codes", json={"codes": [new_code() for _ in range(5)]}))
    asked: list[tuple[httpx.Client, str, dict[str, Any]]] = [
        (service.checkout, "/v1/coupons/assign", {"bookId": book, "userId": user}),
        (service.checkout, f"/v1/coupons/assign/{code}", {"userId": user}),
        (service.checkout, f"/v1/coupons/lock/{code}", {"userId": user, "orderId": order}),
    ]
    key, firsts = uuid4().hex, list[httpx.Response]()

    def ask(client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response:
        firsts.append(_post(client, path, f"{key} {len(firsts)}", **body))
        assert firsts[-1].is_success, firsts[-1].text
        assert "Idempotency-Replayed" not in firsts[-1].headers
        return firsts[-1]

    token = [ask(*request) for request in asked][-1].json()["lockToken"]
    for path, body in (
        (f"/v1/coupons/extend/{code}", {"lockToken": token, "lockSeconds": 900}),
        (f"/v1/coupons/redeem/{code}", {"userId": user, "orderId": order, "lockToken": token}),
        (f"/v1/coupons/unlock/{code}", {"lockToken": token}),
    ):
        asked.append((service.checkout, path, body))
        ask(*asked[-1])
    redemption = firsts[4].json()["redemptionId"]
    asked.append((service.manage, f"/v1/redemptions/{redemption}/rollback", {"reason": "test"}))
    ask(*asked[-1])

    for number, ((client, path, body), first) in enumerate(zip(asked, firsts, strict=True)):
        again = _post(client, path, f"{key} {number}", **body)
        assert (again.status_code, again.content) == (first.status_code, first.content), path
        assert again.headers["Idempotency-Replayed"] == "true"
        refused(_post(client, path, f"{key} {number}", **body | {"colour": 1}), 400, "malformed", "colour")
        headers = {"Idempotency-Key": f"{key} {number}", "Content-Type": "application/json"}
        other = client.post(path, content=b" " + first.request.content, headers=headers)
        refused(other, 422, "idempotency_key_reused")
    late = _post(service.checkout, f"/v1/coupons/lock/{code}", f"{key} 1", userId=user)
    refused(late, 422, "idempotency_key_reused")


@pytest.mark.parametrize(
    "prefer", ["durability=recorded", "durability=recorded, wait=5", 'wait="5", durability="recorded"']
)
def test_recorded(service: Service, prefer: str) -> None:
    """Who prefers it hears when the change is in Postgres, and that the preference was met; a replay too."""
    code, user, key = service.coupon(), new_id(), uuid4().hex
    headers = {"Prefer": prefer, "Idempotency-Key": key}
    made: set[str] = set()
    for _ in range(2):
        answer = service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}, headers=headers)
        assert ok(answer, 201)["durability"] == "recorded"
        assert answer.headers["Preference-Applied"] == "durability=recorded"
        made.add(answer.json()["redemptionId"])
    path = f"/v1/redemptions/{made.pop()}/rollback"
    rolled = service.manage.post(path, json={}, headers={"Prefer": prefer})
    assert ok(rolled)["durability"] == "recorded"
    assert rolled.headers["Preference-Applied"] == "durability=recorded"


async def test_recorded_is_in_postgres(service: Service) -> None:
    """What is answered as recorded is there to read at once."""
    code = service.coupon()
    headers = {"Prefer": "durability=recorded"}
    made = ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"}, headers=headers), 201)
    rows = await service.fetch("SELECT code FROM redemptions WHERE redemption_id = $1", UUID(made["redemptionId"]))
    assert [row["code"] for row in rows] == [code]


def test_unmet_preferences(service: Service) -> None:
    """Without the preference, with another one, or with no time to wait, nothing is said to be applied."""
    for prefer in ("wait=5", "return=minimal", "durability=accepted", "DURABILITY", ",,;=", "durability=recorded-not"):
        answer = service.checkout.post(
            f"/v1/coupons/redeem/{service.coupon()}", json={"userId": "u"}, headers={"Prefer": prefer}
        )
        assert ok(answer, 201)["durability"] == "fsynced"
        assert "Preference-Applied" not in answer.headers
