"""Batches over HTTP: every operation, in order, each on its own, with the answers of single requests."""

import asyncio
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from service.engine.domain.errors import Refusal
from service.engine.hot.decider import Decider
from service.engine.hot.link import Link
from tests.harness.service_fixture import Service, database, dumps, new_code, new_id, ok, refused
from tests.harness.serving import without_ids
from tests.harness.waiting import PATIENCE_S, wait_until
from tests.integration.opening.test_connection import serving

_JSON = {"Content-Type": "application/json"}
_FIVE = {"maxRedemptionsPerCode": 5}
Operation = dict[str, Any]


def _batch(service: Service, *operations: Any, **headers: str) -> httpx.Response:
    """Send a batch; an operation that is bytes is sent as it is."""
    body = b'{"operations":[' + b",".join(dumps(operation) for operation in operations) + b"]}"
    return service.checkout.post("/v1/batch", content=body, headers=_JSON | headers)


def _results(service: Service, *operations: Any, **headers: str) -> list[dict[str, Any]]:
    results = ok(_batch(service, *operations, **headers))["results"]
    assert len(results) == len(operations)
    assert all(list(result) == ["status", "body"] for result in results)
    return results


def _outcomes(results: list[dict[str, Any]]) -> list[Any]:
    """The status, or the refusal's code, of each result."""
    return [result["body"]["code"] if result["status"] >= 400 else result["status"] for result in results]


def _redeem(code: str, **more: Any) -> Operation:
    return {"op": "redeem", "code": code, "userId": new_id(), "orderId": new_id("order")} | more


def test_a_bad_operation_is_refused_alone(service: Service) -> None:
    """An operation that can't be decoded is a problem in its place, with this request's id; the others are done."""
    code = service.coupon(maxRedemptionsPerCode=2)
    operations: list[tuple[Any, int, str, str]] = [
        (5, 400, "malformed", "body"), (None, 400, "malformed", "body"), ([], 400, "malformed", "body"),
        ({}, 400, "malformed", "op"), ({"op": "steal", "code": code}, 422, "invalid", "op"),
        ({"op": "assign", "userId": "u", "code": code, "bookId": "b"}, 400, "malformed", "code"),
        (b'{"op": "redeem", "code": "\xff\xfe", "userId": "u"}', 400, "malformed", "body"),
    ]  # fmt: skip
    response = _batch(service, _redeem(code), *(operation for operation, *_ in operations), _redeem(code))
    first, *refusals, last = ok(response)["results"]
    assert _outcomes([first, last]) == [201, 201]
    for (operation, status, problem, field), result in zip(operations, refusals, strict=True):
        body = result["body"]
        assert (result["status"], body["status"], body["code"]) == (status, status, problem), operation
        assert body["for"] == "caller"
        assert body["requestId"] == response.headers["X-Request-Id"]
        assert body["instance"] == f"/requests/{body['requestId']}"
        assert [error["field"] for error in body["errors"]] == [field]


def test_limits(service: Service) -> None:
    """A batch has at most 1,000 operations in 1 MiB; one that is refused whole changes nothing."""
    code = service.coupon()
    book = ok(service.checkout.get(f"/v1/coupons/{code}"))["bookId"]
    refused(_batch(service, *[_redeem(code)] * 1001), 422, "invalid", "operations")
    for deep in (b"[" * 5_000 + b"]" * 5_000, b'{"a":' * 5_000 + b"1" + b"}" * 5_000):
        refused(_batch(service, _redeem(code), deep), 400, "malformed", "body")

    body = b'{"operations":[' + dumps(_redeem(code)) + b"]"
    full = body + b" " * ((1 << 20) - len(body) - 1) + b"}"
    for content in (full + b" ", iter([full, b" "])):
        refused(service.checkout.post("/v1/batch", content=content, headers=_JSON), 413, "too_large")
    assert service.stats(book)["redemptions"] == 0
    assert _outcomes(ok(service.checkout.post("/v1/batch", content=full, headers=_JSON))["results"]) == [201]
    assert Counter(_outcomes(_results(service, *(_redeem(code) for _ in range(1000))))) == {"coupon_redeemed": 1000}


def _race(service: Service, *codes: str) -> list[list[dict[str, Any]]]:
    """Redeem each code a thousand times, in a batch of its own; the batches begin together. Return their results."""
    begin = threading.Barrier(len(codes))

    def send(code: str) -> list[dict[str, Any]]:
        body = {"operations": [_redeem(code) for _ in range(1000)]}
        begin.wait()
        headers = {"Authorization": "Bearer demo_checkout"}
        return ok(httpx.post(f"{service.run.url}/v1/batch", json=body, headers=headers, timeout=PATIENCE_S))["results"]

    with ThreadPoolExecutor(len(codes)) as pool:
        return list(pool.map(send, codes))


def test_a_thousand_at_once(service: Service) -> None:
    """Of 1,000 buyers of five uses in one batch the first five get one; of 2,000 in two batches at once, five do."""
    one, other = service.coupon(**_FIVE), service.coupon(**_FIVE)
    assert [_outcomes(results) for results in _race(service, one)] == [[201] * 5 + ["coupon_exhausted"] * 995]
    outcomes = Counter(outcome for results in _race(service, other, other) for outcome in _outcomes(results))
    assert outcomes == {201: 5, "coupon_exhausted": 1995}
    assert ok(service.checkout.get(f"/v1/coupons/{other}"))["redemptions"] == 5


