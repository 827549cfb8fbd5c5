"""A book's codes, listed and exported, and its redemptions as CSV: what they say is what single coupons say."""

import csv
import io
import os
import signal
import socket
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest

from service.record.config import code_pages
from service.record.config.code_pages import FIRST, Status, listed_codes, page_codes
from tests.integration.record_fixtures import Record, assigned, make_workspace, redeemed, rolled_back
from tests.service_fixture import Service, new_code, new_id, ok, pages, refused, until

_HEAD = ["code", "status", "userId", "assignedAt", "redemptions", "maxRedemptions", "expiresAt", "redeemedBy",
         "redeemedAt"]  # fmt: skip
_STATUSES = ("redeemed", "exhausted", "inactive", "expired", "assigned", "available")
_PAST = "2026-01-01T00:00:00Z"


def _table(answer: httpx.Response) -> list[list[str]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.content.endswith(b"\r\n")
    return list(csv.reader(io.StringIO(answer.content.decode(), newline=""), strict=True))


def _listed(client: httpx.Client, book: str, **query: Any) -> list[dict[str, Any]]:
    return [item for page in pages(client, f"/v1/books/{book}/codes", **query) for item in page]


def _wanted(coupon: dict[str, Any], beneath: str | None) -> dict[str, Any]:
    """A single coupon in the words of a list; `beneath` is what it is where it is locked."""
    last = coupon["lastRedemption"] or {"userId": None, "redeemedAt": None}
    said = {name: coupon[name] for name in _HEAD[:7]} | {"redeemedBy": last["userId"], "redeemedAt": last["redeemedAt"]}
    return said | ({"status": beneath} if coupon["status"] == "locked" else {})


def _book_of_everything(service: Service) -> tuple[str, dict[str, str], list[str]]:
    """A book whose codes are in every state, its codes by what they are, and all in the order of their making."""
    names = """free assigned taken-back reassigned given given-away given-back roomy two-once two-twice redeemed
        restored kept last-restored first-kept unlimited inactive inactive-redeemed inactive-assigned expired
        expired-inactive locked locked-assigned""".split()
    codes = {name: new_code() for name in names}
    own = {"given": "owner,,", "given-away": "owner,,", "given-back": "owner,,", "roomy": ",,7", "two-once": ",,2",
           "two-twice": ",,2", "last-restored": ",,3", "first-kept": ",,3", "unlimited": ",,1000",
           "expired": f",{_PAST},", "expired-inactive": f",{_PAST},"}  # fmt: skip
    book = service.book(validUntil="2036-01-01T00:00:00Z")
    lines = "".join(f"{code},{own.get(name, ',,')}\n" for name, code in codes.items())
    body = f"code,userId,expiresAt,maxRedemptions\n{lines}"
    told = service.manage.post(f"/v1/books/{book}/codes", content=body, headers={"Content-Type": "text/csv"})
    assert ok(told)["added"] == len(codes)

    def post(path: str, name: str, status: int = 201, **body: Any) -> Any:
        return ok(service.admin.post(f"/v1/coupons/{path}/{codes[name]}", json=body), status)

    def redeem(name: str, user: str = "buyer", restore: bool | None = None) -> None:
        made = post("redeem", name, userId=user)
        if restore is not None:
            ok(service.manage.post(f"/v1/redemptions/{made['redemptionId']}/rollback", json={"restore": restore}))

    for name in ("assigned", "inactive-assigned", "locked-assigned", "taken-back", "reassigned"):
        post("assign", name, userId="user")
    for name in ("given-away", "given-back", "taken-back", "reassigned"):
        post("unassign", name, 200)
    post("assign", "given-away", userId="other")
    post("assign", "reassigned", userId="other")
    for name in ("two-once", "two-twice", "redeemed", "inactive-redeemed", "unlimited", "unlimited"):
        redeem(name)
    redeem("two-twice", "another")
    redeem("restored", restore=True)
    redeem("kept", restore=False)
    redeem("last-restored", "first")
    redeem("last-restored", "second", restore=True)
    redeem("first-kept", "first", restore=False)
    redeem("first-kept", "second")
    for name in names:
        if "inactive" in name:
            ok(service.manage.patch(f"/v1/coupons/{codes[name]}", json={"status": "inactive"}))
    post("lock", "locked", userId="buyer")
    post("lock", "locked-assigned", userId="user")
    return book, codes, list(codes.values())


def test_codes_are_as_their_coupons(service: Service) -> None:
    """List and export show each code as its coupon does, but for the status beneath a lock; newest first."""
    book, codes, made = _book_of_everything(service)
    beneath = {codes["locked"]: "available", codes["locked-assigned"]: "assigned"}
    coupons = {code: ok(service.checkout.get(f"/v1/coupons/{code}")) for code in made}
    assert {coupon["status"] for coupon in coupons.values()} == {*_STATUSES, "locked"}
    wanted = [_wanted(coupons[code], beneath.get(code)) for code in reversed(made)]
    listed = _listed(service.manage, book)
    assert listed == wanted
    head, *rows = _table(service.manage.get(f"/v1/books/{book}/codes.csv"))
    assert head == _HEAD
    assert rows == [["" if value is None else str(value) for value in item.values()] for item in wanted]

    by_name = {name: next(item for item in listed if item["code"] == code) for name, code in codes.items()}
    for name, status, uses, by in (
        ("restored", "available", 0, None), ("kept", "redeemed", 1, None), ("last-restored", "available", 1, "first"),
        ("first-kept", "available", 2, "second"), ("two-twice", "exhausted", 2, "another"),
        ("inactive-redeemed", "redeemed", 1, "buyer"), ("expired-inactive", "inactive", 0, None),
        ("given-back", "available", 0, None), ("given", "assigned", 0, None), ("taken-back", "available", 0, None),
    ):  # fmt: skip
        found = by_name[name]
        assert (found["status"], found["redemptions"], found["redeemedBy"]) == (status, uses, by), name
    for name, user in (("given", "owner"), ("given-away", "other"), ("reassigned", "other"), ("taken-back", None)):
        assert by_name[name]["userId"] == user, name

    for status in _STATUSES:
        some = [item for item in wanted if item["status"] == status]
        assert some
        for limit in (1, 2, 50):
            assert _listed(service.manage, book, status=status, limit=limit) == some
    for limit in (1, 3, len(made), 1000):
        assert _listed(service.manage, book, limit=limit) == wanted


def test_a_book_that_is_over(service: Service) -> None:
    """The book's window is its codes'; its limit theirs; a book without codes has a header line."""
    over, unlimited, empty = new_code(), new_code(), service.book()
    without_limit = service.book(unlimited, maxRedemptionsPerCode=None)
    for _ in range(2):
        ok(service.checkout.post(f"/v1/coupons/redeem/{unlimited}", json={"userId": "u"}), 201)
    for book, code, status in (
        (service.book(over, validUntil=_PAST), over, "expired"), (without_limit, unlimited, "available"),
    ):  # fmt: skip
        (item,) = _listed(service.manage, book)
        assert item == _wanted(ok(service.checkout.get(f"/v1/coupons/{code}")), None)
        assert item["status"] == status
    assert _listed(service.manage, empty) == []
    assert _table(service.manage.get(f"/v1/books/{empty}/codes.csv")) == [_HEAD]
    assert len(_table(service.manage.get(f"/v1/books/{empty}/redemptions.csv"))) == 1


def test_bad_questions(service: Service) -> None:
    """`locked` is no status of a list; exports take no query."""
    book = service.book(new_code())
    for status in ("locked", "", "Available"):
        refused(service.manage.get(f"/v1/books/{book}/codes", params={"status": status}), 422, "invalid", "status")
    cursor = ok(service.manage.get("/v1/books", params={"limit": 1}))["nextCursor"]
    refused(service.manage.get(f"/v1/books/{book}/codes", params={"cursor": cursor}), 400, "malformed", "cursor")
    for name in ("codes", "redemptions"):
        path = f"/v1/books/{book}/{name}.csv"
        refused(service.manage.get(path, params={"status": "available"}), 400, "malformed", "status")
        answer = service.manage.get(path)
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}-{book}.csv"'
        assert "Scrip-Lag-Seconds" not in answer.headers


