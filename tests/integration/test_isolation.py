"""Two workspaces with the same words never meet, and a key ends when it is revoked or expires."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.service_fixture import Service, new_code, new_id, ok, refused, until


def test_the_same_words_in_two_workspaces(service: Service) -> None:
    """One code, user, order and Idempotency-Key in two workspaces are two of each."""
    code, user, order, key = new_code(), new_id(), new_id("order"), uuid4().hex
    made: list[dict[str, Any]] = []
    for manage, checkout in ((service.manage, service.checkout), (service.rival_manage, service.rival_checkout)):
        first = manage.post("/v1/books", json={"name": "Both"}, headers={"Idempotency-Key": key})
        book = ok(first, 201)["bookId"]
        assert "Idempotency-Replayed" not in first.headers
        assert ok(manage.post(f"/v1/books/{book}/codes", json={"codes": [code]}))["added"] == 1
        body = {"userId": user, "orderId": order}
        redeemed = checkout.post(f"/v1/coupons/redeem/{code}", json=body, headers={"Idempotency-Key": f"{key}-2"})
        assert "Idempotency-Replayed" not in redeemed.headers
        made.append(ok(redeemed, 201))
    cursor = ok(service.manage.get("/v1/books", params={"limit": 1}))["nextCursor"]
    page = ok(service.rival_manage.get("/v1/books", params={"limit": 1000, "cursor": cursor}))["items"]
    demos, rivals = made
    assert demos["bookId"] not in {item["bookId"] for item in page}
    assert demos["redemptionId"] != rivals["redemptionId"]
    assert demos["bookId"] != rivals["bookId"]
    assert ok(service.manage.post(f"/v1/orders/{order}/rollback", json={}))["items"][0]["bookId"] == demos["bookId"]
    assert ok(service.rival_checkout.get(f"/v1/coupons/{code}"))["status"] == "redeemed"
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "available"
    for client, items in ((service.checkout, demos), (service.rival_checkout, rivals)):
        (past,) = ok(client.get(f"/v1/users/{user}/redemptions"))["items"]
        assert past["redemptionId"] == items["redemptionId"]


def test_a_revoked_key(service: Service) -> None:
    """A revoked key is refused within a second of its end being asked for, on reads and on the hot path."""
    made = ok(service.operate.post("/v1/keys", json={"name": "brief", "scopes": ["manage", "checkout"]}), 201)
    client = service.client(made["secret"])
    assert client.get("/v1/books", params={"limit": 1}).is_success
    began = time.monotonic()
    assert service.operate.delete(f"/v1/keys/{made['keyId']}").status_code == 204
    took_s = time.monotonic() - began
    refused(client.get("/v1/books", params={"limit": 1}), 401, "unauthenticated")
    refused(client.post("/v1/coupons/assign", json={}), 401, "unauthenticated")
    assert took_s < 1.5  # it waits 0.9 s; the rest is a slow machine's


def test_an_expired_key(service: Service) -> None:
    """A key works until its end, and not after."""
    ends = datetime.now(UTC) + timedelta(seconds=2.5)
    body = {"name": "short", "scopes": ["checkout"], "expiresAt": ends.isoformat()}
    client = service.client(ok(service.operate.post("/v1/keys", json=body), 201)["secret"])
    assert client.get("/v1/users/nobody").is_success
    until(lambda: datetime.now(UTC) > ends)
    refused(client.get("/v1/users/nobody"), 401, "unauthenticated")
    refused(client.post("/v1/coupons/assign", json={}), 401, "unauthenticated")
