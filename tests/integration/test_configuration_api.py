"""Configuration over HTTP: what is answered is in Postgres and in Redis, and what is refused names why."""

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.service_fixture import Service, pages


@pytest.fixture(scope="module")
def url(service: Service) -> str:
    """The service's address."""
    return service.run.url


@pytest.fixture(scope="module")
def manage(url: str) -> Iterator[httpx.Client]:
    """A client with the key `demo_manage`."""
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer demo_manage"}, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def operate(url: str) -> Iterator[httpx.Client]:
    """A client with the key `demo_operate`."""
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer demo_operate"}, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def checkout(url: str) -> Iterator[httpx.Client]:
    """A client with the key `demo_checkout`."""
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer demo_checkout"}, timeout=30) as client:
        yield client


def new_book(manage: httpx.Client, **said: Any) -> dict[str, Any]:
    """A book that was just made."""
    response = manage.post("/v1/books", json={"name": "Sale"} | said)
    assert response.status_code == 201, response.text
    assert response.headers["Location"] == f"/v1/books/{response.json()['bookId']}"
    return response.json()


def refused(response: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    """Assert a problem of this code, about this field."""
    body = response.json()
    assert (response.status_code, body.get("code")) == (status, code), response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    if field is not None:
        assert [error["field"] for error in body["errors"]] == [field]


def wait_for(manage: httpx.Client, job_id: str) -> dict[str, Any]:
    """The job once it has ended."""
    for _ in range(300):
        job = manage.get(f"/v1/jobs/{job_id}").json()
        if job["status"] != "running":
            return job
        time.sleep(0.05)
    raise AssertionError("the job takes too long")


def test_books_are_made_read_changed_and_listed(manage: httpx.Client) -> None:
    """A book reads the same wherever it comes from, and its alias is the same address."""
    tag = uuid4().hex
    made = [new_book(manage, name=f"Book {number}", tags=[tag]) for number in range(5)]
    assert manage.post("/v1/coupons", json={"name": "Book 5", "tags": [tag]}).status_code == 201
    assert manage.get(f"/v1/books/{made[0]['bookId']}").json() == made[0]

    for path in ("/v1/books", "/v1/coupons"):
        names = [item["name"] for page in pages(manage, path, tag=tag, limit=4) for item in page]
        assert names == [f"Book {number}" for number in (5, 4, 3, 2, 1, 0)]

    changed = manage.patch(f"/v1/books/{made[0]['bookId']}", json={"status": "archived", "description": "Ä"})
    assert changed.status_code == 200
    assert changed.json() == made[0] | {
        "status": "archived",
        "description": "Ä",
        "updatedAt": changed.json()["updatedAt"],
    }
    assert manage.get("/v1/books", params={"tag": tag, "q": "ä", "status": "archived"}).json()["items"] == [
        changed.json()
    ]


def test_an_upload_is_usable_at_once(manage: httpx.Client, checkout: httpx.Client) -> None:
    """What an upload added is in Redis when it is answered: owners, own limits and own ends too."""
    book, mark = new_book(manage), uuid4().hex[:12].upper()
    data = (
        "code,userId,expiresAt,maxRedemptions\r\n"
        f"{mark}-A,,,\r\n{mark.lower()}-b,alice,,\r\n{mark}-C,,2026-01-01T00:00:00Z,\r\n{mark}-D,,,7\r\n"
        f'{mark}-A,,,\r\n"{mark}-\r\n",,,\r\nNO,,,\r\n'
    )
    response = manage.post(
        f"/v1/books/{book['bookId']}/codes", content=data.encode(), headers={"Content-Type": "text/csv; charset=UTF-8"}
    )
    assert response.status_code == 200
    assert response.json() == {
        "added": 4,
        "duplicates": 1,
        "invalid": 2,
        "errors": [
            {"line": 7, "code": f"{mark}-\n", "reason": "code: must have 4 to 64 of A-Z a-z 0-9 - _"},
            {"line": 9, "code": "NO", "reason": "code: must have 4 to 64 of A-Z a-z 0-9 - _"},
        ],
    }
    seen = {name: checkout.get(f"/v1/coupons/{mark}-{name}").json() for name in "ABCD"}
    assert [(seen[name]["status"], seen[name]["userId"], seen[name]["maxRedemptions"]) for name in "ABCD"] == [
        ("available", None, 1),
        ("assigned", "alice", 1),
        ("expired", None, 1),
        ("available", None, 7),
    ]
    again = manage.post("/v1/coupons/codes", json={"bookId": book["bookId"], "codes": [f"{mark}-A", f"{mark}-E"]})
    assert again.json() == {"added": 1, "duplicates": 1, "invalid": 0, "errors": []}
    refused(manage.post("/v1/coupons/codes", json={"bookId": "x", "codes": []}), 404, "book_not_found")


def test_large_uploads_are_streamed(manage: httpx.Client) -> None:
    """An upload in chunks, without a length, is counted whole; a thousand errors are told."""
    book, mark = new_book(manage), uuid4().hex[:8].upper()

    def lines() -> Iterator[bytes]:
        for start in range(0, 12_000, 100):
            yield b"".join(b"%s-%06d\nbad code\n" % (mark.encode(), number) for number in range(start, start + 100))
        yield b"\xff\n" + f"{mark}-000000".encode()

    path = f"/v1/books/{book['bookId']}/codes"
    told = manage.post(path, content=lines(), headers={"Content-Type": "text/plain"}).json()
    errors = told.pop("errors")
    assert told == {"added": 12_000, "duplicates": 1, "invalid": 12_001}
    assert [error["line"] for error in errors] == list(range(2, 2002, 2))
    stats = manage.get(f"/v1/books/{book['bookId']}/stats").json()
    assert (stats["codes"], stats["available"]) == (12_000, 12_000)


@pytest.mark.parametrize(
    ("media", "data", "status", "code"),
    [
        ("text/csv", b"", 400, "malformed"),
        ("text/csv", b"userId,code\n", 400, "malformed"),
        ("application/json", b'{"codes": "ABCD"}', 400, "malformed"),
        ("application/json", b'{"codes": ["ABCD", 1]}', 400, "malformed"),
        ("application/xml", b"ABCD", 415, "unsupported_media_type"),
        ("text/csv; charset=latin-1", b"code\n", 415, "unsupported_media_type"),
    ],
)
def test_uploads_that_are_refused_whole(manage: httpx.Client, media: str, data: bytes, status: int, code: str) -> None:
    """A bad header, media type or JSON adds nothing."""
    book = new_book(manage)
    response = manage.post(f"/v1/books/{book['bookId']}/codes", content=data, headers={"Content-Type": media})
    refused(response, status, code)
    assert manage.get(f"/v1/books/{book['bookId']}/stats").json()["codes"] == 0


def test_codes_are_generated(manage: httpx.Client) -> None:
    """A job makes exactly as many codes as were asked for, and they are there when it is done."""
    book = new_book(manage, totalCodes=6_000)
    assert wait_for(manage, book["jobId"])["done"] == 6_000
    path = f"/v1/books/{book['bookId']}/codes/generate"
    response = manage.post(path, json={"count": 10, "codePattern": "gen-########", "charset": "ab"})
    refused(response, 422, "pattern_too_small")
    response = manage.post(path, json={"count": 10, "codePattern": f"{uuid4().hex[:8]}-######"})
    assert response.status_code == 202
    job = wait_for(manage, response.json()["jobId"])
    assert response.headers["Location"] == f"/v1/jobs/{job['jobId']}"
    assert (job["kind"], job["status"], job["requested"], job["done"], job["errors"]) == (
        "generate",
        "done",
        10,
        10,
        [],
    )
    assert manage.get(f"/v1/books/{book['bookId']}/stats").json()["available"] == 6_010
    refused(manage.post(path, json={"count": 0}), 422, "invalid", "count")
    refused(manage.get(f"/v1/jobs/{uuid4()}"), 404, "job_not_found")


def test_a_codes_uses_are_fixed_once_one_was_locked(manage: httpx.Client, checkout: httpx.Client) -> None:
    """`maxRedemptionsPerCode` can be changed until a code of the book was locked."""
    book, code = new_book(manage), uuid4().hex
    path = f"/v1/books/{book['bookId']}"
    manage.post(f"{path}/codes", json={"codes": [code]})
    assert manage.patch(path, json={"maxRedemptionsPerCode": 3}).json()["maxRedemptionsPerCode"] == 3
    assert checkout.get(f"/v1/coupons/{code}").json()["maxRedemptions"] == 3
    assert checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "u"}).status_code == 201
    refused(manage.patch(path, json={"maxRedemptionsPerCode": 4}), 422, "invalid", "maxRedemptionsPerCode")
    assert manage.patch(path, json={"maxRedemptionsPerCode": 3, "name": "New"}).json()["name"] == "New"


