"""Single coupons over HTTP: each with a book of its own, and the list of the active ones."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from service.engine.domain.decoding import convert
from service.engine.domain.errors import Refusal
from service.engine.record.pool import connect
from service.server.in_postgres import single_coupon_rows, workspace_rows
from service.server.in_postgres.code_rows import insert_codes
from service.server.in_postgres.single_coupon_rows import MAX_DRAWS, create_single, page_active
from service.server.requests.code_requests import CodeLine
from service.server.requests.single_coupon_requests import Generated, TimeSpecific
from tests.harness.service_fixture import Service, new_code, new_id, ok, pages, refused
from tests.harness.serving import own_workspace
from tests.harness.waiting import PATIENCE_S, until

_KINDS = ("user-specific", "time-specific", "generate")


service = own_workspace("live")
"""A workspace of this file's own, whose lists it reads."""


def at(days: float) -> str:
    """Format the time so many days from now as answers do."""
    return (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def make_window(**fields: Any) -> dict[str, Any]:
    """Build the fields that a time-specific coupon must have, and more."""
    return {"validFrom": at(-1), "validUntil": at(1), "maxUsesPerUser": 1} | fields


def make_body(kind: str, **fields: Any) -> dict[str, Any]:
    """Build the smallest valid request of this kind, with more fields."""
    least: dict[str, Any] = {"userId": new_id()} if kind == "user-specific" else {}
    return (make_window() if kind == "time-specific" else least) | fields


def create(service: Service, kind: str, **fields: Any) -> dict[str, Any]:
    return ok(service.manage.post(f"/v1/coupons/{kind}", json=make_body(kind, **fields)), 201)


def redeem(service: Service, code: str, user: str | None = None, **fields: Any) -> httpx.Response:
    """Redeem a code, by a new user where none is named."""
    return service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user or new_id()} | fields)


def list_active(service: Service, limit: int = 1000) -> list[dict[str, Any]]:
    path = "/v1/coupons/active/time-specific"
    return [item for page in pages(service.checkout, path, limit=limit) for item in page]


def filter_active(service: Service, *codes: str) -> list[str]:
    """Return which of these codes are active, in the list's order."""
    return [item["code"] for item in list_active(service) if item["code"] in codes]


@pytest.mark.parametrize("kind", _KINDS)
def test_all_that_can_be_said(service: Service, kind: str) -> None:
    """The answer is the coupon and the book as GET returns them; every field is where it belongs. Without a code it is
    random, and without a number of uses 1, or any for a time-specific coupon."""
    code, user = new_code(), new_id()
    body = make_window(
        userId=user, code=code.lower(), maxUsesPerUser=2, maxTotalUses=5, discountType="percentage", discountValue=12.5,
        maxDiscountAmount=50, minOrderValue="100", currency="EUR", description="For *you*", createdBy="ann",
    )  # fmt: skip
    response = service.manage.post(f"/v1/coupons/{kind}", json=body)
    coupon = ok(response, 201)
    assert response.headers["Location"] == f"/v1/coupons/{code}"
    book = coupon.pop("book")
    assert coupon == ok(service.checkout.get(response.headers["Location"]))
    assert coupon == {
        "code": code, "bookId": book["bookId"], "status": "assigned", "userId": user, "maxRedemptions": 5,
        "assignedAt": coupon["assignedAt"], "expiresAt": body["validUntil"],
        "lock": None, "lastRedemption": None, "redemptions": 0, "balance": None,
    }  # fmt: skip
    assert coupon["assignedAt"] is not None
    assert book == ok(service.manage.get(f"/v1/books/{book['bookId']}"))
    discount = {"type": "percentage", "value": "12.5", "maxAmount": "50.00", "minOrderValue": "100.00"}
    assert book == book | {
        "name": "For *you*", "description": "For *you*", "createdBy": "ann", "status": "active",
        "validFrom": body["validFrom"], "validUntil": body["validUntil"], "maxRedemptionsPerUser": 2,
        "maxRedemptionsPerCode": 5, "maxRedemptions": None, "discount": discount | {"currency": "EUR"},
        "requireAssignment": False, "requireLock": False, "totalCodes": None,
    }  # fmt: skip
    refused(redeem(service, code, orderValue=200, currency="EUR"), 409, "coupon_assigned_to_other")
    redeemed = ok(redeem(service, code, user, orderValue=200, currency="EUR"), 201)
    assert (redeemed["discountAmount"], redeemed["finalAmount"]) == ("25.00", "175.00")

    coupon = create(service, kind)
    assert [len(part) for part in coupon["code"].split("-")] == [4, 4, 4]
    assert coupon["maxRedemptions"] == (None if kind == "time-specific" else 1)


