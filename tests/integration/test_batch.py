"""Batches over HTTP: every operation, in order, each on its own, and word for word what single requests answer."""

import asyncio
import json
import re
import threading
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from service.domain.errors import Refusal
from service.hot.connection import Link
from service.hot.decider import Decider
from tests.integration.test_connection import serving
from tests.service_fixture import Service, dumps, new_code, new_id, ok, refused

_JSON = {"Content-Type": "application/json"}
_FIVE = {"maxRedemptionsPerCode": 5}
_CHANGING = (
    (r'"[0-9a-f]{8}-[0-9a-f-]{27}"', '"ID"'), (r'"\d{4}-\d\d-\d\dT[\d:.]+Z"', '"TIME"'), (r"/requests/[\w-]+", "/IT"),
    (r'"lockToken":"[^"]+"', '"lockToken":"T"'), (r"T-[0-9A-F]{16}", "CODE"), (r"order-[0-9a-f]{16}", "ORDER"),
)  # fmt: skip
Operation = dict[str, Any]


def _batch(service: Service, *operations: Any, **headers: str) -> httpx.Response:
    """Operations that are bytes go out as they are."""
    body = b'{"operations":[' + b",".join(dumps(operation) for operation in operations) + b"]}"
    return service.checkout.post("/v1/batch", content=body, headers=_JSON | headers)


def _results(service: Service, *operations: Any, **headers: str) -> list[dict[str, Any]]:
    results = ok(_batch(service, *operations, **headers))["results"]
    assert len(results) == len(operations)
    assert all(list(result) == ["status", "body"] for result in results)
    return results


def _told(results: list[dict[str, Any]]) -> list[Any]:
    """201, or the refusal's code."""
    return [result["body"]["code"] if result["status"] >= 400 else result["status"] for result in results]


def _redeem(code: str, **more: Any) -> Operation:
    return {"op": "redeem", "code": code, "userId": new_id(), "orderId": new_id("order")} | more


def test_every_operation_in_order(service: Service) -> None:
    """Each operation sees what those before it did, and its answer stands in its place."""
    code, free, user, order = new_code(), new_code(), new_id(), new_id("order")
    book = service.book(code, free)
    mine = {"code": code, "userId": user, "orderId": order}
    told = _results(
        service,
        {"op": "assign", "code": code.lower(), "userId": user}, {"op": "assign", "code": code, "userId": user},
        {"op": "assign", "bookId": book, "userId": user}, {"op": "assign", "bookId": book, "userId": user},
        {"op": "lock"} | mine, {"op": "lock"} | mine, {"op": "lock", "code": code, "userId": "other"},
        {"op": "validate"} | mine, {"op": "extend", "code": code, "lockToken": "gone"},
        {"op": "unlock", "code": code, "lockToken": "gone"}, {"op": "redeem"} | mine, {"op": "redeem"} | mine,
        _redeem(code), {"op": "validate", "code": code}, {"op": "validate", "code": "NO-SUCH-CODE"},
    )  # fmt: skip
    assert _told(told) == [
        201, 200, 201, "out_of_stock", 201, 200, "coupon_assigned_to_other", 200, "lock_lost", 204, 201, 200,
        "coupon_assigned_to_other", 200, 200,
    ]  # fmt: skip
    assert (told[0]["body"]["code"], told[2]["body"]["code"]) == (code, free)
    assert told[9]["body"] is None
    assert told[11]["body"] == told[10]["body"]
    reasons = [(told[place]["body"]["valid"], told[place]["body"]["reasons"]) for place in (7, 13, 14)]
    assert reasons == [(True, []), (False, ["coupon_redeemed"]), (False, ["coupon_not_found"])]
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["lastRedemption"]["orderId"] == order