def test_the_same_key_does_it_once(manage: httpx.Client) -> None:
    """A repeated request answers what the first did; the key with anything else is refused; a refusal isn't kept."""
    headers = {"Idempotency-Key": uuid4().hex}
    refused(manage.post("/v1/books", json={"name": ""}, headers=headers), 422, "invalid")
    first = manage.post("/v1/books", json={"name": "Once"}, headers=headers)
    again = manage.post("/v1/books", json={"name": "Once"}, headers=headers)
    assert (first.status_code, again.status_code, again.text) == (201, 201, first.text)
    assert again.headers["Location"] == first.headers["Location"]
    assert (again.headers["Idempotency-Replayed"], "Idempotency-Replayed" in first.headers) == ("true", False)
    refused(manage.post("/v1/books", json={"name": "Twice"}, headers=headers), 422, "idempotency_key_reused")
    refused(manage.post("/v1/coupons", json={"name": "Once"}, headers=headers), 422, "idempotency_key_reused")
    refused(manage.post("/v1/books", json={"name": "x"}, headers={"Idempotency-Key": ""}), 400, "malformed")


def test_an_upload_under_a_key(manage: httpx.Client) -> None:
    """An upload's repeat answers the first's counts, and another body under its key is refused."""
    book, code = new_book(manage), uuid4().hex
    path, headers = f"/v1/books/{book['bookId']}/codes", {"Idempotency-Key": uuid4().hex, "Content-Type": "text/plain"}
    first = manage.post(path, content=code.encode(), headers=headers)
    again = manage.post(path, content=code.encode(), headers=headers)
    assert first.json()["added"] == 1
    assert (again.text, again.headers["Idempotency-Replayed"]) == (first.text, "true")
    refused(manage.post(path, content=b"OTHER", headers=headers), 422, "idempotency_key_reused")


