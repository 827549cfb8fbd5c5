"""What is read after it was answered: validation, coupons, histories, counts, rollbacks, health, and odd addresses."""

from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.service_fixture import Service, new_code, new_id, ok, pages, refused, until


def _redeem(service: Service, code: str, **body: Any) -> dict[str, Any]:
    return ok(service.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)


def _validate(client: httpx.Client, code: str, **said: Any) -> dict[str, Any]:
    """What both ways of asking say, which is the same."""
    told = ok(client.post("/v1/coupons/validate", json={"code": code} | said))
    if said.keys() <= {"userId", "orderValue", "currency"}:
        assert ok(client.get(f"/v1/coupons/{code}/validate", params=said)) == told
    return told


def test_validate(service: Service) -> None:
    """A coupon that can be used tells the discount and shows itself, and is as it was."""
    code = service.coupon(discount={"type": "percentage", "value": "12.5", "maxAmount": 5})
    told = _validate(service.checkout, code, userId=new_id(), orderValue="30.04")
    assert list(told) == ["valid", "reasons", "discountAmount", "finalAmount", "coupon"]
    assert (told["valid"], told["reasons"], told["discountAmount"], told["finalAmount"]) == (True, [], "3.76", "26.28")
    assert told["coupon"] == ok(service.checkout.get(f"/v1/coupons/{code}"))
    assert _validate(service.checkout, code, orderValue=1000)["finalAmount"] == "995.00"
    free = _validate(service.checkout, service.coupon())
    assert (free["valid"], free["discountAmount"], free["finalAmount"]) == (True, "0.00", None)


def test_validate_lists_every_reason(service: Service) -> None:
    """Every refusal that would apply is told, in the order in which a redemption would name them."""
    code, order = new_code(), new_id("order")
    service.book(
        code, status="inactive", validUntil="2026-01-01T00:00:00Z", requireAssignment=True, requireLock=True,
        discount={"type": "fixed", "value": 5, "minOrderValue": 25, "currency": "EUR"},
    )  # fmt: skip
    ok(service.manage.patch(f"/v1/coupons/{code}", json={"status": "inactive"}))
    _redeem(service, service.coupon(), userId="u", orderId=order)
    always = ["coupon_inactive", "book_inactive", "expired", "coupon_not_assigned", "lock_required"]
    for said, more in (
        ({"userId": "u"}, ["order_value_required"]),
        ({"userId": "u", "orderValue": 1, "currency": "USD"}, ["currency_mismatch"]),
        ({"userId": "u", "orderValue": 1, "currency": "EUR"}, ["order_value_too_low"]),
        ({"userId": "u", "orderValue": 25, "orderId": order}, ["order_already_used"]),
    ):
        told = _validate(service.checkout, code, **said)
        assert (told["valid"], told["reasons"], told["discountAmount"]) == (False, always + more, None)
    lost = _validate(service.checkout, code, userId="u", orderValue=25, lockToken="x")["reasons"]
    assert lost == [*always[:-1], "lock_lost"]


def test_reads_see_what_was_answered(service: Service) -> None:
    """Coupon, counts, user and histories show a change as soon as it was answered, over and over."""
    user, codes = new_id(), [new_code() for _ in range(12)]
    book = service.book(*codes, discount={"type": "fixed", "value": "2.50"})
    for number, code in enumerate(codes, 1):
        ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
        assert ok(service.checkout.get(f"/v1/users/{user}"))["coupons"] == 1
        held = ok(service.checkout.get(f"/v1/users/{user}/coupons"))["items"]
        assert held[0] == ok(service.checkout.get(f"/v1/coupons/{code}"))
        made = _redeem(service, code, userId=user, orderValue=10)
        assert made.pop("durability") == "fsynced"
        for path in (f"/v1/users/{user}", f"/v1/books/{book}", f"/v1/coupons/{code}"):
            answer = service.manage.get(f"{path}/redemptions")
            assert ok(answer)["items"][0] == made
            assert "Scrip-Lag-Seconds" not in answer.headers
        assert ok(service.checkout.get(f"/v1/users/{user}"))["coupons"] == 0
        assert service.stats(book) == {
            "codes": 12, "available": 12 - number, "assigned": 0, "locked": 0, "redeemed": number, "exhausted": 0,
            "inactive": 0, "redemptions": number, "rolledBack": 0, "discountTotal": f"{number * 2.5:.2f}", "users": 1,
        }  # fmt: skip