def test_redemptions(service: Service) -> None:
    """Redemptions are exported as they are listed, with their currency's digits, and no cell is a formula."""
    codes = [f"-{new_code()}", *(new_code() for _ in range(3))]
    book = service.book(*codes, discount={"type": "percentage", "value": 10, "currency": "JPY"})
    for number, (code, agent) in enumerate(zip(codes, ('=cmd|"/c calc"!A1', "a, b", "-5", "Mozilla/5.0"), strict=True)):
        body = {"userId": f"@user{number}", "orderId": new_id("+order"), "orderValue": 1000 + number * 10}
        path = f"/v1/coupons/redeem/{code}"
        made = ok(service.checkout.post(path, json=body, headers={"User-Agent": agent}), 201)
        if number == 1:
            ok(service.manage.post(f"/v1/redemptions/{made['redemptionId']}/rollback", json={}))
    items = ok(service.manage.get(f"/v1/books/{book}/redemptions"))["items"]
    head, *rows = _table(service.manage.get(f"/v1/books/{book}/redemptions.csv"))
    assert head == ["redemptionId", "code", "userId", "orderId", "orderValue", "currency", "discountAmount",
                    "finalAmount", "redeemedAt", "rolledBackAt", "ipAddress", "userAgent"]  # fmt: skip
    assert [row[0] for row in rows] == [item["redemptionId"] for item in items]
    for row, item in zip(rows, items, strict=True):
        for name, cell in zip(head, row, strict=True):
            said = item[name] or ""
            assert cell == (f"'{said}" if said[:1] in {"=", "+", "-", "@"} else said)
    assert rows[-1][4:8] == ["1000", "JPY", "100", "900"]
    assert (rows[-1][11], rows[-2][11], bool(rows[-2][9])) == ('\'=cmd|"/c calc"!A1', "a, b", True)
    assert "'@user0" in rows[-1]

    plain = new_code()
    free = service.book(plain)
    ok(service.checkout.post(f"/v1/coupons/redeem/{plain}", json={"userId": "u"}), 201)
    (_, row) = _table(service.manage.get(f"/v1/books/{free}/redemptions.csv"))
    assert row[3:8] == ["", "", "USD", "0.00", ""]


