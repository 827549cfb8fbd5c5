"""Deleting a user over HTTP: reads and repeats answer the same about a pseudonym, and the id is a new user's.

test_erasing.py has both stores, with the worker killed at each step; lua/test_erase_user.py what Redis keeps.
"""

import json
import re
from typing import Any
from uuid import uuid4

import httpx

from tests.harness.service_fixture import Service, new_code, new_id, ok, refused


async def test_a_deleted_user(service: Service) -> None:
    """Statistics, lists and repeats have the pseudonym, without address and agent; limits and orders stand."""
    own = service.make_workspace(new_id("erases"), "live")
    buy, manage, user, order = own.checkout, own.manage, new_id(), new_id("order")
    given, taken, redeemed, rolled_back, batched, free, many, owned, theirs = codes = [new_code() for _ in range(9)]
    book = own.book(*codes[:6], maxRedemptionsPerUser=3, maxCodesPerUser=9)
    second = own.book(many, maxRedemptionsPerCode=5, discount={"type": "percentage", "value": 10})
    upload = {"content": f"code,userId\n{owned},{user}\n", "headers": {"Content-Type": "text/csv"}}
    ok(manage.post(f"/v1/books/{own.book()}/codes", **upload))
    own.book(theirs, client=own.rival_manage)
    ok(own.rival_checkout.post(f"/v1/coupons/assign/{theirs}", json={"userId": user}), 201)
    asked: list[tuple[httpx.Client, str, Any, dict[str, str]]] = []

    def ask(client: httpx.Client, path: str, **body: Any) -> Any:
        asked.append((client, path, body, {"Idempotency-Key": uuid4().hex, "User-Agent": "agent"}))
        answer = client.post(path, json=body, headers=asked[-1][-1])
        assert answer.is_success, answer.text
        return answer.json()

    ask(manage, "/v1/users", userId=user, maxCoupons=20, metadata={"name": "x"})
    ask(buy, f"/v1/coupons/assign/{given}", userId=user)
    ok(buy.post(f"/v1/coupons/assign/{taken}", json={"userId": user}), 201)  # its key would assign it again
    ask(manage, f"/v1/coupons/unassign/{taken}")
    stands = ask(buy, f"/v1/coupons/redeem/{redeemed}", userId=user, orderId=f"{order}-0")["redemptionId"]
    ok(buy.post(f"/v1/coupons/redeem/{rolled_back}", json={"userId": user, "orderId": f"{order}-1"}), 201)
    ask(manage, f"/v1/orders/{order}-1/rollback", reason="again")
    ask(buy, f"/v1/coupons/redeem/{many}", userId=user, orderId=f"{order}-2", orderValue="20.00", metadata={"a": 7})
    ask(buy, f"/v1/coupons/redeem/{many}", userId="other", orderId=f"{order}-3", orderValue=5)
    ask(buy, "/v1/batch", operations=[{"op": "redeem", "code": batched, "userId": user, "orderId": f"{order}-4"}])

    def read() -> list[Any]:
        paths = [f"/v1/books/{one}{what}" for one in (book, second) for what in ("/stats", "/redemptions")]
        return [ok(own.admin.get(path)) for path in (*paths, *(f"/v1/coupons/{code}" for code in codes[:8]))]

    before = read()
    for _ in range(2):
        answer = manage.delete(f"/v1/users/{user}")
        assert (answer.status_code, answer.content) == (204, b"")
    after = read()
    (pseudonym,) = set(re.findall(r"deleted-[0-9a-f-]{36}", json.dumps(after)))
    for item in (item for answer in before for item in answer.get("items", []) if item["userId"] == user):
        item |= {"ipAddress": None, "userAgent": None}
    assert after == json.loads(json.dumps(before).replace(f'"{user}"', f'"{pseudonym}"'))
    refused(buy.post(f"/v1/coupons/assign/{given}", json={"userId": user}), 409, "coupon_assigned_to_other")
    used = {"userId": "new", "orderId": f"{order}-0"}
    refused(buy.post(f"/v1/coupons/redeem/{free}", json=used), 409, "order_already_used")
    for client, path, body, headers in asked:
        again = client.post(path, json=body, headers=headers)
        assert again.headers["Idempotency-Replayed"] == "true", path
        if "/redeem/" in path and body["userId"] == user:  # what is read again; the rest is as the repeat says itself
            assert again.json()["userId"] == pseudonym
        assert again.text.count("deleted-") == again.text.count(pseudonym)
    known = ok(buy.get(f"/v1/users/{user}"))
    assert (known["coupons"], known["maxCoupons"], known["metadata"], known["createdAt"]) == (0, None, {}, None)
    for one, redemptions, coupons in ((user, 0, set[str]()), (pseudonym, 4, {given, owned})):
        assert len(ok(buy.get(f"/v1/users/{one}/redemptions"))["items"]) == redemptions
        assert {item["code"] for item in ok(buy.get(f"/v1/users/{one}/coupons"))["items"]} == coupons
    back = ok(manage.post(f"/v1/redemptions/{stands}/rollback", json={}))
    assert (back["userId"], back["ipAddress"], back["userAgent"]) == (pseudonym, None, None)
    assert ok(own.rival_checkout.get(f"/v1/coupons/{theirs}"))["userId"] == user
    refused(manage.delete(f"/v1/users/{user}?why=not"), 400, "malformed")


def test_a_book_that_names_a_user_in_its_metadata_stops_no_deletion(service: Service) -> None:
    """A merchant may write a user's id into a book: its stored answer stays, and users of all tenants are deleted."""
    user, headers = new_id(), {"Idempotency-Key": uuid4().hex}
    book = {"name": "Sale", "metadata": {"userId": user}}
    made = ok(service.manage.post("/v1/books", json=book, headers=headers), 201)
    for client in (service.manage, service.rival_manage):
        assert client.delete(f"/v1/users/{user}").status_code == 204
    assert ok(service.manage.post("/v1/books", json=book, headers=headers), 201) == made
