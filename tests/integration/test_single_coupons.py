"""Single coupons over HTTP: each with a book of its own, and the list of those of this time."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from service.domain.code_requests import CodeLine
from service.domain.decoding import convert
from service.domain.errors import Refusal
from service.domain.single_coupon_requests import Generated, TimeSpecific
from service.record.config import single_coupon_rows, workspace_rows
from service.record.config.code_rows import insert_codes
from service.record.config.single_coupon_rows import MAX_DRAWS, create_single, page_active
from service.record.pool import connect
from tests.service_fixture import Service, new_code, new_id, ok, pages, refused, until

_KINDS = ("user-specific", "time-specific", "generate")
_NOTHING = {"lock": None, "lastRedemption": None, "redemptions": 0}


def at(days: float) -> str:
    """A time so many days from now, as answers have it."""
    return (datetime.now(UTC) + timedelta(days=days)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def window(**said: Any) -> dict[str, Any]:
    """What a coupon of this time needs."""
    return {"validFrom": at(-1), "validUntil": at(1), "maxUsesPerUser": 1} | said


def body_of(kind: str, **said: Any) -> dict[str, Any]:
    """The least that a request of this kind says, and more."""
    least: dict[str, Any] = {"userId": new_id()} if kind == "user-specific" else {}
    return (window() if kind == "time-specific" else least) | said


def made(service: Service, kind: str, **said: Any) -> dict[str, Any]:
    """A coupon that was just made."""
    return ok(service.manage.post(f"/v1/coupons/{kind}", json=body_of(kind, **said)), 201)


def redeem(service: Service, code: str, user: str | None = None, **said: Any) -> httpx.Response:
    """Redeem it, by somebody new where nobody is named."""
    return service.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": user or new_id()} | said)


def active(service: Service, limit: int = 1000) -> list[dict[str, Any]]:
    """The whole list, so many a page."""
    path = "/v1/coupons/active/time-specific"
    return [item for page in pages(service.checkout, path, limit=limit) for item in page]


def listed(service: Service, *codes: str) -> list[str]:
    """Which of these codes are in the list, in its order."""
    return [item["code"] for item in active(service) if item["code"] in codes]


@pytest.mark.parametrize("kind", _KINDS)
def test_all_that_can_be_said(service: Service, kind: str) -> None:
    """The answer is the coupon as it reads, with the book as it reads; every field is where it belongs."""
    code, user = new_code(), new_id()
    said = window(
        userId=user, code=code.lower(), maxUsesPerUser=2, maxTotalUses=5, discountType="percentage", discountValue=12.5,
        maxDiscountAmount=50, minOrderValue="100", currency="EUR", description="For *you*", createdBy="ann",
    )  # fmt: skip
    answer = service.manage.post(f"/v1/coupons/{kind}", json=said)
    coupon = ok(answer, 201)
    assert answer.headers["Location"] == f"/v1/coupons/{code}"
    book = coupon.pop("book")
    assert coupon == ok(service.checkout.get(answer.headers["Location"]))
    assert coupon == _NOTHING | {
        "code": code, "bookId": book["bookId"], "status": "assigned", "userId": user, "maxRedemptions": 5,
        "assignedAt": coupon["assignedAt"], "expiresAt": said["validUntil"],
    }  # fmt: skip
    assert coupon["assignedAt"] is not None
    assert book == ok(service.manage.get(f"/v1/books/{book['bookId']}"))
    discount = {"type": "percentage", "value": "12.5", "maxAmount": "50.00", "minOrderValue": "100.00"}
    wanted = {
        "name": "For *you*", "description": "For *you*", "createdBy": "ann", "status": "active",
        "validFrom": said["validFrom"], "validUntil": said["validUntil"], "maxRedemptionsPerUser": 2,
        "maxRedemptionsPerCode": 5, "maxRedemptions": None, "discount": discount | {"currency": "EUR"},
        "requireAssignment": False, "requireLock": False, "totalCodes": None,
    }  # fmt: skip
    assert {name: book[name] for name in wanted} == wanted
    assert service.stats(book["bookId"]) | {"codes": 1, "assigned": 1, "available": 0} == service.stats(book["bookId"])
    redeemed = ok(redeem(service, code, user, orderValue=200, currency="EUR"), 201)
    assert (redeemed["discountAmount"], redeemed["finalAmount"]) == ("25.00", "175.00")


@pytest.mark.parametrize("kind", _KINDS)
def test_the_least_that_can_be_said(service: Service, kind: str) -> None:
    """Without a code it is a random one; a coupon is good for one use, a time's for any number; null is left out."""
    nulls = dict.fromkeys(["code", "maxTotalUses", "discountType", "discountValue", "maxDiscountAmount",
                           "minOrderValue", "currency", "description", "createdBy"])  # fmt: skip
    for more in ({}, nulls):
        coupon = made(service, kind, **more)
        uses = None if kind == "time-specific" else 1
        assert coupon["maxRedemptions"] == coupon["book"]["maxRedemptionsPerCode"] == uses
        assert coupon["status"] == ("assigned" if kind == "user-specific" else "available")
        parts = coupon["code"].split("-")
        assert [len(part) for part in parts] == [4, 4, 4]
        assert coupon["book"]["name"] == f"Coupon {coupon['code']}"
        assert (coupon["book"]["discount"], coupon["book"]["description"]) == (None, "")