@pytest.mark.parametrize("kind", _KINDS)
def test_an_existing_code(service: Service, kind: str) -> None:
    """A code of the workspace is `code_exists` in lower case, too; another workspace can use the same code."""
    code = service.coupon()
    response = service.manage.post(f"/v1/coupons/{kind}", json=make_body(kind, code=code.lower(), maxTotalUses=7))
    refused(response, 409, "code_exists")
    assert ok(service.rival_manage.post(f"/v1/coupons/{kind}", json=make_body(kind, code=code)), 201)["code"] == code


def test_what_is_listed(service: Service) -> None:
    """The list has active time-specific coupons, newest first, with their books; none of another kind, early or late.
    Its cursor continues where the page ended, also after additions and removals, and is valid for this list alone."""
    codes = [create(service, "time-specific", description="Now")["code"] for _ in range(4)]
    others = [
        create(service, kind, validFrom=at(-1), validUntil=at(1))["code"] for kind in ("user-specific", "generate")
    ]
    for first, last in ((1, 2), (-2, -1)):
        others.append(create(service, "time-specific", validFrom=at(first), validUntil=at(last))["code"])
    newest = create(service, "time-specific", maxTotalUses=1)
    assert filter_active(service, *codes, *others, newest["code"]) == [newest["code"], *reversed(codes)]
    assert list_active(service, limit=2)[0] == newest

    ok(redeem(service, newest["code"], user := new_id()), 201)
    path = "/v1/coupons/active/time-specific"
    page = ok(service.manage.get(path, params={"limit": 2}))
    first = page["items"][0]
    assert [item["code"] for item in page["items"]] == [newest["code"], codes[3]]
    assert (first["status"], first["lastRedemption"]["userId"], first["redemptions"]) == ("redeemed", user, 1)
    create(service, "time-specific")
    ok(service.manage.patch(f"/v1/coupons/{codes[2]}", json={"status": "inactive"}))
    rest = ok(service.manage.get(path, params={"limit": 2, "cursor": page["nextCursor"]}))
    assert [item["code"] for item in rest["items"]] == [codes[1], codes[0]]
    foreign = ok(service.manage.get("/v1/books", params={"limit": 1}))["nextCursor"]
    refused(service.manage.get(path, params={"cursor": foreign}), 400, "malformed", "cursor")


def test_what_leaves_the_list(service: Service) -> None:
    """A coupon leaves the list while it or its book is off or out of its window; an uploaded code never enters it."""
    coupon, uploaded = create(service, "time-specific"), new_code()
    code, book = coupon["code"], coupon["bookId"]
    ok(service.manage.post(f"/v1/books/{book}/codes", json={"codes": [uploaded]}))
    for path, off, on in (
        (f"/v1/coupons/{code}", {"status": "inactive"}, {"status": "active"}),
        (f"/v1/coupons/{code}", {"expiresAt": at(-0.5)}, {"expiresAt": None}),
        (f"/v1/books/{book}", {"status": "inactive"}, {"status": "active"}),
        (f"/v1/books/{book}", {"status": "archived"}, {"status": "active"}),
        (f"/v1/books/{book}", {"validFrom": at(0.5)}, {"validFrom": None}),
        (f"/v1/books/{book}", {"validUntil": at(-0.5)}, {"validUntil": None}),
    ):
        ok(service.manage.patch(path, json=off))
        assert filter_active(service, code, uploaded) == []
        ok(service.manage.patch(path, json=on))
        assert filter_active(service, code, uploaded) == [code]
    assert list_active(service)[0]["book"] == ok(service.manage.get(f"/v1/books/{book}"))


def test_paths_beside_codes(service: Service) -> None:
    """The kinds are paths, not codes: they allow POST alone, and no coupon has their names."""
    for kind in _KINDS:
        for method in ("GET", "PATCH", "DELETE"):
            response = service.admin.request(method, f"/v1/coupons/{kind}")
            refused(response, 405, "method_not_allowed")
            assert "POST" in response.headers["Allow"]
        refused(service.admin.get(f"/v1/coupons/{kind.upper()}"), 404, "coupon_not_found")
        refused(service.admin.get(f"/v1/coupons/{kind}/redemptions"), 404, "coupon_not_found")
    refused(service.admin.get("/v1/coupons/active"), 404, "coupon_not_found")
    refused(service.admin.post("/v1/coupons/active/time-specific", json={}), 405, "method_not_allowed")


