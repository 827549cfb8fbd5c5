"""Two workspaces with the same ids never meet, and a key is rejected from its expiry on."""

import contextlib
import hashlib
from typing import Any
from uuid import uuid4

import pytest

from service.engine.domain.errors import Refusal
from service.engine.operations.caller import SCOPES, Caller
from service.server.access import keyring
from tests.harness.service_fixture import Service, new_code, new_id, ok


def test_the_same_ids_in_two_workspaces(service: Service) -> None:
    """The same code, user, order and Idempotency-Key in two workspaces are separate."""
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


def test_an_expired_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key authenticates until its expiry, however often it was used before, and not after."""
    keys, now_s = keyring.Keyring(), 1000.0
    monkeypatch.setattr(keyring.time, "time", lambda: now_s)
    caller = Caller(uuid4(), 1, uuid4(), 0, "live", frozenset(SCOPES), expires_ms=1_001_000)
    keys.replace({hashlib.sha256(b"short").digest(): caller})
    for second in (1000.0, 1000.5, 1000.999):
        now_s = second
        assert keys.authenticate("Bearer short", ("checkout",), 0) == caller
    now_s = 1001.0
    with pytest.raises(Refusal, match="unauthenticated"):
        keys.authenticate("Bearer short", ("checkout",), 0)


def test_outdated_keys() -> None:
    """Keys and sessions are refused from MAX_AGE_S after Postgres last confirmed them, and before the first time."""
    keys, roles = keyring.Keyring(), ("checkout",)
    digests = (hashlib.sha256(b"key").digest(), keyring.digest_session_secret("session"))
    keys.replace(dict.fromkeys(digests, Caller(uuid4(), 1, uuid4(), 0, "live", frozenset(SCOPES))))

    def accepts(now_s: float) -> bool:
        accepted = 0
        for authenticate, credential in ((keys.authenticate, "Bearer key"), (keys.authenticate_session, "session")):
            with contextlib.suppress(Refusal):
                accepted += bool(authenticate(credential, roles, now_s))
        assert accepted == (0 if keys.is_outdated(now_s) else 2)
        return accepted == 2

    assert not accepts(50.0)
    for confirmed_s in (100.0, 2000.0):
        keys.confirm(confirmed_s)
        assert accepts(confirmed_s + keyring.MAX_AGE_S)
        assert not accepts(confirmed_s + keyring.MAX_AGE_S + 0.001)