@pytest.mark.parametrize("kind", _KINDS)
def test_a_code_that_is_there(service: Service, kind: str) -> None:
    """A code of the workspace in any case is `code_exists`, leaves no book, and is the other workspace's to use."""
    code = service.coupon()
    before = ok(service.manage.get("/v1/books", params={"limit": 1})), service.digest()
    for text in (code, code.lower()):
        answer = service.manage.post(f"/v1/coupons/{kind}", json=body_of(kind, code=text, maxTotalUses=7))
        refused(answer, 409, "code_exists")
    assert (ok(service.manage.get("/v1/books", params={"limit": 1})), service.digest()) == before
    assert ok(service.rival_manage.post(f"/v1/coupons/{kind}", json=body_of(kind, code=code)), 201)["code"] == code
    assert ok(service.checkout.get(f"/v1/coupons/{code}"))["maxRedemptions"] == 1


def test_whose_it_is(service: Service) -> None:
    """A user's coupon is refused to everyone else, counts as held, and is used once."""
    user = new_id()
    coupon = made(service, "user-specific", userId=user)
    assert ok(service.checkout.get(f"/v1/users/{user}"))["coupons"] == 1
    assert [item["code"] for item in ok(service.checkout.get(f"/v1/users/{user}/coupons"))["items"]] == [coupon["code"]]
    refused(redeem(service, coupon["code"]), 409, "coupon_assigned_to_other")
    ok(redeem(service, coupon["code"], user), 201)
    refused(redeem(service, coupon["code"], user), 409, "coupon_redeemed")


def test_how_often_by_one_user(service: Service) -> None:
    """`maxUsesPerUser` holds for each user, on a coupon that has no limit in all."""
    code = made(service, "time-specific", maxUsesPerUser=2)["code"]
    for user in (new_id(), new_id()):
        for _ in range(2):
            ok(redeem(service, code, user), 201)
        refused(redeem(service, code, user), 422, "user_redemption_limit")


def test_how_often_in_all(service: Service) -> None:
    """`maxTotalUses` holds over all users, and stays the code's own when the book's limit is another's."""
    for kind in _KINDS[1:]:
        code = made(service, kind, maxTotalUses=3)["code"]
        for _ in range(3):
            ok(redeem(service, code), 201)
        refused(redeem(service, code), 409, "coupon_exhausted")
    coupon = made(service, "generate", maxTotalUses=2)
    ok(service.manage.patch(f"/v1/books/{coupon['bookId']}", json={"maxRedemptionsPerCode": 9}))
    assert ok(service.checkout.get(f"/v1/coupons/{coupon['code']}"))["maxRedemptions"] == 2


def test_what_is_listed(service: Service) -> None:
    """Coupons of this time that can be used now, newest first, as they are; nothing that is off, early or late."""
    open_ = [made(service, "time-specific", description="Now")["code"] for _ in range(3)]
    others = [made(service, kind, validFrom=at(-1), validUntil=at(1))["code"] for kind in ("user-specific", "generate")]
    others += [made(service, "time-specific", validFrom=at(1), validUntil=at(2))["code"]]
    others += [made(service, "time-specific", validFrom=at(-2), validUntil=at(-1))["code"]]
    newest = made(service, "time-specific", maxTotalUses=1)
    assert listed(service, *open_, *others, newest["code"]) == [newest["code"], *reversed(open_)]
    assert active(service)[0] == newest

    ok(redeem(service, newest["code"], user := new_id()), 201)
    first = active(service)[0]
    assert (first["code"], first["status"], first["lastRedemption"]["userId"]) == (newest["code"], "redeemed", user)
    assert {name: first[name] for name in ("redemptions", "book")} == {"redemptions": 1, "book": newest["book"]}


