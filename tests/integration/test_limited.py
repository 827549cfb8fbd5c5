"""Limits as clients see them: settings, headers and refusals, the same through the fast lane and through Litestar."""

from typing import Any

import httpx
import pytest

from tests.service_fixture import Service, new_code, new_id, ok, refused

_KEY = {"requestsPerMinute": None, "missesPerMinute": None, "addressMissesPerMinute": None, "liveLocks": None}
_BOOK = {"missesPerMinute": None, "locksPerUser": None, "lockedPercent": None}
BY_LITESTAR = {"Prefer": "nothing"}
WAYS = pytest.mark.parametrize("way", [{}, BY_LITESTAR], ids=["fast lane", "Litestar"])


@pytest.fixture(scope="module")
def shop(service: Service) -> httpx.Client:
    """The client of a workspace of this module's own."""
    return service.make_workspace(new_id("limited"), "live")


def key_of(service: Service, shop: httpx.Client, *scopes: str, **limits: int) -> httpx.Client:
    """A client with a new key of these limits."""
    made = ok(shop.post("/v1/keys", json={"name": "limited", "scopes": scopes, "limits": limits or None}), 201)
    assert made["limits"] == (_KEY | limits if limits else None)
    return service.client(made["secret"])


def ask(client: httpx.Client, verb: str, code: str, way: dict[str, str], **body: Any) -> httpx.Response:
    """One request of the hot path."""
    return client.post(f"/v1/coupons/{verb}/{code}", json=body, headers=way)


@WAYS
def test_requests_are_limited_and_answers_say_so(service: Service, shop: httpx.Client, way: dict[str, str]) -> None:
    """Each answer has what is left; after the last one 429 and the time that remains, for routes of every kind."""
    code = new_code()
    service.book(code, client=shop)
    client = key_of(service, shop, "checkout", "manage", requestsPerMinute=4)
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
    before = service.digest()
    for answer in (
        ask(client, "redeem", code, way, userId="ann"),
        client.get("/v1/books"),
        client.get(f"/v1/coupons/{code}"),
    ):
        refused(answer, 429, "rate_limited")
        assert 0 < int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["RateLimit"].startswith('"requests";r=0;')
    assert service.digest() == before
    assert "RateLimit" not in shop.get("/v1/books").headers


@WAYS
def test_misses_are_limited(service: Service, shop: httpx.Client, way: dict[str, str]) -> None:
    """After two guesses the key is told nothing, of a coupon that there is either."""
    code = new_code()
    service.book(code, client=shop)
    client = key_of(service, shop, "checkout", missesPerMinute=2)
    for _ in range(2):
        refused(ask(client, "redeem", new_code(), way, userId="eve"), 404, "coupon_not_found")
    answer = ask(client, "redeem", code, way, userId="eve")
    refused(answer, 429, "too_many_misses")
    assert answer.headers["RateLimit-Policy"] == '"misses";q=2;w=60'


@WAYS
def test_public_guesses_are_limited_without_a_word_in_the_settings(
    service: Service, shop: httpx.Client, way: dict[str, str]
) -> None:
    """A public key's address may miss 100 times a minute; each answer before that is the same but for what is left, to
    the byte, whatever the reason."""
    codes = [new_code() for _ in range(4)]
    book = service.book(*codes, client=shop)
    ok(ask(shop, "redeem", codes[0], {}, userId="bob"), 201)
    ok(ask(shop, "assign", codes[1], {}, userId="bob"), 201)
    ok(shop.patch(f"/v1/coupons/{codes[2]}", json={"status": "inactive"}))
    client = key_of(service, shop, "public", addressMissesPerMinute=1_000)
    told = set()
    for asked in (*codes[:3], new_code()):
        answer = client.post("/v1/coupons/validate", json={"code": asked, "userId": "eve"}, headers=way)
        assert not ok(answer)["valid"]
        shown = {
            name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id", "ratelimit")
        }
        told.add((answer.content, str(shown), len(answer.headers["RateLimit"])))
    assert len(told) == 1
    assert ok(client.post("/v1/coupons/validate", json={"code": codes[3]}, headers=way))["valid"]
    usual = key_of(service, shop, "public")
    answer = usual.post("/v1/coupons/validate", json={"code": codes[3]}, headers=way)
    assert answer.headers["RateLimit-Policy"] == '"address";q=100;w=60'
    ok(shop.patch(f"/v1/books/{book}", json={"status": "active"}))


