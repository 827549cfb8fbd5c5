"""Deleting a user over HTTP: both stores name neither user, address nor agent; everything else stands.

test_erasing.py has the rebuilt Redis and users who come back.
"""

import json
import re
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx

from tests.harness.service_fixture import Service, new_code, new_id, ok, refused

AGENT = "agent-of-the-deleted"


class Past:
    """A user with every kind of record, in several books."""

    def __init__(self, service: Service) -> None:
        self.service, self.user, self.order = service, new_id(), new_id("order")
        self.codes = [new_code() for _ in range(8)]
        self.book = service.book(*self.codes, maxRedemptionsPerUser=3, maxCodesPerUser=9)
        self.many = new_code()
        self.second = service.book(self.many, maxRedemptionsPerCode=5, discount={"type": "percentage", "value": 10})
        self.owned = new_code()
        upload = f"code,userId\n{self.owned},{self.user}\n"
        path = f"/v1/books/{service.book()}/codes"
        ok(service.manage.post(path, content=upload, headers={"Content-Type": "text/csv"}))
        self.asked: list[tuple[httpx.Client, str, Any, str]] = []
        self._live()

    def ask(self, client: httpx.Client, path: str, **body: Any) -> Any:
        """POST under a new Idempotency-Key, from the user's agent."""
        key = uuid4().hex
        self.asked.append((client, path, body, key))
        agent = "another" if body.get("userId") == "other" else AGENT
        answer = client.post(path, json=body, headers={"Idempotency-Key": key, "User-Agent": agent})
        assert answer.is_success, answer.text
        return answer.json()

    def _live(self) -> None:
        user, order, codes = self.user, self.order, self.codes
        buy, manage = self.service.checkout, self.service.manage
        self.ask(manage, "/v1/users", userId=user, maxCoupons=20, metadata={"name": "x"})
        for code in codes[:4]:
            self.ask(buy, f"/v1/coupons/assign/{code}", userId=user)
        self.ask(manage, f"/v1/coupons/unassign/{codes[3]}")
        redeemed = self.ask(buy, f"/v1/coupons/redeem/{codes[0]}", userId=user, orderId=f"{order}-0")
        self.stands = redeemed["redemptionId"]
        self.ask(buy, f"/v1/coupons/redeem/{codes[4]}", userId=user, orderId=f"{order}-1")
        self.ask(manage, f"/v1/orders/{order}-1/rollback", reason="again")
        body = {"userId": user, "orderId": f"{order}-2", "orderValue": "20.00", "metadata": {"basket": 7}}
        self.ask(buy, f"/v1/coupons/redeem/{self.many}", **body)
        self.ask(buy, f"/v1/coupons/redeem/{self.many}", userId="other", orderId=f"{order}-3", orderValue=5)
        operations = [{"op": "redeem", "code": codes[5], "userId": user, "orderId": f"{order}-4"}]
        operations += [{"op": "validate", "code": codes[6], "userId": user}] * 30
        self.ask(buy, "/v1/batch", operations=operations)

    def read(self) -> list[Any]:
        """Read statistics and redemptions of the books, and all coupons."""
        of = [f"/v1/books/{book}{what}" for book in (self.book, self.second) for what in ("/stats", "/redemptions")]
        paths = [*of, *(f"/v1/coupons/{code}" for code in (*self.codes, self.many, self.owned))]
        return [ok(self.service.admin.get(path)) for path in paths]


def delete(service: Service, user: str) -> None:
    answer = service.manage.delete(f"/v1/users/{user}")
    assert (answer.status_code, answer.content) == (204, b"")


async def dump(service: Service) -> str:
    """Return all keys and values of Redis, with the outbox's last entry alone, and all rows of Postgres."""
    parts: list[Any] = []
    with service.redis() as client:
        readers = {
            "string": client.get,
            "hash": client.hgetall,
            "zset": lambda name: client.zrange(name, 0, -1),
            "stream": lambda name: client.xrevrange(name, count=1),
        }
        parts += [(name, readers[client.type(name)](name)) for name in client.scan_iter(count=1000)]
    tables = await service.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    for (table,) in tables:
        rows = await service.fetch(f"SELECT row_to_json(t)::text AS row FROM {table} t")
        parts += [(table, row["row"]) for row in rows]
    return json.dumps(parts, ensure_ascii=False)