def test_what_leaves_the_list(service: Service) -> None:
    """A coupon that is switched off or ends leaves, so does one whose book does; both come back."""
    coupon = made(service, "time-specific")
    code, book = coupon["code"], coupon["bookId"]
    for path, off, on in (
        (f"/v1/coupons/{code}", {"status": "inactive"}, {"status": "active"}),
        (f"/v1/coupons/{code}", {"expiresAt": at(-0.5)}, {"expiresAt": None}),
        (f"/v1/books/{book}", {"status": "inactive"}, {"status": "active"}),
        (f"/v1/books/{book}", {"status": "archived"}, {"status": "active"}),
        (f"/v1/books/{book}", {"validFrom": at(0.5)}, {"validFrom": None}),
        (f"/v1/books/{book}", {"validUntil": at(-0.5)}, {"validUntil": None}),
    ):
        ok(service.manage.patch(path, json=off))
        assert listed(service, code) == []
        ok(service.manage.patch(path, json=on))
        assert listed(service, code) == [code]
    assert active(service)[0]["book"] == ok(service.manage.get(f"/v1/books/{book}"))


def test_codes_that_come_later(service: Service) -> None:
    """A code that is uploaded to such a book is a code like any other, and the list keeps to the coupon."""
    coupon, later = made(service, "time-specific"), new_code()
    ok(service.manage.post(f"/v1/books/{coupon['bookId']}/codes", json={"codes": [later]}))
    assert listed(service, coupon["code"], later) == [coupon["code"]]
    ok(service.manage.patch(f"/v1/coupons/{coupon['code']}", json={"status": "inactive"}))
    assert listed(service, coupon["code"], later) == []


def test_pages(service: Service) -> None:
    """A cursor goes on where the page ended, whatever came or went meanwhile; it is this list's alone."""
    codes = [made(service, "time-specific")["code"] for _ in range(5)]
    assert [item["code"] for item in active(service, limit=2)] == [item["code"] for item in active(service)]
    path = "/v1/coupons/active/time-specific"
    first = ok(service.manage.get(path, params={"limit": 2}))
    assert [item["code"] for item in first["items"]] == [codes[4], codes[3]]
    made(service, "time-specific")
    ok(service.manage.patch(f"/v1/coupons/{codes[2]}", json={"status": "inactive"}))
    rest = ok(service.manage.get(path, params={"limit": 2, "cursor": first["nextCursor"]}))
    assert [item["code"] for item in rest["items"]] == [codes[1], codes[0]]
    foreign = ok(service.manage.get("/v1/books", params={"limit": 1}))["nextCursor"]
    refused(service.manage.get(path, params={"cursor": foreign}), 400, "malformed", "cursor")


def test_addresses_beside_codes(service: Service) -> None:
    """These words are addresses, not codes: other methods are not allowed there, and nothing is found beneath."""
    for kind in _KINDS:
        for method in ("GET", "PATCH", "DELETE"):
            answer = service.admin.request(method, f"/v1/coupons/{kind}")
            refused(answer, 405, "method_not_allowed")
            assert "POST" in answer.headers["Allow"]
        refused(service.admin.get(f"/v1/coupons/{kind.upper()}"), 404, "coupon_not_found")
        refused(service.admin.get(f"/v1/coupons/{kind}/redemptions"), 404, "coupon_not_found")
    refused(service.admin.get("/v1/coupons/active"), 404, "coupon_not_found")
    refused(service.admin.post("/v1/coupons/active/time-specific", json={}), 405, "method_not_allowed")


async def test_books_of_the_same_number(pool: asyncpg.Pool) -> None:
    """Books are numbered by workspace: one's number says nothing of another's, nor of its list."""
    async with pool.acquire() as connection:
        first, second = [await workspace_rows.create_workspace(connection, name) for name in ("first", "second")]
    book, code = await create_single(pool, first.workspace, first.partition, convert(window(), TimeSpecific))
    other, _ = await create_single(pool, second.workspace, second.partition, Generated())
    assert other.book == book.book
    assert await page_active(pool, first.workspace, 10, None) == [(book, code.code)]
    assert await page_active(pool, second.workspace, 10, None) == []