@pytest.mark.parametrize("count", [999, 1000, 2000, 2001])
async def test_files_of_many_pages(service: Service, count: int) -> None:
    """A file has all codes of its book, each once, newest first, however many pages that are."""
    book, code = service.book(), new_code()
    await service.fetch(
        """INSERT INTO codes (version, workspace, book, partition, code)
        SELECT 0, workspace, book, 999, $2::text || '-' || i FROM books, generate_series(1, $3::int) i
        WHERE book_id = $1""",
        UUID(book), code, count,
    )  # fmt: skip
    _, *rows = _table(service.manage.get(f"/v1/books/{book}/codes.csv"))
    assert [row[0] for row in rows] == [f"{code}-{number}" for number in range(count, 0, -1)]
    assert {tuple(row[1:]) for row in rows} == {("available", "", "", "0", "1", "", "", "")}


async def test_a_client_that_goes_away(service: Service) -> None:
    """Clients that leave in the middle of a file leave neither exports nor connections of Postgres behind."""
    book = service.book()

    await service.fetch(
        """INSERT INTO redemptions (partition, epoch, seq, workspace, book, code, user_id, redemption_id, digits,
                                    discount_amount, redeemed_at, slot, max_redemptions, user_agent)
        SELECT 999, 0, i, workspace, book, 'C' || i, 'u', gen_random_uuid(), 2, 0, now(), 0, 1, repeat('x', 500)
        FROM books, generate_series(1, 40000) i WHERE book_id = $1""",
        UUID(book),
    )
    host, port = service.run.url.removeprefix("http://").split(":")
    path = f"/v1/books/{book}/redemptions.csv"
    for _ in range(3):
        clients: list[socket.socket] = []
        for _ in range(4):
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((host, int(port)))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer demo_manage\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 200"
            clients.append(client)
        refused(service.manage.get(path), 503, "unavailable")
        for client in clients:
            client.close()
        until(lambda: service.manage.get(f"/v1/books/{book}/codes.csv").status_code == 200)
    rows = _table(service.manage.get(path))
    assert len(rows) == 40_001
    assert len({row[0] for row in rows}) == 40_001


def test_the_lag_is_told(patient: Service) -> None:
    """While what was answered isn't recorded, list and files say how far they are behind."""
    code = new_code()
    book = patient.book(code)
    (worker,) = patient.run.facts["pids"]["worker"]
    os.kill(worker, signal.SIGSTOP)
    try:
        ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"}), 201)
        for path in ("codes", "codes.csv", "redemptions.csv"):
            answer = patient.manage.get(f"/v1/books/{book}/{path}")
            assert answer.status_code == 200
            assert 1 <= int(answer.headers["Scrip-Lag-Seconds"]) < 20
    finally:
        os.kill(worker, signal.SIGCONT)
    until(lambda: "Scrip-Lag-Seconds" not in patient.manage.get(f"/v1/books/{book}/codes.csv").headers)
    assert _listed(patient.manage, book)[0]["status"] == "redeemed"


async def test_pages_in_bounded_steps(kept: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of a status that is rare are short, each reads a bounded number of codes, and together they have all."""
    await make_workspace(kept.pool)
    await _add_codes(kept.pool, 100)
    uses = [redeemed(f"CODE-{number}") for number in (7, 41, 42, 99)]
    await kept.write(*uses, rolled_back(uses[1]), assigned("CODE-50"), assigned("CODE-99"))
    everything = await listed_codes(kept.pool, 1, 2, 1000, FIRST)
    assert [row.code for row in everything] == [f"CODE-{number}" for number in range(100, 0, -1)]
    monkeypatch.setattr(code_pages, "STEP", 5)
    monkeypatch.setattr(code_pages, "MAX_STEPS", 3)
    counts: tuple[tuple[Status, int], ...] = (("redeemed", 3), ("assigned", 1), ("available", 96), ("inactive", 0))
    for status, count in counts:
        for limit in (1, 2, 14, 15, 16, 1000):
            found, before, pages = [], FIRST, 0
            while before is not None:
                rows, rest = await page_codes(kept.pool, 1, 2, limit, before, status)
                assert len(rows) <= min(limit, 15)
                assert rest is None or rest < before
                found, before, pages = found + rows, rest, pages + 1
            assert found == [row for row in everything if row.status == status]
            assert len(found) == count
            assert pages >= 100 / 15
    for other in ((1, 3), (2, 2)):
        assert await page_codes(kept.pool, *other, 50, FIRST, None) == ([], None)


async def _add_codes(pool: asyncpg.Pool, count: int) -> None:
    await pool.execute(
        "INSERT INTO codes (version, workspace, book, partition, code) "
        "SELECT 1, 1, 2, 0, 'CODE-' || i FROM generate_series(1, $1::int) i",
        count,
    )