@WAYS
def test_locks_are_limited(service: Service, shop: httpx.Client, way: dict[str, str]) -> None:
    """By the book for a user, and by the key."""
    codes = [new_code() for _ in range(6)]
    book = service.book(*codes, client=shop, limits={"locksPerUser": 1})
    client = key_of(service, shop, "checkout", liveLocks=2)
    token = ok(ask(client, "lock", codes[0], way, userId="ann"), 201)["lockToken"]
    answer = ask(client, "lock", codes[1], way, userId="ann")
    refused(answer, 429, "lock_quota")
    assert 290 <= int(answer.headers["Retry-After"]) <= 300
    ok(ask(client, "lock", codes[1], way, userId="bob"), 201)
    refused(ask(client, "lock", codes[2], way, userId="cy"), 429, "lock_quota")
    assert ask(client, "unlock", codes[0], way, lockToken=token).status_code == 204
    ok(ask(client, "lock", codes[2], way, userId="cy"), 201)
    assert ok(shop.patch(f"/v1/books/{book}", json={"limits": None}))["limits"] is None
    ok(ask(shop, "lock", codes[3], way, userId="bob"), 201)


def test_each_of_a_batch_counts(service: Service, shop: httpx.Client) -> None:
    """Of five operations of a key that may ask three times three are decided."""
    codes = [new_code() for _ in range(5)]
    service.book(*codes, client=shop)
    client = key_of(service, shop, "checkout", requestsPerMinute=3)
    answer = client.post(
        "/v1/batch", json={"operations": [{"op": "lock", "code": code, "userId": "ann"} for code in codes]}
    )
    assert [result["status"] for result in ok(answer)["results"]] == [201, 201, 201, 429, 429]
    assert answer.headers["RateLimit"].startswith('"requests";r=0;')


def test_limits_are_settings(service: Service, shop: httpx.Client) -> None:
    """A key's are changed as a whole; what it doesn't say is the workspace's; each change governs what comes after."""
    client = key_of(service, shop, "checkout")
    key = next(item for item in ok(shop.get("/v1/keys"))["items"])["keyId"]
    try:
        said = {"keys": {"requestsPerMinute": 50}, "books": {"lockedPercent": 40}}
        told = ok(shop.patch("/v1/workspace", json={"limits": said}))["limits"]
        assert told == {"keys": _KEY | said["keys"], "books": _BOOK | said["books"]}
        assert client.get(f"/v1/coupons/{new_code()}").headers["RateLimit-Policy"] == '"requests";q=50;w=60'
        assert (
            ok(shop.patch(f"/v1/keys/{key}", json={"limits": {"requestsPerMinute": 7}}))["limits"]["requestsPerMinute"]
            == 7
        )
        assert client.get(f"/v1/coupons/{new_code()}").headers["RateLimit-Policy"] == '"requests";q=7;w=60'
        made = ok(shop.post(f"/v1/keys/{key}/rotate", json={"overlapSeconds": 60}), 201)
        assert made["limits"]["requestsPerMinute"] == 7
        assert ok(shop.patch(f"/v1/keys/{key}", json={"limits": None}))["limits"] is None
    finally:
        assert ok(shop.patch("/v1/workspace", json={"limits": None}))["limits"] is None
    assert "RateLimit" not in client.get(f"/v1/coupons/{new_code()}").headers