async def test_books_of_the_same_number(pool: asyncpg.Pool) -> None:
    """Each workspace numbers its own books, and lists its own coupons."""
    async with pool.acquire() as connection:
        first, second = [await workspace_rows.create_workspace(connection, name) for name in ("first", "second")]
    book, code = await create_single(pool, first.workspace, first.partition, convert(make_window(), TimeSpecific))
    other, _ = await create_single(pool, second.workspace, second.partition, Generated())
    assert other.book == book.book
    assert await page_active(pool, first.workspace, 10, None) == [(book, code.code)]
    assert await page_active(pool, second.workspace, 10, None) == []


def test_a_test_workspaces_clock(service: Service) -> None:
    """The list uses the workspace's clock: the window includes its start and excludes its end."""
    client = service.make_workspace(new_id("single"), "test").admin
    body = make_window(validFrom="2040-01-01T00:00:00Z", validUntil="2040-02-01T00:00:00Z", maxUsesPerUser=9)
    code = ok(client.post("/v1/coupons/time-specific", json=body), 201)["code"]
    for now, is_listed in (
        (None, False),
        ("2039-12-31T23:00:00Z", False),
        ("2040-01-01T00:00:00Z", True),
        ("2040-01-31T23:00:00Z", True),
        ("2040-02-01T00:00:00Z", False),
    ):
        ok(client.post("/v1/test/clock", json={"now": now}))
        items = ok(client.get("/v1/coupons/active/time-specific"))["items"]
        assert [item["code"] for item in items] == [code] * is_listed
        redeemed = client.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"})
        assert redeemed.is_success == is_listed


async def test_a_coupon_that_redis_does_not_have_yet(service: Service) -> None:
    """The list skips a coupon that is not in Redis yet; once it is there, the coupon can be used."""
    async with await connect(service.run.facts["databaseUrl"]) as pool:
        window = convert(make_window(), TimeSpecific)
        _, code = await create_single(pool, service.number, service.partition, window)
        assert filter_active(service, code.code) == []
    until(lambda: filter_active(service, code.code))
    ok(redeem(service, code.code), 201)


async def _post_at_once(service: Service, count: int, kind: str, body: Any, key: str) -> list[httpx.Response]:
    headers = {"Authorization": f"Bearer {service.workspace}_manage", "Idempotency-Key": key}
    async with httpx.AsyncClient(base_url=service.run.url, headers=headers, timeout=PATIENCE_S, verify=False) as client:
        return await asyncio.gather(*(client.post(f"/v1/coupons/{kind}", json=body) for _ in range(count)))


async def test_one_key_by_many_at_once(service: Service) -> None:
    """Of 50 requests with one Idempotency-Key one makes a coupon; others are replays or `request_in_progress`."""
    key, tag = uuid4().hex, uuid4().hex
    kind, body = "generate", make_body("generate", description=tag)
    responses = await _post_at_once(service, 50, kind, body, key)
    replays = await _post_at_once(service, 2, kind, body, key)
    coupons = [ok(response, 201) for response in (*responses, *replays) if response.status_code == 201]
    assert all(coupon == coupons[0] for coupon in coupons)
    assert {response.headers["Location"] for response in replays} == {f"/v1/coupons/{coupons[0]['code']}"}
    assert [response.headers.get("Idempotency-Replayed") for response in replays] == ["true", "true"]
    for response in responses:
        if response.status_code != 201:
            refused(response, 409, "request_in_progress")
    assert len(ok(service.manage.get("/v1/books", params={"q": tag}))["items"]) == 1
    (other,) = await _post_at_once(service, 1, kind, body | {"createdBy": "bob"}, key)
    refused(other, 422, "idempotency_key_reused")


async def test_random_codes_that_exist(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random code that the workspace has is passed over; where all draws exist, nothing is made."""
    draws: list[str] = ["TAKEN-0"]
    monkeypatch.setattr(single_coupon_rows, "generate_codes", lambda pattern, charset, count: draws[:count])
    async with pool.acquire() as connection:
        row = await workspace_rows.create_workspace(connection, "shop")
        first, _ = await create_single(pool, row.workspace, row.partition, Generated())
        draws += [f"TAKEN-{number}" for number in range(1, MAX_DRAWS - 1)]
        lines = [CodeLine(code) for code in draws[1:]]
        await insert_codes(connection, row.workspace, row.partition, first.book, first.version, lines)
    draws.append("FREE-1")
    book, code = await create_single(pool, row.workspace, row.partition, Generated())
    assert (book.name, code.code, code.book) == ("Coupon FREE-1", "FREE-1", book.book)
    with pytest.raises(Refusal, match="code_exists"):
        await create_single(pool, row.workspace, row.partition, Generated())
    assert await pool.fetchval("SELECT count(*) FROM books") == 2
