"""Who may do what: every route with every kind of credential, and two workspaces that never meet."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
import pytest_asyncio

from service.record.config.key_rows import create_key
from service.record.config.workspace_rows import workspace_named
from tests.integration.matrix_table import ROWS
from tests.service_fixture import Service, new_code, new_id, ok, refused, until

_SCOPES = ("public", "checkout", "manage", "operate")
_ANYONE = ""
_ACCESS = {row.route: row.scopes.replace("user", "").strip() for row in ROWS}

_NAMES = {"bookId": str(uuid4()), "jobId": str(uuid4()), "keyId": str(uuid4()), "redemptionId": str(uuid4()),
          "webhookId": str(uuid4()), "deliveryId": str(uuid4()),
          "code": "NO-SUCH-CODE", "userId": "nobody", "orderId": "nothing"}  # fmt: skip


def _ask(client: httpx.Client, route: str) -> httpx.Response:
    """The request that this route is, with a body that nobody reads: it can't change anything."""
    method, path = route.split(" ")
    return client.request(method, path.format_map(_NAMES), content=b"{}", headers={"Content-Type": "text/none"})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rival(service: Service) -> dict[str, httpx.Client]:
    """Clients of the other workspace, one for each scope; it comes with keys for two of them."""
    connection = await asyncpg.connect(service.run.facts["databaseUrl"])
    try:
        workspace = await workspace_named(connection, "rival")
        assert workspace is not None
        for scope in ("public", "operate"):
            await create_key(connection, workspace, scope, [scope], f"rival_{scope}")
    finally:
        await connection.close()
    clients = {scope: service.client(f"rival_{scope}") for scope in _SCOPES}
    until(lambda: clients["operate"].get("/v1/workspace").is_success)
    return clients


@pytest.mark.parametrize("route", _ACCESS)
def test_no_credential(service: Service, route: str) -> None:
    """Without a key of ours, routes that aren't for all say 401 and how to come back, and look at nothing else."""
    if _ACCESS[route] == _ANYONE:
        assert _ask(service.anonymous, route).status_code == 200
        return
    for text in (
        "", "Bearer", "Bearer demo_admin2", "Bearer demo_admi", "Bearer DEMO_ADMIN", "Basic demo_admin",
        "demo_admin", "Bearer demo_admin x", "Bearer  " + "x" * 5000, b"Bearer \xff\xfe", "Bearer a.b.c",
        "Bearer rival_admin", "Bearer demo_admin, Bearer demo_admin", "Token demo_admin", "Bearer *", "Bearer %",
    ):  # fmt: skip
        value = text if isinstance(text, bytes) else text.encode()
        method, path = route.split(" ")
        answer = service.anonymous.request(method, path.format_map(_NAMES), headers=[(b"Authorization", value)])
        refused(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    refused(_ask(service.anonymous, route), 401, "unauthenticated")


@pytest.mark.parametrize("route", [route for route, scopes in _ACCESS.items() if scopes])
def test_no_scope_implies_another(service: Service, rival: dict[str, httpx.Client], route: str) -> None:
    """A key may do what its own scope says, here and in the other workspace, and is forbidden all else."""
    for scope in _SCOPES:
        for client in (service.client(f"demo_{scope}"), rival[scope]):
            answer = _ask(client, route)
            if scope in _ACCESS[route].split():
                assert answer.status_code not in {401, 403}, answer.text
            else:
                refused(answer, 403, "forbidden")


def test_a_rival_sees_nothing(service: Service, rival: dict[str, httpx.Client]) -> None:
    """Nothing of a workspace can be found with another's keys, by whatever id, nor changed or locked."""
    code, used, user, order = new_code(), new_code(), new_id(), new_id("order")
    book = service.book(code, used)
    ok(service.manage.post("/v1/users", json={"userId": user, "maxCoupons": 3}), 201)
    ok(service.checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    redeemed = service.checkout.post(f"/v1/coupons/redeem/{used}", json={"userId": user, "orderId": order})
    redemption = ok(redeemed, 201)["redemptionId"]
    job = ok(service.manage.post(f"/v1/books/{book}/codes/generate", json={"count": 1}), 202)["jobId"]
    token = ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": user}), 201)["lockToken"]
    key = next(item for item in ok(service.operate.get("/v1/keys"))["items"] if item["name"] == "admin")["keyId"]
    until(lambda: ok(service.manage.get(f"/v1/jobs/{job}"))["status"] == "done")
    before = _state(service, book, code, used, user)

    manage, checkout, operate = rival["manage"], rival["checkout"], rival["operate"]
    for answer in (
        manage.get(f"/v1/books/{book}"), manage.patch(f"/v1/books/{book}", json={"status": "archived"}),
        manage.get(f"/v1/books/{book}/stats"), manage.get(f"/v1/books/{book}/redemptions"),
        manage.get(f"/v1/books/{book}/redemptions.csv"), manage.get(f"/v1/books/{book}/codes"),
        manage.get(f"/v1/books/{book}/codes.csv"),
        manage.post(f"/v1/books/{book}/codes", json={"codes": [new_code()]}),
        manage.post("/v1/coupons/codes", json={"bookId": book, "codes": [new_code()]}),
        manage.post(f"/v1/books/{book}/codes/generate", json={"count": 1}),
        checkout.post("/v1/coupons/assign", json={"bookId": book, "userId": user}),
    ):  # fmt: skip
        refused(answer, 404, "book_not_found")
    for answer in (
        checkout.get(f"/v1/coupons/{code}"), manage.get(f"/v1/coupons/{used}/redemptions"),
        manage.patch(f"/v1/coupons/{code}", json={"status": "inactive"}),
        checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}),
        manage.post(f"/v1/coupons/unassign/{code}", json={}),
        checkout.post(f"/v1/coupons/lock/{code}", json={"userId": user}),
        checkout.post(f"/v1/coupons/extend/{code}", json={"lockToken": token}),
        checkout.post(f"/v1/coupons/unlock/{code}", json={"lockToken": token}),
        checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user, "lockToken": token}),
    ):  # fmt: skip
        refused(answer, 404, "coupon_not_found")
    tries = [{"op": op, "code": code, "userId": user} for op in ("assign", "lock", "redeem", "validate")]
    tries += [{"op": op, "code": code, "lockToken": token} for op in ("extend", "unlock")]
    tries += [{"op": "assign", "bookId": book, "userId": user}]
    told = ok(checkout.post("/v1/batch", json={"operations": tries}))["results"]
    assert [result["status"] for result in told] == [404, 404, 404, 200, 404, 404, 404]
    assert told[3]["body"]["reasons"] == ["coupon_not_found"]
    refused(manage.post(f"/v1/redemptions/{redemption}/rollback", json={}), 404, "redemption_not_found")
    refused(manage.post(f"/v1/orders/{order}/rollback", json={}), 404, "order_not_found")
    for client in (manage, operate):
        refused(client.get(f"/v1/jobs/{job}"), 404, "job_not_found")
    refused(operate.post(f"/v1/keys/{key}/rotate", json={}), 404, "not_found")
    refused(operate.delete(f"/v1/keys/{key}"), 404, "not_found")

    assert ok(checkout.post("/v1/coupons/validate", json={"code": code}))["reasons"] == ["coupon_not_found"]
    assert ok(rival["public"].get(f"/v1/coupons/{code}/validate"))["reasons"] == ["coupon_not_available"]
    for path in (f"/v1/users/{user}/coupons", f"/v1/users/{user}/redemptions"):
        assert ok(checkout.get(path)) == {"items": [], "nextCursor": None}
    nobody = {"userId": user, "maxCoupons": None, "coupons": 0, "metadata": {}, "createdAt": None}
    assert ok(checkout.get(f"/v1/users/{user}")) == nobody
    assert ok(manage.patch(f"/v1/users/{user}", json={"maxCoupons": 1}))["maxCoupons"] == 1
    listed = [*_all(manage, "/v1/books"), *_all(manage, "/v1/users"), *_all(operate, "/v1/keys")]
    demos = [*_all(service.manage, "/v1/books"), *_all(service.manage, "/v1/users"), *_all(service.operate, "/v1/keys")]
    assert not {_own_id(item) for item in listed} & {_own_id(item) for item in demos} - {user}
    cursor = ok(service.manage.get("/v1/books", params={"limit": 1}))["nextCursor"]
    others = ok(manage.get("/v1/books", params={"cursor": cursor}))["items"]
    assert {item["bookId"] for item in others} <= {item["bookId"] for item in _all(manage, "/v1/books")}
    assert _state(service, book, code, used, user) == before