def test_users(manage: httpx.Client, checkout: httpx.Client, operate: httpx.Client) -> None:
    """A user is created once, has the workspace's cap unless it has its own, and exists before it is created."""
    user = f"user-{uuid4().hex}"
    unknown = {"userId": user, "maxCoupons": None, "coupons": 0, "metadata": {}, "createdAt": None}
    assert checkout.get(f"/v1/users/{user}").json() == unknown
    body = {"userId": user, "maxCoupons": 5, "metadata": {"a": 1}}
    first = manage.post("/v1/users", json=body)
    assert (first.status_code, first.json()["maxCoupons"], first.json()["metadata"]) == (201, 5, {"a": 1})
    again = manage.post("/v1/users", json=body | {"maxCoupons": 6})
    assert (again.status_code, again.json()) == (200, first.json())
    assert manage.get("/v1/users", params={"limit": 1}).json()["items"] == [first.json()]

    operate.patch("/v1/workspace", json={"maxCoupons": 9})
    assert manage.patch(f"/v1/users/{user}", json={"maxCoupons": None}).json()["maxCoupons"] == 9
    operate.patch("/v1/workspace", json={"maxCoupons": None})

    book, codes = new_book(manage), [uuid4().hex for _ in range(2)]
    manage.post(f"/v1/books/{book['bookId']}/codes", json={"codes": codes})
    manage.patch(f"/v1/users/{user}", json={"maxCoupons": 1})
    assert checkout.post(f"/v1/coupons/assign/{codes[0]}", json={"userId": user}).status_code == 201
    refused(checkout.post(f"/v1/coupons/assign/{codes[1]}", json={"userId": user}), 422, "user_coupon_limit")
    assert checkout.get(f"/v1/users/{user}").json()["coupons"] == 1
    refused(manage.post("/v1/users", json={"userId": "a b"}), 422, "invalid", "userId")
    refused(checkout.get("/v1/users/a%20b"), 404, "not_found")


def test_keys(url: str, operate: httpx.Client) -> None:
    """A key works when it is answered, shows its secret once, and is refused once its end is answered."""
    headers = {"Idempotency-Key": uuid4().hex}
    body = {"name": "shop", "scopes": ["manage"]}
    made = operate.post("/v1/keys", json=body, headers=headers)
    assert made.status_code == 201
    key = made.json()
    secret = key.pop("secret")
    assert secret.startswith(key["prefix"])
    assert key["prefix"].startswith("scrip_live_")
    assert operate.post("/v1/keys", json=body, headers=headers).json() == key | {"secret": None}
    own = {"Authorization": f"Bearer {secret}"}
    assert httpx.get(f"{url}/v1/books", headers=own, timeout=30).status_code == 200
    listed = [item for item in operate.get("/v1/keys").json()["items"] if item["keyId"] == key["keyId"]]
    assert [item | {"lastUsedAt": None} for item in listed] == [key]
    assert operate.delete(f"/v1/keys/{key['keyId']}").status_code == 204
    refused(httpx.get(f"{url}/v1/books", headers=own, timeout=30), 401, "unauthenticated")
    refused(operate.delete(f"/v1/keys/{key['keyId']}"), 404, "not_found")
    for bad in (
        {"scopes": []},
        {"scopes": ["root"]},
        {"scopes": ["manage", "manage"]},
        {"expiresAt": "2020-01-01T00:00:00Z"},
    ):
        assert operate.post("/v1/keys", json=body | bad).status_code == 422
