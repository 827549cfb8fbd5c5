"""A batch under an Idempotency-Key: Redis stores a reference, from which its answer is rendered again."""

import os
import signal
from typing import Any
from uuid import uuid4

import httpx

from tests.harness.service_fixture import Service, dumps, new_code, new_id, ok, refused
from tests.harness.waiting import until
from tests.integration.coupons.test_recalling import forget

Operation = dict[str, Any]
SIZE = 200


def ask(service: Service, key: str, operations: list[Any], **headers: str) -> httpx.Response:
    body = b'{"operations":[' + b",".join(map(dumps, operations)) + b"]}"
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "shop/1"} | headers
    return service.checkout.post("/v1/batch", content=body, headers=headers)


def entry(service: Service, key: str) -> str:
    with service.redis() as client:
        (name,) = client.scan_iter(f"*:i:{key}", count=10_000)
        return client.get(name)


def check_repeat(service: Service, key: str, operations: list[Any], first: httpx.Response) -> None:
    again = ask(service, key, operations)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]


def make_operations(service: Service, owner: str) -> tuple[list[Any], str]:
    """Make operations with every kind of answer; return them and the book of most."""
    discount = {"type": "percentage", "value": 20}
    codes = [new_code() for _ in range(6)]
    many, bare = new_code(), new_code()
    book = service.book(*codes, discount=discount)
    service.book(many, maxRedemptionsPerCode=5)
    service.book(bare)
    held = ok(service.checkout.post(f"/v1/coupons/lock/{codes[4]}", json={"userId": owner}), 201)["lockToken"]
    ok(service.checkout.post(f"/v1/coupons/redeem/{many}", json={"userId": "other", "orderId": new_id("o")}), 201)
    buy = {"userId": "-", "orderId": new_id("order"), "orderValue": "1000", "metadata": {"ü": "€#/u"}}
    return [
        {"op": "redeem", "code": codes[0].lower(), **buy}, {"op": "redeem", "code": codes[0], **buy},
        {"op": "redeem", "code": codes[0], "userId": owner, "orderValue": 5},
        {"op": "redeem", "code": many, "userId": "a@b"}, {"op": "redeem", "code": bare, "userId": "#1"},
        {"op": "lock", "code": codes[1], "userId": owner, "orderId": "-"},
        {"op": "lock", "code": codes[1], "userId": owner, "orderId": "-"},
        {"op": "extend", "code": codes[4], "lockToken": held, "lockSeconds": 900},
        {"op": "extend", "code": codes[4], "lockToken": held, "lockSeconds": 1},
        {"op": "unlock", "code": codes[4], "lockToken": held},
        {"op": "assign", "bookId": book, "userId": "20"}, {"op": "assign", "code": many, "userId": owner},
        {"op": "assign", "code": many, "userId": owner}, {"op": "assign", "code": "gone", "userId": owner},
        {"op": "validate", "code": many, "userId": "20", "orderValue": 7}, {"op": "validate", "code": codes[0]},
        {"op": "validate", "code": codes[1], "userId": owner, "orderId": "-", "orderValue": "900"},
        {"op": "validate", "code": "NO-SUCH-CODE"}, {"op": "redeem", "code": codes[2], **buy, "orderValue": "0.005"},
        {"op": "redeem", "code": codes[2], **buy, "colour": "\t\n"}, 5, {"op": "lock", "code": "", "userId": "u"},
    ], book  # fmt: skip


def test_a_repeat_gets_the_first_answer(patient: Service) -> None:
    """A repeat gets the same bytes after the outbox was trimmed, settings changed, all rolled back, Redis rebuilt."""
    patient = patient.make_workspace(new_id("repeats"), "live")
    key, owner = uuid4().hex, new_id()
    operations, book = make_operations(patient, owner)
    first = ask(patient, key, operations, Prefer="durability=recorded")
    statuses = [result["status"] for result in ok(first)["results"]]
    done = [201, 200, 409, 201, 422, 201, 200, 200, 200, 204, 201, 201, 200, 404]
    assert statuses == [*done, *[200] * 4, 422, 400, 400, 404]
    check_repeat(patient, key, operations, first)
    assert ok(patient.manage.patch(f"/v1/books/{book}", json={"discount": None, "codePattern": "X-########"}))
    ok(patient.operate.patch("/v1/workspace", json={"currency": "KWD"}))
    for order in {operation["orderId"] for operation in operations[:2]}:
        ok(patient.manage.post(f"/v1/orders/{order}/rollback", json={}))
    check_repeat(patient, key, operations, first)
    ok(patient.checkout.post(f"/v1/coupons/lock/{patient.coupon()}", json={"userId": "u"}), 201)
    ok(patient.checkout.post(f"/v1/coupons/redeem/{patient.coupon()}", json={"userId": "u"}), 201)
    forget(patient)  # but for the last event
    check_repeat(patient, key, operations, first)
    with patient.redis() as client:
        client.flushall()
    until(lambda: not patient.run.ready())
    until(lambda: patient.run.ready() and patient.checkout.get("/v1/users/nobody").is_success)
    check_repeat(patient, key, operations, first)


def test_redis_stores_a_reference(service: Service) -> None:
    """Of a batch Redis stores some bytes a redemption, and of a lock or an assignment what the script drew."""
    for op, most_bytes in (("redeem", 4), ("lock", 40), ("assign", 50)):
        codes, key = [new_code() for _ in range(SIZE)], uuid4().hex
        book = service.book(*codes)
        asked = [
            {"op": op, "userId": new_id()}
            | ({"bookId": book} if op == "assign" else {"code": code, "orderId": new_id()})
            for code in codes
        ]
        first = ask(service, key, asked)
        ok(first)
        check_repeat(service, key, asked, first)
        kept = entry(service, key)
        assert kept.split(" ")[4].startswith("B")
        assert len(kept) < 300 + most_bytes * SIZE, (op, len(kept))


def test_without_postgres_it_is_unavailable(patient: Service) -> None:
    """While Postgres is away, a repeat whose redemptions were trimmed gets 503; then the first answer."""
    key = uuid4().hex
    codes = [new_code() for _ in range(3)]
    patient.book(*codes)
    operations = [{"op": "redeem", "code": code, "userId": "u"} for code in codes[:2]]
    first = ask(patient, key, operations)
    ok(patient.checkout.post(f"/v1/coupons/redeem/{codes[2]}", json={"userId": "u"}), 201)
    forget(patient)
    os.kill(patient.run.facts["pids"]["postgres"][0], signal.SIGKILL)
    response = ask(patient, key, operations)
    if response.status_code != 200:  # Postgres may be back already
        refused(response, 503, "unavailable")
    again = until(lambda: (response := ask(patient, key, operations)).status_code == 200 and response)
    assert again.content == first.content