def _state(service: Service, book: str, code: str, used: str, user: str) -> list[Any]:
    paths = (f"/v1/books/{book}", f"/v1/books/{book}/stats", f"/v1/coupons/{code}", f"/v1/coupons/{used}",
             f"/v1/users/{user}", f"/v1/users/{user}/redemptions", f"/v1/users/{user}/coupons")  # fmt: skip
    return [ok(service.admin.get(path)) for path in paths]


def _all(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = ok(client.get(path, params={"limit": 1000} | ({"cursor": cursor} if cursor else {})))
        items += page["items"]
        if (cursor := page["nextCursor"]) is None:
            return items


def _own_id(item: dict[str, Any]) -> str:
    return item.get("bookId") or item.get("keyId") or item["userId"]


def test_the_same_words_in_two_workspaces(service: Service, rival: dict[str, httpx.Client]) -> None:
    """One code, user, order and Idempotency-Key in two workspaces are two of each."""
    code, user, order, key = new_code(), new_id(), new_id("order"), uuid4().hex
    made: list[dict[str, Any]] = []
    for manage, checkout in ((service.manage, service.checkout), (rival["manage"], rival["checkout"])):
        first = manage.post("/v1/books", json={"name": "Both"}, headers={"Idempotency-Key": key})
        book = ok(first, 201)["bookId"]
        assert "Idempotency-Replayed" not in first.headers
        assert ok(manage.post(f"/v1/books/{book}/codes", json={"codes": [code]}))["added"] == 1
        body = {"userId": user, "orderId": order}
        redeemed = checkout.post(f"/v1/coupons/redeem/{code}", json=body, headers={"Idempotency-Key": f"{key}-2"})
        assert "Idempotency-Replayed" not in redeemed.headers
        made.append(ok(redeemed, 201))
    demos, rivals = made
    assert demos["redemptionId"] != rivals["redemptionId"]
    assert demos["bookId"] != rivals["bookId"]
    assert ok(service.manage.post(f"/v1/orders/{order}/rollback", json={}))["items"][0]["bookId"] == demos["bookId"]
    assert ok(rival["checkout"].get(f"/v1/coupons/{code}"))["status"] == "redeemed"
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["status"] == "available"
    for client, items in ((service.checkout, demos), (rival["checkout"], rivals)):
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