def test_a_bad_operation_is_refused_alone(service: Service) -> None:
    """What can't be read or makes no sense is a problem in its place, of this request, and the others are done."""
    code = service.coupon(maxRedemptionsPerCode=3)
    operations: list[tuple[Any, int, str, str | None]] = [
        (5, 400, "malformed", "body"), (None, 400, "malformed", "body"), ([], 400, "malformed", "body"),
        ({}, 400, "malformed", "op"), ({"op": "steal", "code": code}, 422, "invalid", "op"),
        ({"op": "lock", "userId": "u"}, 400, "malformed", "code"),
        ({"op": "assign", "userId": "u"}, 400, "malformed", "code"),
        ({"op": "assign", "userId": "u", "code": code, "bookId": "b"}, 400, "malformed", "code"),
        (_redeem(code, colour=1), 400, "malformed", "colour"), (_redeem(code, userId="a b"), 422, "invalid", "userId"),
        (_redeem("LOCK"), 404, "coupon_not_found", None), (_redeem("a b"), 404, "coupon_not_found", None),
        ({"op": "assign", "bookId": "x", "userId": "u"}, 404, "book_not_found", None),
        (b'{"op": "redeem", "code": "\xff\xfe", "userId": "u"}', 400, "malformed", "body"),
    ]  # fmt: skip
    sent = [_redeem(code), *(operation for operation, *_ in operations), _redeem(code)]
    answer = _batch(service, *sent[:7], _redeem(code), *sent[7:])
    results = ok(answer)["results"]
    good = [results.pop(place) for place in (-1, 7, 0)]
    assert _told(good) == [201, 201, 201]
    for (operation, status, problem, field), result in zip(operations, results, strict=True):
        body = result["body"]
        assert (result["status"], body["status"], body["code"]) == (status, status, problem), operation
        assert body["requestId"] == answer.headers["X-Request-Id"]
        assert body["instance"] == f"/requests/{body['requestId']}"
        assert [error["field"] for error in body.get("errors", [])] == ([field] if field else [])


def test_limits(service: Service) -> None:
    """1 to 1,000 operations in at most 1 MiB; what is refused whole has done nothing."""
    code = service.coupon()
    book = ok(service.checkout.get(f"/v1/coupons/{code}"))["bookId"]
    refused(_batch(service), 422, "invalid", "operations")
    refused(_batch(service, *[_redeem(code)] * 1001), 422, "invalid", "operations")
    for body in ({}, {"operations": None}, {"operations": {}}, {"operations": "x"}):
        refused(service.checkout.post("/v1/batch", json=body), 400, "malformed", "operations")
    refused(service.checkout.post("/v1/batch", json={"operations": [1], "colour": 1}), 400, "malformed", "colour")
    refused(_batch(service, _redeem(code), b"{"), 400, "malformed", "body")
    refused(_batch(service, _redeem(code), b"[" * 5_000 + b"]" * 5_000), 400, "malformed", "body")
    refused(_batch(service, _redeem(code), b'{"a":' * 5_000 + b"1" + b"}" * 5_000), 400, "malformed", "body")

    body = b'{"operations":[' + dumps(_redeem(code)) + b"]"
    full = body + b" " * ((1 << 20) - len(body) - 1) + b"}"
    for content in (full + b" ", iter([full, b" "])):
        refused(service.checkout.post("/v1/batch", content=content, headers=_JSON), 413, "too_large")
    refused(service.checkout.post("/v1/batch", content=full, headers={"Content-Type": "text/x"}), 415,
            "unsupported_media_type")  # fmt: skip
    refused(service.public.post("/v1/batch", content=full, headers=_JSON), 403, "forbidden")
    assert service.stats(book)["redemptions"] == 0
    assert _told(ok(service.checkout.post("/v1/batch", content=full, headers=_JSON))["results"]) == [201]
    assert Counter(_told(_results(service, *(_redeem(code) for _ in range(1000))))) == {"coupon_redeemed": 1000}


