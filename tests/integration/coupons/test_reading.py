"""Reads over HTTP: validation, coupons, histories, counts, health, and unknown paths."""

from typing import Any

import httpx
import pytest

from service.engine.formats import key_names
from tests.harness.service_fixture import Service, new_code, new_id, ok, pages, refused
from tests.harness.waiting import until


def _redeem(service: Service, code: str, **body: Any) -> dict[str, Any]:
    return ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)


def _validate(client: httpx.Client, code: str, **body: Any) -> dict[str, Any]:
    """Validate by POST and, where a query can have these fields, by GET; both answers are equal."""
    answer = ok(client.post("/v1/coupons/validate", json={"code": code} | body))
    if body.keys() <= {"userId", "orderValue", "currency"}:
        assert ok(client.get(f"/v1/coupons/{code}/validate", params=body)) == answer
    return answer


def test_validate(service: Service) -> None:
    """Validate answers the discount and the coupon, or every reason in the order of a redemption's refusals."""
    code = service.coupon(discount={"type": "percentage", "value": "12.5", "maxAmount": 5})
    answer = _validate(service.checkout, code, userId=new_id(), orderValue="30.04")
    coupon = ok(service.checkout.get(f"/v1/coupons/{code}"))
    assert list(answer) == ["valid", "reasons", "refusals", "currency", "discountAmount", "finalAmount", "coupon"]
    assert list(answer.values()) == [True, [], [], "USD", "3.76", "26.28", coupon]
    ok(service.manage.patch(f"/v1/books/{coupon['bookId']}", json={"status": "inactive", "requireLock": True}))
    answer = _validate(service.checkout, code, userId=new_id())
    reasons = ["book_inactive", "lock_required", "order_value_required"]
    assert (answer["valid"], answer["reasons"], answer["discountAmount"]) == (False, reasons, None)
    answer = _validate(service.checkout, code, orderValue=25, lockToken="x")
    assert answer["reasons"] == ["book_inactive", "lock_lost"]


def test_reads_see_what_was_answered(service: Service) -> None:
    """Coupon, counts, user and histories show each change as soon as it is answered."""
    user, codes = new_id(), [new_code() for _ in range(7)]
    book = service.book(*codes, discount={"type": "fixed", "value": "2.50"})
    for number, code in enumerate(codes, 1):
        ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
        assert ok(service.checkout.get(f"/v1/users/{user}"))["coupons"] == 1
        held = ok(service.checkout.get(f"/v1/users/{user}/coupons"))["items"]
        assert held[0] == ok(service.checkout.get(f"/v1/coupons/{code}"))
        redemption = _redeem(service, code, userId=user, orderValue=10)
        assert redemption.pop("durability") == "fsynced"
        for path in (f"/v1/users/{user}", f"/v1/books/{book}", f"/v1/coupons/{code}"):
            response = service.manage.get(f"{path}/redemptions")
            assert ok(response)["items"][0] == redemption
            assert "Scrip-Lag-Seconds" not in response.headers
        assert ok(service.checkout.get(f"/v1/users/{user}"))["coupons"] == 0
        assert service.stats(book) == {
            "codes": 7, "available": 7 - number, "assigned": 0, "locked": 0, "redeemed": number, "exhausted": 0,
            "inactive": 0, "redemptions": number, "rolledBack": 0, "discountTotal": f"{number * 2.5:.2f}", "users": 1,
            "budgets": [], "balance": None,
        }  # fmt: skip
    for path in (f"/v1/users/{user}/redemptions", f"/v1/books/{book}/redemptions", f"/v1/users/{user}/coupons"):
        assert [item["code"] for page in pages(service.manage, path, limit=3) for item in page] == codes[::-1]


def test_a_redemption_is_read_by_its_id(service: Service) -> None:
    """It is the redemption, as soon as it was answered, and so is its rollback."""
    for _ in range(10):
        redemption = _redeem(service, service.coupon(), userId=new_id(), orderId=new_id("order"), orderValue=10)
        assert redemption.pop("durability") == "fsynced"
        path = f"/v1/redemptions/{redemption['redemptionId']}"
        response = service.checkout.get(path)
        assert (ok(response), "Scrip-Lag-Seconds" in response.headers) == (redemption, False)
        rolled_back = ok(service.manage.post(f"{path}/rollback", json={}))
        rolled_back.pop("durability")
        assert rolled_back["rolledBackAt"]
        assert ok(service.manage.get(path)) == rolled_back


