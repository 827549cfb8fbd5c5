"""Users' tokens over HTTP: a user acts for itself alone, by the fast lane and by Litestar."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest.mock import Mock

import httpx
import pytest

from service.server.access import user_tokens
from tests.harness.service_fixture import Service, new_code, new_id, ok, refused
from tests.harness.serving import Served, make_issuers, own_workspace
from tests.harness.tokens import AUDIENCE, Idp
from tests.harness.waiting import until


class Environment(NamedTuple):
    """A server with an issuer, and its clients."""

    idp: Idp
    server: Served

    def make_client(self, name: str, **claims: Any) -> httpx.Client:
        return self.server.client(f"Bearer {self.idp.token(sub=name, **claims)}")


service = own_workspace("live")


@pytest.fixture(scope="module", params=[True, False], ids=["fast lane", "Litestar"])
def env(service: Service, tmp_path_factory: pytest.TempPathFactory, request: Any) -> Iterator[Environment]:
    """A server beside the shared one, on the same stores."""
    folder, idp = tmp_path_factory.mktemp("idp"), Idp()
    issuers = make_issuers(folder, idp, {AUDIENCE: service.workspace, "rival": "rival"})
    with Served(service, folder, hot=request.param, jwt_issuers=issuers) as server:
        made = Environment(idp, server)
        with made.make_client("ann") as ann:
            until(lambda: ann.get("/v1/users/ann").is_success)
        yield made


def test_a_purchase_of_ones_own(service: Service, env: Environment) -> None:
    """A request without a userId, or with the token's, is about the token's user."""
    ann, order, code, free = new_id(), new_id("order"), new_code(), new_code()
    book = service.book(code, free, maxRedemptionsPerCode=2)
    gifts = service.book(new_code())
    with env.make_client(ann) as client:
        assert ok(client.post(f"/v1/coupons/assign/{code}", json={}), 201)["userId"] == ann
        lock = ok(client.post(f"/v1/coupons/lock/{code}", json={"orderId": order, "userId": ann}), 201)
        assert lock["userId"] == ann
        extended = client.post(f"/v1/coupons/extend/{code}", json={"lockToken": lock["lockToken"], "lockSeconds": 900})
        assert ok(extended)["lockToken"] == lock["lockToken"]
        redeemed = ok(client.post(f"/v1/coupons/redeem/{code}", json={"orderId": order, "orderValue": 5}), 201)
        assert redeemed["userId"] == ann
        assert ok(client.post("/v1/coupons/validate", json={"code": free}))["valid"]
        assert ok(client.get(f"/v1/coupons/{free}/validate"))["valid"]
        bought = {"orderId": new_id("order"), "orderValue": 7, "code": code, "giftBookId": gifts}
        bought = ok(client.post("/v1/checkout", json=bought), 201)
        assert {bought["redemption"]["userId"], bought["gift"]["userId"]} == {ann}
        gift = {"bookId": book, "orderId": new_id("order")}
        assert ok(client.post(f"/v1/users/{ann}/gifts", json=gift), 201)["userId"] == ann
        results = ok(client.post("/v1/batch", json={"operations": [
            {"op": "lock", "code": free}, {"op": "validate", "code": free}, {"op": "redeem", "code": free},
        ]}))["results"]  # fmt: skip
        assert [result["status"] for result in results] == [201, 200, 201]
        service.recorded()
        assert ok(client.get(f"/v1/orders/{order}"))["userId"] == ann
        assert ok(client.get(f"/v1/users/{ann}"))["userId"] == ann
        assert {item["userId"] for item in ok(client.get(f"/v1/users/{ann}/redemptions"))["items"]} == {ann}
        assert len(ok(client.get(f"/v1/users/{ann}/coupons?status=exhausted"))["items"]) == 1
        assert ok(client.get(f"/v1/coupons/{code}"))["lastRedemption"]["userId"] == ann


def test_keys_of_another_workspace(service: Service, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    """A verified token is not verified again because another workspace changes keys, or its own creates one."""
    monkeypatch.setattr(user_tokens, "verify_token", verify := Mock(wraps=user_tokens.verify_token))
    other, user = service.make_workspace(new_id("other"), "live"), new_id()
    with env.make_client(user) as client:
        ok(client.get(f"/v1/users/{user}"))
        for operate in (other.operate, service.operate):
            ok(operate.post("/v1/keys", json={"name": "k", "scopes": ["checkout"]}), 201)
            ok(client.get(f"/v1/users/{user}"))
    assert verify.call_count == 1


def test_nothing_of_another_user(service: Service, env: Environment) -> None:
    """Another user's id is forbidden in every request; no coupon, lock or redemption of another is read or changed."""
    ann, bob = new_id(), new_id()
    anns, open_, free = new_code(), new_code(), new_code()
    book = service.book(anns, open_, free, maxRedemptionsPerCode=3)
    checkout = service.checkout
    ok(checkout.post(f"/v1/coupons/assign/{anns}", json={"userId": ann}), 201)
    order = new_id("order")
    ok(checkout.post(f"/v1/coupons/redeem/{open_}", json={"userId": ann, "orderId": order}), 201)
    service.recorded()
    lock = ok(checkout.post(f"/v1/coupons/lock/{open_}", json={"userId": ann}), 201)
    owned = ok(checkout.post(f"/v1/coupons/lock/{anns}", json={"userId": ann}), 201)
    before = service.held()
    with env.make_client(bob) as client:
        body = {"userId": ann, "orderId": new_id("order"), "orderValue": 5}
        for answer in (
            client.post("/v1/coupons/assign", json={"bookId": book, "userId": ann}),
            client.post(f"/v1/coupons/assign/{free}", json={"userId": ann}),
            client.post(f"/v1/coupons/lock/{free}", json={"userId": ann}),
            client.post(f"/v1/coupons/redeem/{free}", json=body),
            client.post("/v1/coupons/validate", json={"code": free, "userId": ann}),
            client.get(f"/v1/coupons/{free}/validate", params={"userId": ann}),
            client.post("/v1/checkout", json=body | {"code": free}),
            client.post(f"/v1/users/{ann}/gifts", json={"bookId": book, "orderId": new_id("order")}),
            client.get(f"/v1/users/{ann}"), client.get(f"/v1/users/{ann}/coupons"),
            client.get(f"/v1/users/{ann}/redemptions"), client.get(f"/v1/coupons/{anns}"),
            client.get(f"/v1/orders/{order}"),
            client.get("/v1/users"), client.get("/v1/coupons/active/time-specific"),
        ):  # fmt: skip
            refused(answer, 403, "forbidden")
        tries: list[dict[str, Any]] = [
            {"op": op, "code": free, "userId": ann} for op in ("assign", "lock", "redeem", "validate")
        ]
        results = ok(client.post("/v1/batch", json={"operations": tries}))["results"]
        assert [result["body"]["code"] for result in results] == ["forbidden"] * 4
        for code, token in ((open_, lock["lockToken"]), (anns, owned["lockToken"])):
            refused(client.post(f"/v1/coupons/extend/{code}", json={"lockToken": token}), 409, "lock_lost")
            assert client.post(f"/v1/coupons/unlock/{code}", json={"lockToken": token}).status_code == 204
            tries = [{"op": op, "code": code, "lockToken": token} for op in ("extend", "unlock")]
            assert [one["status"] for one in ok(client.post("/v1/batch", json={"operations": tries}))["results"]] == [
                409,
                204,
            ]
        refused(client.post(f"/v1/coupons/redeem/{open_}", json={"lockToken": lock["lockToken"]}), 409, "lock_lost")
        refused(client.post(f"/v1/coupons/assign/{anns}", json={}), 409, "coupon_assigned_to_other")
        texts = [client.post("/v1/coupons/validate", json={"code": code}).text for code in (anns, open_)]
        texts.append(client.get(f"/v1/coupons/{open_}").text)
        assert service.held() == before
        texts.append(client.post(f"/v1/coupons/assign/{open_}", json={}).text)
        for text in texts:
            assert ann not in text, text
            assert lock["lockToken"] not in text
        assert json.loads(texts[2])["redemptions"] == 1
        assert json.loads(texts[2])["lock"] is json.loads(texts[2])["lastRedemption"] is None