def test_a_thousand_at_once(service: Service) -> None:
    """Of 1,000 buyers of five uses in one batch the first five get one; of 2,000 in two at once, five do."""
    one, other = service.coupon(**_FIVE), service.coupon(**_FIVE)
    assert _told(_results(service, *(_redeem(one) for _ in range(1000)))) == [201] * 5 + ["coupon_exhausted"] * 995
    told: list[Any] = []

    def buy() -> None:
        body = {"operations": [_redeem(other) for _ in range(1000)]}
        headers = {"Authorization": "Bearer demo_checkout"}
        told.extend(_told(ok(httpx.post(f"{service.run.url}/v1/batch", json=body, headers=headers))["results"]))

    threads = [threading.Thread(target=buy) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(told) == {201: 5, "coupon_exhausted": 1995}
    assert ok(service.checkout.get(f"/v1/coupons/{other}"))["redemptions"] == 5


def test_others_come_between(service: Service) -> None:
    """A batch doesn't take the connection to Redis for itself: of two that are there at once, neither is decided as a
    whole. (They may miss each other, so there are some rounds.)"""

    def times(code: str, both: threading.Barrier, told: list[list[str]]) -> None:
        body = {"operations": [_redeem(code) for _ in range(1000)]}
        headers = {"Authorization": "Bearer demo_checkout"}
        both.wait()
        results = ok(httpx.post(f"{service.run.url}/v1/batch", json=body, headers=headers))["results"]
        told.append([result["body"]["redeemedAt"] for result in results])

    def interleaved() -> bool:
        both, told = threading.Barrier(2), list[list[str]]()
        codes = [service.coupon(maxRedemptionsPerCode=1000) for _ in range(2)]
        threads = [threading.Thread(target=times, args=(code, both, told)) for code in codes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        one, other = told
        return max(one[0], other[0]) < min(one[-1], other[-1])

    assert any(interleaved() for _ in range(20))


def test_precision(service: Service) -> None:
    """Amounts and metadata are what was written: no float comes between."""
    codes = [service.coupon() for _ in range(6)]
    values = (b"0.1", b"99999999999.99", b"0.10000000000000000000", b"0.12345678901234567890", b"12345678901234567890",
              b"99999999999.9900000001")  # fmt: skip
    sent = [
        b'{"orderValue": %b, "op": "redeem", "code": "%b", "userId": "u", "metadata": {"n": 9007199254740993}}'
        % (value, code.encode())
        for code, value in zip(codes, values, strict=True)
    ]
    results = _results(service, *sent)
    assert _told(results) == [201, 201, 201, "invalid", "invalid", "invalid"]
    assert [result["body"]["orderValue"] for result in results[:3]] == ["0.10", "99999999999.99", "0.10"]
    assert [result["body"]["metadata"] for result in results[:3]] == [{"n": 9007199254740993}] * 3


def _alone(service: Service, operation: Operation) -> tuple[int, str]:
    """What the single request is answered."""
    body = {name: value for name, value in operation.items() if name != "op"}
    path = f"/v1/coupons/{operation['op']}"
    if operation["op"] != "validate" and "code" in body:
        path += f"/{body.pop('code')}"
    answer = service.checkout.post(path, json=body)
    return answer.status_code, answer.text or "null"


def _alike(text: str) -> str:
    for pattern, word in _CHANGING:
        text = re.sub(pattern, word, text)
    return re.sub(r'"requestId":"[^"]+"', '"requestId":"IT"', text)


def test_as_single_requests(service: Service) -> None:
    """The same operations on twin coupons are answered the same, byte for byte but for ids and times."""
    discount = {"type": "percentage", "value": 20, "minOrderValue": 10}
    twins = [{"{code}": new_code(), "{free}": new_code(), "{order}": new_id("order")} for _ in range(2)]
    for twin in twins:
        twin["{book}"] = service.book(twin["{code}"], twin["{free}"], discount=discount, lockSeconds=60)
    on = {"code": "{code}", "userId": "twin", "orderId": "{order}"}
    steps: list[list[Operation]] = [
        [
            {"op": "validate", "code": "{code}", "orderValue": 12.5}, {"op": "assign", "code": "{code}", "userId": "/"},
            {"op": "assign", "code": "{code}", "userId": "twin"}, {"op": "assign", "code": "{code}", "userId": "twin"},
            {"op": "assign", "code": "{code}", "userId": "x"},
            {"op": "lock", **on}, {"op": "lock", **on, "lockSeconds": 0}, {"op": "lock", **on, "lockSeconds": 1.5},
            {"op": "lock", "code": "{code}", "userId": "x"}, {"op": "assign", "bookId": "{book}", "userId": "twin"},
            {"op": "assign", "bookId": "{book}", "userId": "twin"}, {"op": "assign", "bookId": "x", "userId": "twin"},
            {"op": "assign", "bookId": "{book}", "userId": "a/b"}, {"op": "lock", "code": "abc", "userId": "x"},
        ],
        [
            {"op": "extend", "code": "{code}", "lockToken": "{token}", "lockSeconds": 90},
            {"op": "extend", "code": "{code}", "lockToken": "gone"}, {"op": "extend", "code": "{code}"},
            {"op": "validate", **on}, {"op": "validate", **on, "items": [1]}, {"op": "validate", "code": ""},
            *({"op": "redeem", **on} | more for more in (
                {}, {"orderValue": 9.99}, {"orderValue": "x"}, {"orderValue": -1}, {"orderValue": "0.001"},
                {"orderValue": 50, "currency": "EUR"}, {"currency": "usd"}, {"metadata": {"a": "x" * 1024}},
                {"items": [{"sku": "", "quantity": 1, "unitPrice": 1}]}, {"colour": 1}, {"lockToken": "gone"},
                {"orderValue": 50.05, "lockToken": "{token}", "metadata": {"ü": [None, 1.5]}}, {"orderValue": 50},
                {"orderValue": 50, "userId": "x"}, {"code": "NO-SUCH-CODE"}, {"code": "unlock"},
            )),
            {"op": "unlock", "code": "{code}", "lockToken": "{token}"}, {"op": "unlock", "code": "{free}"},
            {"op": "validate", **on, "orderValue": "70.000"}, {"op": "lock", **on},
        ],
    ]  # fmt: skip
    statuses: set[int] = set()
    for step in steps:
        asked: list[list[Operation]] = []
        for twin in twins:
            text = json.dumps(step)
            for word, value in twin.items():
                text = text.replace(word, value)
            asked.append(json.loads(text))
        alone = [_alone(service, operation) for operation in asked[0]]
        statuses |= {status for status, _ in alone}
        answer = _batch(service, *asked[1])
        together = ",".join(f'{{"status":{status},"body":{body}}}' for status, body in alone)
        assert _alike(f'{{"results":[{together}]}}') == _alike(answer.text)
        if step is steps[0]:
            twins[0]["{token}"] = json.loads(alone[5][1])["lockToken"]
            twins[1]["{token}"] = answer.json()["results"][5]["body"]["lockToken"]
    assert statuses == {200, 201, 204, 400, 404, 409, 422}


def test_idempotency_keys(service: Service) -> None:
    """Under its key a batch answers what it answered, byte for byte and large or not; another batch is refused."""
    for count in (1, 600):
        code, key = service.coupon(maxRedemptionsPerCode=1000), uuid4().hex
        operations = [{"op": "redeem", "code": code, "userId": "u", "metadata": {"ü": "€"}}] * count
        sent = [*operations, {"op": "redeem"}, {"op": "unlock", "code": code, "lockToken": "gone"}]
        first = _batch(service, *sent, **{"Idempotency-Key": key})
        assert _told(ok(first)["results"]) == [201] * count + ["malformed", 204]
        assert "Idempotency-Replayed" not in first.headers
        again = _batch(service, *sent, **{"Idempotency-Key": key})
        assert again.content == first.content
        assert again.headers["Idempotency-Replayed"] == "true"
        refused(_batch(service, *sent[1:], **{"Idempotency-Key": key}), 422, "idempotency_key_reused")
        alone = service.checkout.post(
            f"/v1/coupons/redeem/{code}", json={"userId": "u"}, headers={"Idempotency-Key": key}
        )
        refused(alone, 422, "idempotency_key_reused")
        assert ok(service.checkout.get(f"/v1/coupons/{code}"))["redemptions"] == count
        with service.redis() as redis:
            (name,) = redis.scan_iter(f"*:i:{key}", count=10_000)
            assert len(redis.get(name)) < max(4096, len(first.content) / 3)


def test_a_batch_that_changed_nothing_is_not_kept(service: Service) -> None:
    """Where every operation was refused, or just looked, the repeat is decided anew."""
    code, key = service.coupon(), uuid4().hex
    lock = ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "other"}), 201)
    operations = [_redeem(code), {"op": "validate", "code": code}]
    assert _told(_results(service, *operations, **{"Idempotency-Key": key})) == ["coupon_locked", 200]
    ok(service.checkout.post("/v1/batch", json={"operations": [{"op": "unlock", "code": code} | {
        "lockToken": lock["lockToken"]}]}))  # fmt: skip
    answer = _batch(service, *operations, **{"Idempotency-Key": key})
    assert _told(ok(answer)["results"]) == [201, 200]
    assert "Idempotency-Replayed" not in answer.headers


