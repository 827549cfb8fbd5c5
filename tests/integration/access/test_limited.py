"""Limits over HTTP: settings, headers and refusals."""

from typing import Any

import httpx
import pytest

from tests.harness.service_fixture import Service, new_code, ok, refused
from tests.harness.serving import own_workspace

_KEY = {"requestsPerMinute": None, "missesPerMinute": None, "addressMissesPerMinute": None, "liveLocks": None}
_BOOK = {"missesPerMinute": None, "locksPerUser": None, "lockedPercent": None}
BY_LITESTAR = {"Prefer": "nothing"}
WAYS = pytest.mark.parametrize("way", [{}, BY_LITESTAR], ids=["fast lane", "Litestar"])


service = own_workspace("live")


def key_of(service: Service, *scopes: str, **limits: int) -> httpx.Client:
    """A client with a new key of these limits."""
    made = ok(service.admin.post("/v1/keys", json={"name": "limited", "scopes": scopes, "limits": limits or None}), 201)
    assert made["limits"] == (_KEY | limits if limits else None)
    return service.client(made["secret"])


def ask(client: httpx.Client, verb: str, code: str, way: dict[str, str], **body: Any) -> httpx.Response:
    """One request of the hot path."""
    return client.post(f"/v1/coupons/{verb}/{code}", json=body, headers=way)


@WAYS
def test_requests_are_limited(service: Service, way: dict[str, str]) -> None:
    """Each response has the remaining requests; beyond the limit every route returns 429 with Retry-After."""
    code = new_code()
    service.book(code)
    client = key_of(service, "checkout", "manage", requestsPerMinute=4)
    answer = ask(client, "lock", code, way, userId="ann")
    ok(answer, 201)
    assert answer.headers["RateLimit"] == '"requests";r=3;t=60'
    assert answer.headers["RateLimit-Policy"] == '"requests";q=4;w=60'
    assert client.get("/v1/books").headers["RateLimit"].startswith('"requests";r=2;')
    answer = ask(client, "lock", new_code(), way, userId="ann")
    refused(answer, 404, "coupon_not_found")
    assert answer.headers["RateLimit"].startswith('"requests";r=1;')
    answer = client.get("/v1/books/none")
    refused(answer, 404, "book_not_found")
    assert answer.headers["RateLimit"].startswith('"requests";r=0;')
    before = service.held()
    for answer in (
        ask(client, "redeem", code, way, userId="ann"),
        client.get("/v1/books"),
        client.get(f"/v1/coupons/{code}"),
    ):
        refused(answer, 429, "rate_limited")
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["RateLimit"].startswith('"requests";r=0;')
    assert service.held() == before
    assert "RateLimit" not in service.admin.get("/v1/books").headers


def test_a_limit_can_be_lifted(service: Service) -> None:
    """A key that has reached its limit may still send what needs the scope `operate` alone, such as a new limit."""
    client = key_of(service, "manage", "operate", requestsPerMinute=1)
    ok(client.get("/v1/books"))
    refused(client.get("/v1/books"), 429, "rate_limited")
    (key,) = [one for one in ok(client.get("/v1/keys"))["items"] if one["limits"] == _KEY | {"requestsPerMinute": 1}]
    ok(client.patch(f"/v1/keys/{key['keyId']}", json={"limits": {"requestsPerMinute": 100}}))
    ok(client.get("/v1/books"))


def test_misses_are_limited(service: Service) -> None:
    """After two misses a request of the key gets `too_many_misses`, for an existing coupon too."""
    code = new_code()
    service.book(code)
    client = key_of(service, "checkout", missesPerMinute=2)
    for _ in range(2):
        refused(ask(client, "redeem", new_code(), {}, userId="eve"), 404, "coupon_not_found")
    answer = ask(client, "redeem", code, {}, userId="eve")
    refused(answer, 429, "too_many_misses")
    assert answer.headers["RateLimit-Policy"] == '"misses";q=2;w=60'


@WAYS
def test_public_guesses_are_limited(service: Service, way: dict[str, str]) -> None:
    """An address with a public key may miss 100 times a minute by default; before that, responses for any reason differ
    only in what remains."""
    codes = [new_code() for _ in range(4)]
    service.book(*codes)
    ok(ask(service.admin, "redeem", codes[0], {}, userId="bob"), 201)
    ok(ask(service.admin, "assign", codes[1], {}, userId="bob"), 201)
    ok(service.admin.patch(f"/v1/coupons/{codes[2]}", json={"status": "inactive"}))
    client = key_of(service, "public", addressMissesPerMinute=1_000)
    answers = set()
    for code in (*codes[:3], new_code()):
        answer = client.post("/v1/coupons/validate", json={"code": code, "userId": "eve"}, headers=way)
        assert not ok(answer)["valid"]
        own = {"date", "x-request-id", "ratelimit"}
        headers = {name: value for name, value in answer.headers.items() if name not in own}
        answers.add((answer.content, str(headers), len(answer.headers["RateLimit"])))
    assert len(answers) == 1
    assert ok(client.post("/v1/coupons/validate", json={"code": codes[3]}, headers=way))["valid"]
    usual = key_of(service, "public")
    answer = usual.post("/v1/coupons/validate", json={"code": codes[3]}, headers=way)
    assert answer.headers["RateLimit-Policy"] == '"address";q=100;w=60'