def test_pages_of_histories(service: Service) -> None:
    """Pages of whatever size put together are the list, newest first, each item once."""
    user, codes = new_id(), [new_code() for _ in range(7)]
    book = service.book(*codes)
    for code in codes:
        ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    for code in codes:
        _redeem(service, code, userId=user)
    for path in (f"/v1/users/{user}/redemptions", f"/v1/books/{book}/redemptions", f"/v1/users/{user}/coupons"):
        for limit in (1, 3, 7, 1000):
            found = [item["code"] for page in pages(service.manage, path, limit=limit) for item in page]
            assert found == codes[::-1]
        whole = ok(service.manage.get(path))
        assert (len(whole["items"]), whole["nextCursor"]) == (7, None)


def test_a_users_coupons_by_status(service: Service) -> None:
    """Each coupon of the user's is listed under its own status, beneath a lock, and under no other."""
    user = new_id()
    codes = {status: new_code() for status in ("assigned", "redeemed", "exhausted", "inactive", "expired")}
    several = service.book(codes["exhausted"], maxRedemptionsPerCode=2)
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
    assert service.stats(several)["exhausted"] == 1


def test_rollback(service: Service) -> None:
    """A redemption is taken back once: with `restore` everything gets its use back, without nothing does."""
    user, order = new_id(), new_id("order")
    for restore, status, redemptions in ((True, "available", 0), (None, "available", 0), (False, "redeemed", 1)):
        code = service.coupon(maxRedemptionsPerUser=1)
        made = _redeem(service, code, userId=user, orderId=order)
        path = f"/v1/redemptions/{made['redemptionId'].upper()}/rollback"
        body = {"reason": "returned"} | ({} if restore is None else {"restore": restore})
        back = ok(service.manage.post(path, json=body))
        at = datetime.fromisoformat(back["rolledBackAt"])
        assert at >= datetime.fromisoformat(made["redeemedAt"])
        assert back == made | {"rolledBackAt": back["rolledBackAt"]}
        refused(service.manage.post(path, json={}), 409, "already_rolled_back")
        seen = ok(service.checkout.get(f"/v1/coupons/{code}"))
        assert (seen["status"], seen["redemptions"], seen["lastRedemption"]) == (status, redemptions, None)
        stats = service.stats(seen["bookId"])
        assert (stats["redemptions"], stats["rolledBack"], stats["users"]) == (0, 1, 0)
        (past,) = ok(service.manage.get(f"/v1/coupons/{code}/redemptions"))["items"]
        assert past["rolledBackAt"] == back["rolledBackAt"]
    other = service.checkout.post(f"/v1/coupons/redeem/{service.coupon()}", json={"userId": user, "orderId": order})
    refused(other, 409, "order_already_used")  # the last one kept the order's place


def test_rollback_of_an_order(service: Service) -> None:
    """An order is rolled back as one; then nothing of it stands, and an order without coupons isn't found."""
    user, order = new_id(), new_id("order")
    ok(service.operate.patch("/v1/workspace", json={"couponsPerOrder": 3}))
    try:
        made = [_redeem(service, service.coupon(), userId=user, orderId=order) for _ in range(3)]
    finally:
        ok(service.operate.patch("/v1/workspace", json={"couponsPerOrder": None}))
    ok(service.manage.post(f"/v1/redemptions/{made[0]['redemptionId']}/rollback", json={}))
    path = f"/v1/orders/{order}/rollback"
    back = ok(service.manage.post(path, json={"reason": "cancelled"}))
    assert set(back) == {"items", "durability"}
    assert {item["redemptionId"] for item in back["items"]} == {item["redemptionId"] for item in made[1:]}
    assert len({item["rolledBackAt"] for item in back["items"]} - {None}) == 1
    refused(service.manage.post(path, json={}), 409, "already_rolled_back")
    refused(service.manage.post(f"/v1/orders/{new_id('order')}/rollback", json={}), 404, "order_not_found")
    assert len(ok(service.manage.get(f"/v1/users/{user}/redemptions"))["items"]) == 3