def test_keys_are_each_users(service: Service, env: Environment) -> None:
    """With another user's Idempotency-Key and body a user gets `idempotency_key_reused`, not the first answer."""
    first, second, key = new_code(), new_code(), new_id("key")
    service.book(first, second, maxRedemptionsPerCode=None)
    ann, bob = new_id(), new_id()
    with env.make_client(ann) as anns, env.make_client(bob) as bobs:
        for path, body in (
            (f"/v1/coupons/redeem/{first}", {}),
            ("/v1/batch", {"operations": [{"op": "redeem", "code": second}]}),
        ):
            headers = {"Idempotency-Key": f"{key}{path}"}
            made = anns.post(path, json=body, headers=headers)
            assert ann in made.text
            again = anns.post(path, json=body, headers=headers)
            assert (again.text, again.headers["Idempotency-Replayed"]) == (made.text, "true")
            refused(bobs.post(path, json=body, headers=headers), 422, "idempotency_key_reused")


def test_a_scope_that_the_issuer_gives(service: Service, env: Environment) -> None:
    """With the scope `public` a user validates without reasons; with an operator's scopes a user may do nothing."""
    code, user = new_code(), new_id()
    service.book(code, status="inactive")
    with env.make_client(user, scope="public openid") as client:
        validated = ok(client.post("/v1/coupons/validate", json={"code": code}))
        assert (validated["reasons"], validated["coupon"]) == (["coupon_not_available"], None)
        refused(client.post("/v1/coupons/validate", json={"code": code, "userId": new_id()}), 403, "forbidden")
        refused(client.post(f"/v1/coupons/lock/{code}", json={}), 403, "forbidden")
        refused(client.get(f"/v1/users/{user}"), 403, "forbidden")
    with env.make_client(user, scope="manage operate") as client:
        for answer in (client.get("/v1/books"), client.get("/v1/keys"), client.post("/v1/coupons/validate", json={})):
            refused(answer, 403, "forbidden")