def test_a_users_coupons_by_status(service: Service) -> None:
    """A user's coupon is listed under its own status alone, also while it is locked."""
    user = new_id()
    codes = {status: new_code() for status in ("assigned", "redeemed", "exhausted", "inactive", "expired")}
    service.book(codes["exhausted"], maxRedemptionsPerCode=2)
    service.book(*(code for status, code in codes.items() if status != "exhausted"))
    for code in codes.values():
        ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    for code in (codes["redeemed"], codes["exhausted"], codes["exhausted"]):
        ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user}), 201)
    ok(service.checkout.post(f"/v1/coupons/lock/{codes['assigned']}", json={"userId": user}), 201)
    ok(service.manage.patch(f"/v1/coupons/{codes['inactive']}", json={"status": "inactive"}))
    ok(service.manage.patch(f"/v1/coupons/{codes['expired']}", json={"expiresAt": "2026-01-01T00:00:00Z"}))
    path = f"/v1/users/{user}/coupons"
    for status, code in codes.items():
        listed = ok(service.checkout.get(path, params={"status": status}))["items"]
        assert [(coupon["code"], coupon["status"]) for coupon in listed] == [(code, status)]
    assert len(ok(service.checkout.get(path))["items"]) == 5


def test_a_change_governs_the_next_request(service: Service) -> None:
    """The request after an answered PATCH of a book or a coupon follows it, ten times."""
    code = service.coupon(maxRedemptionsPerCode=None)
    book = ok(service.checkout.get(f"/v1/coupons/{code}"))["bookId"]
    for _ in range(10):
        for path, body, refusal in (
            (f"/v1/books/{book}", {"status": "inactive"}, "book_inactive"),
            (f"/v1/books/{book}", {"status": "active", "validUntil": "2026-01-01T00:00:00Z"}, "expired"),
            (f"/v1/books/{book}", {"validUntil": None}, None),
            (f"/v1/coupons/{code}", {"status": "inactive"}, "coupon_inactive"),
            (f"/v1/coupons/{code}", {"status": "active", "expiresAt": "2026-01-01T00:00:00Z"}, "expired"),
            (f"/v1/coupons/{code}", {"expiresAt": None}, None),
        ):
            ok(service.manage.patch(path, json=body))
            response = service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"})
            if refusal:
                refused(response, 409, refusal)
            else:
                ok(response, 201)
    assert service.stats(book)["redemptions"] == 20


def test_request_ids(service: Service) -> None:
    """Each response carries the caller's request id if it is valid, else a new one."""
    for sent in ("abc", "x" * 128, "a:b/c=d~!"):
        for path in ("/", "/v1/nothing", "/v1/books", "/health/live", "/metrics", "/schema", "/v1/coupons/assign"):
            response = service.anonymous.get(path, headers={"X-Request-Id": sent})
            assert response.headers.get_list("X-Request-Id") == [sent]
    made = set()
    for bad in (b"", b"x" * 129, b"a b", "é".encode(), b"\x80"):
        response = service.anonymous.get("/v1/nothing", headers=[(b"X-Request-Id", bad)])
        assert refused(response, 404, "not_found")["requestId"] not in {bad.decode("latin-1"), ""}
        made.add(response.headers["X-Request-Id"])
    assert len(made) == 5


def test_health(service: Service) -> None:
    """Live and ready answer without a key, and each path in the index exists."""
    assert ok(service.anonymous.get("/health/live")) == {"status": "live"}
    ready = until(lambda: response if (response := service.anonymous.get("/health/ready")).is_success else None)
    assert ready.json() == {"status": "ready", "failing": [], "partitions": []}
    index = ok(service.anonymous.get("/"))
    assert all(service.anonymous.get(path).is_success for name, path in index.items() if name != "service")


def test_consistency(service: Service) -> None:
    """Once the worker has recorded everything, the lag is 0 and `lastRecorded` is the outbox's last entry."""
    _redeem(service, service.coupon(), userId="u")
    service.recorded()
    consistency = ok(service.operate.get("/v1/ops/consistency"))
    with service.redis() as client:
        ((last, _),) = client.xrevrange(key_names.outbox(service.partition), count=1)
    lag = {"state": "open", "lagEvents": 0, "lagSeconds": 0.0, "lastRecorded": last}
    compared = ["lastReconciledAt", "reconciledTo", "drift"]  # tests/integration/comparing/test_reconcile.py
    assert list(consistency) == [*lag, *compared, "failing"]
    assert consistency == consistency | lag | {"failing": []}


@pytest.mark.parametrize(
    "path",
    [
        "/v1", "/v2/books", "/v1/book", "/nothing", "/v1/coupons/a/b/c", "/v1/books/x/nothing", "/health", "/v1/%00",
        "/schema/assets/../../app.py", "/schema/assets/nothing.js", "/schema/assets/%2e%2e/__init__.py", "/.git/config",
    ],
)  # fmt: skip
def test_unknown_paths(service: Service, path: str) -> None:
    """A path that does not exist is `not_found`, also without a key."""
    refused(service.anonymous.get(path), 404, "not_found")