def test_others_come_between(service: Service) -> None:
    """Redis decides operations of two simultaneous batches in turns (in some rounds the batches miss each other)."""

    def interleaved() -> bool:
        codes = [service.coupon(maxRedemptionsPerCode=1000) for _ in range(2)]
        one, other = ([result["body"]["redeemedAt"] for result in results] for results in _race(service, *codes))
        return max(one[0], other[0]) < min(one[-1], other[-1])

    assert any(interleaved() for _ in range(20))


def _alone(service: Service, operation: Operation) -> tuple[int, str]:
    body = {name: value for name, value in operation.items() if name != "op"}
    path = f"/v1/coupons/{operation['op']}"
    if operation["op"] != "validate" and "code" in body:
        path += f"/{body.pop('code')}"
    answer = service.checkout.post(path, json=body)
    return answer.status_code, answer.text or "null"


def _normalize(body: str, names: dict[str, str]) -> str:
    """Replace all that differs between equal answers: ids, tokens, times, and these names."""
    for name, value in names.items():
        body = body.replace(value, name)
    return without_ids(body.encode()).decode()


def test_as_single_requests(service: Service) -> None:
    """A batch answers the same bytes as its operations do as single requests, but for ids and times."""
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
            for name, value in twin.items():
                text = text.replace(name, value)
            asked.append(json.loads(text))
        alone = [_alone(service, operation) for operation in asked[0]]
        statuses |= {status for status, _ in alone}
        answer = _batch(service, *asked[1])
        together = ",".join(f'{{"status":{status},"body":{body}}}' for status, body in alone)
        assert _normalize(f'{{"results":[{together}]}}', twins[0]) == _normalize(answer.text, twins[1])
        if step is steps[0]:
            twins[0]["{token}"] = json.loads(alone[5][1])["lockToken"]
            twins[1]["{token}"] = answer.json()["results"][5]["body"]["lockToken"]
    assert statuses == {200, 201, 204, 400, 404, 409, 422}


def test_a_batch_that_changed_nothing_is_not_stored(service: Service) -> None:
    """A batch whose operations were all refused or only read is not stored: its repeat is decided again."""
    code, key = service.coupon(), uuid4().hex
    lock = ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "other"}), 201)
    operations = [_redeem(code), {"op": "validate", "code": code}]
    assert _outcomes(_results(service, *operations, **{"Idempotency-Key": key})) == ["coupon_locked", 200]
    ok(service.checkout.post("/v1/batch", json={"operations": [{"op": "unlock", "code": code} | {
        "lockToken": lock["lockToken"]}]}))  # fmt: skip
    answer = _batch(service, *operations, **{"Idempotency-Key": key})
    assert _outcomes(ok(answer)["results"]) == [201, 200]
    assert "Idempotency-Replayed" not in answer.headers


def test_an_unknown_outcome(service: Service) -> None:
    """An unknown outcome is one operation's problem; it claims the key, so that a repeat can't run yet."""
    good, broken, key = service.coupon(), service.coupon(), uuid4().hex
    ok(service.checkout.post(f"/v1/coupons/assign/{broken}", json={"userId": "u"}), 201)
    operations = [_redeem(good), _redeem(broken), _redeem(good)]
    with service.redis() as redis:
        (name,) = redis.scan_iter(f"*:c:{broken}", count=10_000)
        kept = redis.getset(name, "no record")  # the script fails on its way
        outcomes = _outcomes(_results(service, *operations, **{"Idempotency-Key": key}))
        redis.set(name, kept)
    assert outcomes == [201, "outcome_unknown", "coupon_redeemed"]
    refused(_batch(service, *operations, **{"Idempotency-Key": key}), 409, "request_in_progress")


async def test_a_connection_that_breaks(service: Service) -> None:
    """Replies before the break stand, all later outcomes are unknown; a batch is one write to Redis."""
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
        await wait_until(lambda: link.connected)
        assert decider.moment(0) != moment
        assert await _codes(decider, 1) == ["recovering"]
        await link.stop()


async def _codes(decider: Decider, count: int) -> list[Any]:
    replies = await decider.run_all(0, [("claim_key", ("k",), (1,))] * count)
    return [reply.code if isinstance(reply, Refusal) else reply for reply in replies]


@pytest.mark.parametrize("prefer", ["", "durability=recorded, wait=10"])
async def test_recorded(service: Service, prefer: str) -> None:
    """`Prefer: durability=recorded` holds for each durable operation of a batch: Postgres has all of them."""
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
    """A redemption that Postgres lacks at the end of the wait is answered as `fsynced`; the change stands."""
    code = service.coupon()
    async with database(service.run.facts["databaseUrl"]) as connection, connection.transaction():
        await connection.execute("LOCK TABLE redemptions IN EXCLUSIVE MODE")  # nothing is written meanwhile
        answer = await asyncio.to_thread(
            _batch, service, _redeem(code), _redeem(code), Prefer="durability=recorded, wait=1"
        )
    made, second = ok(answer)["results"]
    assert (made["body"]["durability"], second["status"]) == ("fsynced", 409)
    assert "Preference-Applied" not in answer.headers