def test_a_test_workspaces_clock(service: Service) -> None:
    """The list goes by the workspace's clock: the window's start is in it, its end is not."""
    client = service.make_workspace(f"single-{uuid4().hex}", "test")
    said = window(validFrom="2040-01-01T00:00:00Z", validUntil="2040-02-01T00:00:00Z", maxUsesPerUser=9)
    code = ok(client.post("/v1/coupons/time-specific", json=said), 201)["code"]
    for now, there in (
        (None, False),
        ("2039-12-31T23:00:00Z", False),
        ("2040-01-01T00:00:00Z", True),
        ("2040-01-31T23:00:00Z", True),
        ("2040-02-01T00:00:00Z", False),
    ):
        ok(client.post("/v1/test/clock", json={"now": now}))
        items = ok(client.get("/v1/coupons/active/time-specific"))["items"]
        assert [item["code"] for item in items] == [code] * there
        redeemed = client.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"})
        assert redeemed.is_success == there


async def test_one_that_is_being_made(service: Service) -> None:
    """One that is in Postgres and not in Redis yet is left out of the list, and can be used once it is in both."""
    pool = await connect(service.run.facts["databaseUrl"])
    try:
        number = await workspace_rows.workspace_named(pool, "demo")
        assert number is not None
        row = await workspace_rows.read_workspace(pool, number)
        _, code = await create_single(pool, number, row.partition, convert(window(), TimeSpecific))
        assert listed(service, code.code) == []
    finally:
        await pool.close()
    until(lambda: listed(service, code.code))
    ok(redeem(service, code.code), 201)


async def _at_once(service: Service, count: int, kind: str, body: Any, **headers: str) -> list[httpx.Response]:
    said = {"Authorization": "Bearer demo_manage"} | {name.replace("_", "-"): value for name, value in headers.items()}
    async with httpx.AsyncClient(base_url=service.run.url, headers=said, timeout=60) as client:
        return await asyncio.gather(*(client.post(f"/v1/coupons/{kind}", json=body) for _ in range(count)))


async def test_one_key_by_many_at_once(service: Service) -> None:
    """Of 50 with the same Idempotency-Key one makes a coupon; the others hear of it or that it is being made."""
    key, tag = uuid4().hex, uuid4().hex
    kind, body = "generate", body_of("generate", description=tag)
    answers = await _at_once(service, 50, kind, body, Idempotency_Key=key)
    answers += await _at_once(service, 2, kind, body, Idempotency_Key=key)
    told = [ok(answer, 201) for answer in answers if answer.status_code == 201]
    assert all(coupon == told[0] for coupon in told)
    assert {answer.headers["Location"] for answer in answers[-2:]} == {f"/v1/coupons/{told[0]['code']}"}
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers[-2:]] == ["true", "true"]
    for answer in answers[:50]:
        if answer.status_code != 201:
            refused(answer, 409, "request_in_progress")
    assert len(ok(service.manage.get("/v1/books", params={"q": tag}))["items"]) == 1
    (other,) = await _at_once(service, 1, kind, body | {"createdBy": "bob"}, Idempotency_Key=key)
    refused(other, 422, "idempotency_key_reused")


async def test_random_codes_that_are_taken(pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A random code that the workspace has is passed over; where all are, nothing is made."""
    draws = [f"TAKEN-{number}" for number in range(MAX_DRAWS - 1)]
    monkeypatch.setattr(single_coupon_rows, "generate_codes", lambda pattern, charset, count: [*draws, last][:count])
    last = "FREE-1"
    async with pool.acquire() as connection:
        row = await workspace_rows.create_workspace(connection, "shop")
    said = Generated()
    draws, kept = ["TAKEN-0"], draws
    taken, _ = await create_single(pool, row.workspace, row.partition, said)
    draws = kept
    async with pool.acquire() as connection:
        lines = [CodeLine(code) for code in draws[1:]]
        await insert_codes(connection, row.workspace, row.partition, taken.book, taken.version, lines)
    book, code = await create_single(pool, row.workspace, row.partition, said)
    assert (book.name, code.code, code.book) == ("Coupon FREE-1", "FREE-1", book.book)
    with pytest.raises(Refusal, match="code_exists"):
        await create_single(pool, row.workspace, row.partition, said)
    assert await pool.fetchval("SELECT count(*) FROM books") == 2