async def test_the_user_is_in_neither_store(own_service: Callable[[], Service]) -> None:
    """No key, value or row has the id, agent or address; all reads answer the same about a pseudonym."""
    own = own_service()
    past = Past(own)
    before = past.read()
    delete(own, past.user)
    after = past.read()
    (pseudonym,) = set(re.findall(r"deleted-[0-9a-f-]{36}", json.dumps(after)))
    for answer in before:
        for item in answer.get("items", []):
            if item["userId"] == past.user:
                item |= {"ipAddress": None, "userAgent": None}
    assert after == json.loads(json.dumps(before).replace(f'"{past.user}"', f'"{pseudonym}"'))
    own.recorded()
    everything = await dump(own)
    assert past.user not in everything
    assert AGENT not in everything
    left: list[Any] = []
    for table in ("assignments", "unassignments", "redemptions", "rollbacks"):
        sql = f"SELECT ip, user_agent FROM {table} WHERE user_id = $1"
        left += await own.fetch(sql, pseudonym)
    assert len(left) == 4 + 4 + 1 + 1
    assert not any(value for row in left for value in row)
    _stands(own, past, pseudonym)


def _stands(service: Service, past: Past, pseudonym: str) -> None:
    """Check that limits, orders and keys are as they were, and that the user is new."""
    buy, codes, user = service.checkout, past.codes, past.user
    refused(buy.post(f"/v1/coupons/assign/{codes[1]}", json={"userId": user}), 409, "coupon_assigned_to_other")
    used = {"userId": "new", "orderId": f"{past.order}-0"}
    refused(buy.post(f"/v1/coupons/redeem/{codes[6]}", json=used), 409, "order_already_used")
    for client, path, body, key in past.asked:
        again = client.post(path, json=body, headers={"Idempotency-Key": key})
        assert again.headers["Idempotency-Replayed"] == "true", path
        if "/redeem/" in path and body["userId"] == user:  # what is read anew; the rest is as the repeat says itself
            assert again.json()["userId"] == pseudonym
        assert again.text.count("deleted-") == again.text.count(pseudonym)
    known = ok(buy.get(f"/v1/users/{user}"))
    assert (known["coupons"], known["maxCoupons"], known["metadata"], known["createdAt"]) == (0, None, {}, None)
    assert ok(buy.get(f"/v1/users/{user}/redemptions"))["items"] == []
    assert ok(buy.get(f"/v1/users/{user}/coupons"))["items"] == []
    assert len(ok(buy.get(f"/v1/users/{pseudonym}/redemptions"))["items"]) == 4
    assert {item["code"] for item in ok(buy.get(f"/v1/users/{pseudonym}/coupons"))["items"]} == {*codes[:3], past.owned}
    back = ok(service.manage.post(f"/v1/redemptions/{past.stands}/rollback", json={}))
    assert (back["userId"], back["ipAddress"], back["userAgent"]) == (pseudonym, None, None)


def test_a_deletion_may_be_repeated(service: Service) -> None:
    """A repeated deletion, and one of an unknown user, is 204; a bad id is 404, a query 400."""
    user = new_id()
    for _ in range(2):
        delete(service, user)
    refused(service.manage.delete("/v1/users/a%20b"), 404, "not_found")
    refused(service.manage.delete(f"/v1/users/{user}?why=not"), 400, "malformed")


def test_another_workspace_keeps_its_user(service: Service) -> None:
    """A deletion leaves the user of the same id in another workspace."""
    user, code = new_id(), new_code()
    service.book(code, client=service.rival_manage)
    ok(service.rival_checkout.post(f"/v1/coupons/assign/{code}", json={"userId": user}), 201)
    delete(service, user)
    assert ok(service.rival_checkout.get(f"/v1/coupons/{code}"))["userId"] == user