def test_an_outcome_that_nobody_knows(service: Service) -> None:
    """It is told alone, and keeps the key: a repeat may not run while the first's end is unknown."""
    good, broken, key = service.coupon(), service.coupon(), uuid4().hex
    ok(service.checkout.post(f"/v1/coupons/lock/{broken}", json={"userId": "u"}), 201)
    operations = [_redeem(good), _redeem(broken), _redeem(good)]
    with service.redis() as redis:
        (name,) = redis.scan_iter(f"*:c:{broken}", count=10_000)
        kept = redis.getset(name, "no record")  # the script fails on its way
        told = _told(_results(service, *operations, **{"Idempotency-Key": key}))
        redis.set(name, kept)
    assert told == [201, "outcome_unknown", "coupon_redeemed"]
    refused(_batch(service, *operations, **{"Idempotency-Key": key}), 409, "request_in_progress")
    with service.redis() as redis:  # the claim would end within the next minute, and tests compare all of Redis
        redis.delete(*redis.scan_iter(f"*:i:{key}", count=10_000))


async def test_a_connection_that_breaks(service: Service) -> None:
    """What was answered before it broke stands, the rest is unknown, each alone; all went out in one write."""
    number = 0

    def three(_: list[str]) -> bytes | None:
        nonlocal number
        number += 1
        return b"*2\r\n:0\r\n:%d\r\n" % number if number <= 3 else None

    async with serving(three) as server:
        link = Link(server.url, "tests")
        decider = Decider(link)
        assert await _codes(decider, 2) == ["recovering", "recovering"]
        decider.learn(0, 1, "nonce")
        assert await _codes(decider, 1) == ["unavailable"]
        await link.start()
        assert await _codes(decider, 1) == ["recovering"]  # Postgres was asked before there was this connection
        decider.learn(0, 1, "nonce")
        moment, before = decider.moment(0), len(server.chunks)
        assert await _codes(decider, 5) == [[0, 1], [0, 2], [0, 3], "outcome_unknown", "outcome_unknown"]
        assert len(server.chunks) == before + 1
        assert await decider.run_all(0, []) == []
        for _ in range(100):  # it reconnects meanwhile
            if link.connected:
                break
            await asyncio.sleep(0.02)
        assert decider.moment(0) != moment
        assert await _codes(decider, 1) == ["recovering"]
        await link.stop()