def test_a_change_governs_the_next_request(service: Service) -> None:
    """Once a book's or a coupon's PATCH is answered, the very next request follows it, time after time."""
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
            answer = service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"})
            if refusal:
                refused(answer, 409, refusal)
            else:
                ok(answer, 201)
    assert service.stats(book)["redemptions"] == 20


def test_request_ids(service: Service) -> None:
    """Every answer carries the request's id: the caller's where it is one, else a new one."""
    for sent in ("abc", "x" * 128, "a:b/c=d~!"):
        for path in ("/", "/v1/nothing", "/v1/books", "/health/live", "/metrics", "/schema", "/v1/coupons/assign"):
            answer = service.anonymous.get(path, headers={"X-Request-Id": sent})
            assert answer.headers.get_list("X-Request-Id") == [sent]
    made = set()
    for bad in (b"", b"x" * 129, b"a b", "é".encode(), b"\x80"):
        answer = service.anonymous.get("/v1/nothing", headers=[(b"X-Request-Id", bad)])
        assert refused(answer, 404, "not_found")["requestId"] not in {bad.decode("latin-1"), ""}
        made.add(answer.headers["X-Request-Id"])
    assert len(made) == 5


def test_health(service: Service) -> None:
    """Live and ready say so to anyone, and / points to what there is."""
    assert ok(service.anonymous.get("/health/live")) == {"status": "live"}
    assert ok(service.anonymous.get("/health/ready")) == {"status": "ready", "failing": []}
    index = ok(service.anonymous.get("/"))
    for name, path in index.items():
        assert name == "service" or service.anonymous.get(path).is_success


def test_metrics(service: Service) -> None:
    """Prometheus is told of answers by status, and each one is counted."""

    def count() -> float:
        lines, name = service.anonymous.get("/metrics").text.splitlines(), 'scrip_http_answers_total{status="404"}'
        return float(next(line for line in lines if line.startswith(name)).split()[-1])

    refused(service.anonymous.get("/v1/nothing"), 404, "not_found")
    before = count()
    refused(service.anonymous.get("/v1/nothing"), 404, "not_found")
    assert count() == before + 1
    assert service.anonymous.get("/metrics").headers["Content-Type"].startswith("text/plain; version=")


def test_consistency(service: Service) -> None:
    """What was answered is recorded within moments, and an operator sees how far."""
    _redeem(service, service.coupon(), userId="u")
    told = until(lambda: (found := ok(service.operate.get("/v1/ops/consistency")))["lagEvents"] == 0 and found)
    compared = ["lastReconciledAt", "reconciledTo", "drift"]  # tests/integration/test_reconcile.py
    assert list(told) == ["state", "lagEvents", "lagSeconds", "lastRecorded", *compared, "failing"]
    with service.redis() as client:
        ((last, _),) = client.xrevrange("{p0}:outbox", count=1)
    said = {name: what for name, what in told.items() if name not in compared}
    assert said == {"state": "open", "lagEvents": 0, "lagSeconds": 0.0, "lastRecorded": last, "failing": []}


@pytest.mark.parametrize(
    "path",
    [
        "/v1", "/v2/books", "/v1/book", "/nothing", "/v1/coupons/a/b/c", "/v1/books/x/nothing", "/health", "/v1/%00",
        "/schema/assets/../../app.py", "/schema/assets/nothing.js", "/schema/assets/%2e%2e/__init__.py", "/.git/config",
    ],
)  # fmt: skip
def test_addresses_that_are_none(service: Service, path: str) -> None:
    """Where there is nothing, a problem says so, to anyone."""
    refused(service.anonymous.get(path), 404, "not_found")