def test_locks_are_limited(service: Service) -> None:
    """A lock beyond the book's limit for a user gets `lock_quota`, until the limit is removed."""
    codes = [new_code(), new_code()]
    book = service.book(*codes, limits={"locksPerUser": 1})
    ok(ask(service.admin, "lock", codes[0], {}, userId="ann"), 201)
    answer = ask(service.admin, "lock", codes[1], {}, userId="ann")
    refused(answer, 429, "lock_quota")
    assert 290 <= int(answer.headers["Retry-After"]) <= 300
    assert ok(service.admin.patch(f"/v1/books/{book}", json={"limits": None}))["limits"] is None
    ok(ask(service.admin, "lock", codes[1], {}, userId="ann"), 201)


def test_each_of_a_batch_counts(service: Service) -> None:
    """Each operation of a batch counts: with three requests left, three of five are decided."""
    codes = [new_code() for _ in range(5)]
    service.book(*codes)
    client = key_of(service, "checkout", requestsPerMinute=3)
    answer = client.post(
        "/v1/batch", json={"operations": [{"op": "lock", "code": code, "userId": "ann"} for code in codes]}
    )
    assert [result["status"] for result in ok(answer)["results"]] == [201, 201, 201, 429, 429]
    assert answer.headers["RateLimit"].startswith('"requests";r=0;')


def test_invalid_operations_of_a_batch_count(service: Service) -> None:
    """An operation that is refused without a script counts, too, and has its own refusal while requests are left."""
    client = key_of(service, "checkout", requestsPerMinute=3)
    sent = {"operations": [{"op": "lock", "code": "A"}, {"op": "lock"}, 1, {}, {"op": "x"}]}
    answer = client.post("/v1/batch", json=sent)
    codes = [result["body"]["code"] for result in ok(answer)["results"]]
    assert codes == ["malformed", "malformed", "malformed", "rate_limited", "rate_limited"]
    assert answer.headers["RateLimit"].startswith('"requests";r=0;')
    unlimited = ok(service.checkout.post("/v1/batch", json=sent))["results"]
    assert [result["body"]["code"] for result in unlimited] == [*["malformed"] * 4, "invalid"]


_INVALID: tuple[tuple[str, str, Any, int, str], ...] = (
    ("POST", "/v1/coupons/lock/ABCD", {}, 400, "malformed"),
    ("POST", "/v1/coupons/redeem/ABCD", [1], 400, "malformed"),
    ("POST", "/v1/coupons/redeem/A", {"userId": "ann"}, 404, "coupon_not_found"),
    ("POST", "/v1/coupons/redeem/ABCD?x=1", {"userId": "ann"}, 400, "malformed"),
    ("POST", "/v1/coupons/redeem/ABCD", {"userId": "a" * (64 << 10)}, 413, "too_large"),
    ("GET", "/v1/coupons/ABCD?x=1", None, 400, "malformed"),
    ("GET", "/v1/coupons/ABCD/validate?x=1", None, 400, "malformed"),
    ("POST", "/v1/batch", {}, 400, "malformed"),
)


@WAYS
def test_invalid_requests_count(service: Service, way: dict[str, str]) -> None:
    """A request that is refused without a script counts, too, and has its own refusal while requests are left."""
    client = key_of(service, "checkout", requestsPerMinute=len(_INVALID))
    for left, (method, path, body, status, code) in zip(range(len(_INVALID))[::-1], _INVALID, strict=True):
        answer = client.request(method, path, json=body, headers=way)
        refused(answer, status, code)
        assert answer.headers["RateLimit"].startswith(f'"requests";r={left};')
    for method, path, body, *_ in _INVALID:
        answer = client.request(method, path, json=body, headers=way)
        refused(answer, 429, "rate_limited")
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["RateLimit"].startswith('"requests";r=0;')


@WAYS
def test_a_public_validation_of_no_code_counts(service: Service, way: dict[str, str]) -> None:
    """A validation of a text that can't be a code counts, and is answered like that of an unknown code."""
    client = key_of(service, "public", requestsPerMinute=1)
    answer = client.post("/v1/coupons/validate", json={"code": "A"}, headers=way)
    assert ok(answer)["reasons"] == ["coupon_not_available"]
    assert answer.headers["RateLimit"].startswith('"requests";r=0;')
    refused(client.post("/v1/coupons/validate", json={"code": "A"}, headers=way), 429, "rate_limited")


def test_limits_are_settings(service: Service) -> None:
    """A key's limits replace the workspace's; a change applies to the next request, and a rotation keeps them."""
    client = key_of(service, "checkout")
    key = next(item for item in ok(service.admin.get("/v1/keys"))["items"])["keyId"]
    try:
        limits = {"keys": {"requestsPerMinute": 50}, "books": {"lockedPercent": 40}}
        stored = ok(service.admin.patch("/v1/workspace", json={"limits": limits}))["limits"]
        assert stored == {"keys": _KEY | limits["keys"], "books": _BOOK | limits["books"]}
        assert client.get(f"/v1/coupons/{new_code()}").headers["RateLimit-Policy"] == '"requests";q=50;w=60'
        patched = ok(service.admin.patch(f"/v1/keys/{key}", json={"limits": {"requestsPerMinute": 7}}))
        assert patched["limits"]["requestsPerMinute"] == 7
        assert client.get(f"/v1/coupons/{new_code()}").headers["RateLimit-Policy"] == '"requests";q=7;w=60'
        made = ok(service.admin.post(f"/v1/keys/{key}/rotate", json={"overlapSeconds": 60}), 201)
        assert made["limits"]["requestsPerMinute"] == 7
        assert ok(service.admin.patch(f"/v1/keys/{key}", json={"limits": None}))["limits"] is None
    finally:
        assert ok(service.admin.patch("/v1/workspace", json={"limits": None}))["limits"] is None
    assert "RateLimit" not in client.get(f"/v1/coupons/{new_code()}").headers