async def _codes(decider: Decider, count: int) -> list[Any]:
    replies = await decider.run_all(0, [("claim", ("k",), (1,))] * count)
    return [reply.code if isinstance(reply, Refusal) else reply for reply in replies]


@pytest.mark.parametrize("prefer", ["", "durability=recorded", "durability=recorded, wait=10"])
async def test_recorded(service: Service, prefer: str) -> None:
    """The preference holds for all of it: each durable answer says so, and all of it is in Postgres."""
    codes = [new_code() for _ in range(50)]
    service.book(*codes)
    operations = [_redeem(code) for code in codes[:-1]]
    operations += [{"op": "assign", "code": codes[-1], "userId": "u"}, {"op": "lock", "code": codes[-1], "userId": "u"}]
    answer = _batch(service, {"op": "lock"}, *operations, **({"Prefer": prefer} if prefer else {}))
    _, *done, lock = ok(answer)["results"]
    assert {result["body"]["durability"] for result in done} == {"recorded" if prefer else "fsynced"}
    assert "durability" not in lock["body"]
    assert answer.headers.get("Preference-Applied") == ("durability=recorded" if prefer else None)
    if prefer:
        ids = [UUID(result["body"]["redemptionId"]) for result in done[:-1]]
        assert len(await service.fetch("SELECT FROM redemptions WHERE redemption_id = ANY($1)", ids)) == len(ids)
    refused(_batch(service, *operations, Prefer="durability=recorded, wait=11"), 400, "malformed", "Prefer")


async def test_not_recorded_in_time(service: Service) -> None:
    """What isn't in Postgres within the wait is not said to be; the change stands."""
    code = service.coupon()
    connection = await asyncpg.connect(service.run.facts["databaseUrl"])
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE redemptions IN EXCLUSIVE MODE")  # nothing is written meanwhile
            answer = await asyncio.to_thread(
                _batch, service, _redeem(code), _redeem(code), Prefer="durability=recorded, wait=1"
            )
    finally:
        await connection.close()
    made, second = ok(answer)["results"]
    assert (made["body"]["durability"], second["status"]) == ("fsynced", 409)
    assert "Preference-Applied" not in answer.headers
