"""What is kept of a batch under its Idempotency-Key: a reference, of which the first answer is made again."""

import json
import os
import signal
from typing import Any
from uuid import uuid4

import httpx

from service.formats.idempotency_entry import packed_answer
from tests.integration.test_recalling import forget
from tests.service_fixture import Service, dumps, new_code, new_id, ok, refused, until

Operation = dict[str, Any]
SIZE = 200


def ask(service: Service, key: str, operations: list[Any], **headers: str) -> httpx.Response:
    """A batch under a key."""
    body = b'{"operations":[' + b",".join(map(dumps, operations)) + b"]}"
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "shop/1"} | headers
    return service.checkout.post("/v1/batch", content=body, headers=headers)


def entry(service: Service, key: str) -> str:
    """What Redis keeps under the key."""
    with service.redis() as client:
        (name,) = client.scan_iter(f"*:i:{key}", count=10_000)
        return client.get(name)


def repeated(service: Service, key: str, operations: list[Any], first: httpx.Response) -> None:
    """The repeat answers the same bytes."""
    again = ask(service, key, operations)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Content-Type"] == first.headers["Content-Type"]


def of_all_kinds(service: Service, owner: str) -> tuple[list[Any], str]:
    """Operations of every kind with answers of every kind, and the book that most are of."""
    discount = {"type": "percentage", "value": 20, "currency": "JPY"}
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
        {"op": "validate", "code": "NO-SUCH-CODE"}, {"op": "redeem", "code": codes[2], **buy, "orderValue": "0.5"},
        {"op": "redeem", "code": codes[2], **buy, "colour": "\t\n"}, 5, {"op": "lock", "code": "", "userId": "u"},
    ], book  # fmt: skip


def test_it_is_answered_as_before_whatever_happened_since(patient: Service) -> None:
    """Byte for byte: with the outbox forgotten, settings changed, everything rolled back, and Redis rebuilt."""
    key, owner = uuid4().hex, new_id()
    operations, book = of_all_kinds(patient, owner)
    first = ask(patient, key, operations, Prefer="durability=recorded")
    statuses = [result["status"] for result in ok(first)["results"]]
    done = [201, 200, 409, 201, 422, 201, 200, 200, 200, 204, 201, 201, 200, 404]
    assert statuses == [*done, *[200] * 4, 422, 400, 400, 404]
    repeated(patient, key, operations, first)
    assert ok(patient.manage.patch(f"/v1/books/{book}", json={"discount": None, "codePattern": "X-########"}))
    ok(patient.operate.patch("/v1/workspace", json={"currency": "KWD"}))
    for order in {operation["orderId"] for operation in operations[:2]}:
        ok(patient.manage.post(f"/v1/orders/{order}/rollback", json={}))
    repeated(patient, key, operations, first)
    ok(patient.checkout.post(f"/v1/coupons/lock/{patient.coupon()}", json={"userId": "u"}), 201)
    ok(patient.checkout.post(f"/v1/coupons/redeem/{patient.coupon()}", json={"userId": "u"}), 201)
    forget(patient)  # but for the last event
    repeated(patient, key, operations, first)
    with patient.redis() as client:
        client.flushall()
    until(lambda: not patient.run.ready())
    until(lambda: patient.run.ready() and patient.checkout.get("/v1/users/nobody").is_success)
    repeated(patient, key, operations, first)


def test_what_is_kept_is_a_reference(service: Service) -> None:
    """A redemption takes some bytes, a lock or an assignment what was drawn for it; no user is named but those whom
    their operations don't name."""
    user = new_id()
    for op, most_bytes in (("redeem", 4), ("lock", 40), ("assign", 50)):
        codes, key = [new_code() for _ in range(SIZE)], uuid4().hex
        book = service.book(*codes)
        asked = [
            {"op": op, "userId": user} | ({"bookId": book} if op == "assign" else {"code": code, "orderId": new_id()})
            for code in codes
        ]
        ok(ask(service, key, asked))
        kept = entry(service, key)
        assert kept.split(" ")[4].startswith("B")
        assert len(kept) < 300 + most_bytes * SIZE, (op, len(kept))


def test_an_answer_that_the_version_before_kept_is_answered(service: Service) -> None:
    """JSON, packed or not, as it was."""
    operations = [{"op": "unlock", "code": service.coupon(), "lockToken": "gone"}] * 2
    for count in (1, 600):
        key = uuid4().hex
        ok(ask(service, key, operations))
        body = json.dumps({"results": [{"status": 201, "body": {"userId": "x"}}] * count}).encode()
        with service.redis() as client:
            (name,) = client.scan_iter(f"*:i:{key}", count=10_000)
            head = client.get(name).rsplit(" ", 1)[0]
            client.set(name, f"{head} {packed_answer(body)}", keepttl=True)
        assert ask(service, key, operations).content == body


def test_without_postgres_it_is_unavailable(patient: Service) -> None:
    """503, where the outbox has forgotten its redemptions; then the first answer again."""
    key = uuid4().hex
    codes = [new_code() for _ in range(3)]
    patient.book(*codes)
    operations = [{"op": "redeem", "code": code, "userId": "u"} for code in codes[:2]]
    first = ask(patient, key, operations)
    ok(patient.checkout.post(f"/v1/coupons/redeem/{codes[2]}", json={"userId": "u"}), 201)
    forget(patient)
    os.kill(patient.run.facts["pids"]["postgres"][0], signal.SIGKILL)
    asked = ask(patient, key, operations)
    if asked.status_code != 200:  # Postgres may be back already
        refused(asked, 503, "unavailable")
    until(lambda: ask(patient, key, operations).status_code == 200)
    repeated(patient, key, operations, first)
