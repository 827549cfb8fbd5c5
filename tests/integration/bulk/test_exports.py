"""A book's codes, listed and exported, and its redemptions as CSV: the same values as in single coupons."""

import csv
import io
import itertools
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from service.server.in_postgres import code_pages
from service.server.in_postgres.code_pages import FIRST, Status, filter_codes, listed_codes, page_codes
from tests.harness.service_fixture import Service, new_code, new_id, ok, pages, refused
from tests.harness.waiting import until
from tests.integration.recording.record_fixtures import Record, assigned, make_workspace, redeemed, rolled_back

_HEAD = ["code", "status", "userId", "assignedAt", "redemptions", "maxRedemptions", "expiresAt", "redeemedBy",
         "redeemedAt", "amount"]  # fmt: skip
_STATUSES = ("redeemed", "exhausted", "inactive", "expired", "assigned", "available")
_PAST = "2026-01-01T00:00:00Z"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+Z")


def _table(answer: httpx.Response) -> list[list[str]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.content.endswith(b"\r\n")
    return list(csv.reader(io.StringIO(answer.content.decode(), newline=""), strict=True))


def _in_kolkata(time: str) -> str:
    """A time of a file as a file for Excel has it."""
    return f"{datetime.fromisoformat(time) + timedelta(hours=5, minutes=30):%Y-%m-%d %H:%M:%S}"


def _listed(client: httpx.Client, book: str, **query: Any) -> list[dict[str, Any]]:
    return [item for page in pages(client, f"/v1/books/{book}/codes", **query) for item in page]


def _wanted(coupon: dict[str, Any], beneath: str | None) -> dict[str, Any]:
    """A single coupon as a list has it; `beneath` is the listed status of a locked coupon."""
    last = coupon["lastRedemption"] or {"userId": None, "redeemedAt": None}
    fields = {name: coupon[name] for name in _HEAD[:7]} | {
        "redeemedBy": last["userId"],
        "redeemedAt": last["redeemedAt"],
        "amount": None,
    }
    return fields | ({"status": beneath} if coupon["status"] == "locked" else {})


def _book_of_everything(service: Service) -> tuple[str, dict[str, str], list[str]]:
    """A book with codes in every state, its codes by state, and all codes in their order."""
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
    response = service.manage.post(f"/v1/books/{book}/codes", content=body, headers={"Content-Type": "text/csv"})
    assert ok(response)["added"] == len(codes)

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
    """List and export have each code with its coupon's values, newest first; a locked code has the status beneath."""
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
        assert [by_name[name][field] for field in ("status", "redemptions", "redeemedBy")] == [status, uses, by], name
    for name, user in (("given", "owner"), ("given-away", "other"), ("reassigned", "other"), ("taken-back", None)):
        assert by_name[name]["userId"] == user, name

    for status in _STATUSES:
        some = [item for item in wanted if item["status"] == status]
        assert some
        assert _listed(service.manage, book, status=status, limit=2) == some
    assert _listed(service.manage, book, limit=3) == wanted


def test_a_book_that_is_over(service: Service) -> None:
    """A code of a book whose window is over is listed as expired, one without a limit as available after any use."""
    over, unlimited = new_code(), new_code()
    books = [service.book(over, validUntil=_PAST), service.book(unlimited, maxRedemptionsPerCode=None)]
    ok(service.checkout.post(f"/v1/coupons/redeem/{unlimited}", json={"userId": "u"}), 201)
    for book, code, status in zip(books, (over, unlimited), ("expired", "available"), strict=True):
        (item,) = _listed(service.manage, book)
        assert item == _wanted(ok(service.checkout.get(f"/v1/coupons/{code}")), None)
        assert item["status"] == status
    assert _table(service.manage.get(f"/v1/books/{service.book()}/codes.csv")) == [_HEAD]


def test_bad_queries(service: Service) -> None:
    """A list takes no status `locked` and no other list's cursor; an export no filter, and its file has a name."""
    book = service.book(new_code())
    path = f"/v1/books/{book}/codes"
    refused(service.manage.get(path, params={"status": "locked"}), 422, "invalid", "status")
    cursor = ok(service.manage.get("/v1/books", params={"limit": 1}))["nextCursor"]
    refused(service.manage.get(path, params={"cursor": cursor}), 400, "malformed", "cursor")
    for name in ("codes", "redemptions"):
        path = f"/v1/books/{book}/{name}.csv"
        refused(service.manage.get(path, params={"status": "available"}), 400, "malformed", "status")
        headers = service.manage.get(path).headers
        assert headers["Content-Disposition"] == f'attachment; filename="{name}-{book}.csv"'
        assert "Scrip-Lag-Seconds" not in headers


def test_redemptions(service: Service) -> None:
    """Redemptions are exported with their listed values and their currency's digits, and no cell is a formula."""
    codes = [f"-{new_code()}", *(new_code() for _ in range(3))]
    book = service.book(*codes, discount={"type": "percentage", "value": 10, "currency": "JPY"})
    for number, (code, agent) in enumerate(zip(codes, ('=cmd|"/c calc"!A1', "a, b", "-5", "Mozilla/5.0"), strict=True)):
        body = {"userId": f"@user{number}", "orderId": new_id("+order"), "orderValue": 1000 + number * 10}
        path = f"/v1/coupons/redeem/{code}"
        body["currency"] = "JPY"
        made = ok(service.checkout.post(path, json=body, headers={"User-Agent": agent}), 201)
        if number == 1:
            ok(service.manage.post(f"/v1/redemptions/{made['redemptionId']}/rollback", json={}))
    items = ok(service.manage.get(f"/v1/books/{book}/redemptions"))["items"]
    head, *rows = _table(service.manage.get(f"/v1/books/{book}/redemptions.csv"))
    assert head == ["redemptionId", "code", "userId", "orderId", "orderValue", "currency", "discountAmount",
                    "finalAmount", "redeemedAt", "rolledBackAt", "ipAddress", "userAgent", "paidByCard"]  # fmt: skip
    assert [row[0] for row in rows] == [item["redemptionId"] for item in items]
    for row, item in zip(rows, items, strict=True):
        for name, cell in zip(head, row, strict=True):
            text = "0" if name == "paidByCard" else item[name] or ""
            assert cell == (f"'{text}" if text[:1] in {"=", "+", "-", "@"} else text)
    assert rows[-1][4:8] == ["1000", "JPY", "100", "900"]
    assert (rows[-1][11], rows[-2][11], bool(rows[-2][9])) == ('\'=cmd|"/c calc"!A1', "a, b", True)
    assert "'@user0" in rows[-1]

    plain = new_code()
    free = service.book(plain)
    ok(service.checkout.post(f"/v1/coupons/redeem/{plain}", json={"userId": "u"}), 201)
    (_, row) = _table(service.manage.get(f"/v1/books/{free}/redemptions.csv"))
    assert row[3:8] == ["", "", "USD", "0.00", ""]
    assert row[-1] == "0.00"


def test_payments_by_card(service: Service) -> None:
    """`paidByCard` is what a gift card paid; `discountAmount` has the same amount."""
    card = new_code()
    cards = service.book(card, discount={"type": "balance", "value": "25.00"})
    for value in ("10.00", "40.00"):
        body = {"userId": "u", "orderId": new_id(), "orderValue": value}
        ok(service.checkout.post(f"/v1/coupons/redeem/{card}", json=body), 201)
    head, *rows = _table(service.manage.get(f"/v1/books/{cards}/redemptions.csv"))
    paid = [(row[head.index("discountAmount")], row[head.index("paidByCard")]) for row in rows]
    assert paid == [("15.00", "15.00"), ("10.00", "10.00")]


@pytest.mark.parametrize(("excel", "delimiter", "amounts"), [("comma", ",", "."), ("semicolon", ";", ",")])
def test_files_for_excel(service: Service, excel: str, delimiter: str, amounts: str) -> None:
    """Each file for Excel has a byte order mark, the delimiter that was asked for, and the rows of the usual file; only
    amounts have the decimal comma of these languages, and times are those of the workspace's zone."""
    shop = service.make_workspace(new_id(), "test")
    ok(shop.admin.patch("/v1/workspace", json={"timeZone": "Asia/Kolkata"}))
    code = new_code()
    book = shop.book(code, discount={"type": "fixed", "value": 4})
    body = {"userId": "1.50", "orderId": new_id("a;b,"), "orderValue": "20.50"}
    ok(shop.checkout.post(f"/v1/coupons/redeem/{code}", json=body), 201)
    changed = ok(shop.manage.post(f"/v1/books/{book}/codes/change", json={"action": "switchOff"}), 202)
    job = until(lambda: (job := ok(shop.manage.get(f"/v1/jobs/{changed['jobId']}")))["status"] == "done" and job)
    path, get, kind = f"/v1/books/{book}", shop.admin.get, {"Content-Type": "text/plain"}
    files = (f"{path}/codes.csv", f"{path}/redemptions.csv", f"/v1/jobs/{job['jobId']}/results.csv", "/v1/audit.csv")
    for file in files:
        usual, answer = _table(get(file)), get(file, params={"excel": excel})
        assert answer.content.startswith(b"\xef\xbb\xbf" + delimiter.join(usual[0]).encode() + b"\r\n")
        table = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"), newline=""), delimiter=delimiter))
        if "redemptions" in file:
            usual[1][4:8] = [f"20{amounts}50", "USD", f"4{amounts}00", f"16{amounts}50"]
            usual[1][-1] = f"0{amounts}00"
        if "results" not in file:
            usual = [[_in_kolkata(cell) if _TIME.fullmatch(cell) else cell for cell in row] for row in usual]
        assert table == usual
        assert len(table) > 1
    query = {"excel": excel, "delimiter": "tab"}
    rejected = shop.manage.post(f"{path}/codes/rejected.csv", params=query, content=b"\xe9\n", headers=kind)
    head = delimiter.join(["line", "reason", "text"])
    assert rejected.content.decode("utf-8-sig").splitlines()[0] == head
    assert rejected.content.startswith(b"\xef\xbb\xbf")
    refused(get(f"{path}/codes.csv", params={"excel": "tab"}), 422, "invalid", "excel")


@pytest.mark.parametrize("count", [1000, 2001])
def test_files_of_many_pages(service: Service, count: int) -> None:
    """A file of several pages has all codes of its book, each once, newest first."""
    codes = [f"{new_code()}-{number}" for number in range(count)]
    book = service.book(*codes)
    _, *rows = _table(service.manage.get(f"/v1/books/{book}/codes.csv"))
    assert [row[0] for row in rows] == codes[::-1]
    assert {tuple(row[1:]) for row in rows} == {("available", "", "", "0", "1", "", "", "", "")}


def test_the_lag_header(patient: Service) -> None:
    """While responses are not recorded, lists and files have a lag header."""
    code = new_code()
    book = patient.book(code)
    with patient.run.asleep("worker"):
        ok(patient.checkout.post(f"/v1/coupons/redeem/{code}", json={"userId": "u"}), 201)
        for path in ("codes", "codes.csv", "redemptions.csv"):
            answer = patient.manage.get(f"/v1/books/{book}/{path}")
            assert answer.status_code == 200
            assert 1 <= int(answer.headers["Scrip-Lag-Seconds"]) < 20
    until(lambda: "Scrip-Lag-Seconds" not in patient.manage.get(f"/v1/books/{book}/codes.csv").headers)
    assert _listed(patient.manage, book)[0]["status"] == "redeemed"


async def test_pages_in_bounded_steps(kept: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of a rare status reads a bounded number of codes, so it may be short; all pages together are complete.
    Each read waits for its turn."""
    turns: list[None] = []

    @asynccontextmanager
    async def turn() -> AsyncIterator[None]:
        turns.append(None)
        yield

    await make_workspace(kept.pool)
    await kept.pool.execute(
        "INSERT INTO codes (version, workspace, book, partition, code) "
        "SELECT 1, 1, 2, 0, 'CODE-' || i FROM generate_series(1, 100) i"
    )
    uses = [redeemed(f"CODE-{number}") for number in (7, 41, 42, 99)]
    await kept.write(*uses, rolled_back(uses[1]), assigned("CODE-50"), assigned("CODE-99"))
    everything = await listed_codes(kept.pool, 1, 2, 1000, FIRST)
    assert [row.code for row in everything] == [f"CODE-{number}" for number in range(100, 0, -1)]
    monkeypatch.setattr(code_pages, "STEP", 5)
    counts: dict[Status, int] = {"redeemed": 3, "assigned": 1, "available": 96, "inactive": 0}
    for (status, count), seconds in itertools.product(counts.items(), (0, 60)):
        monkeypatch.setattr(code_pages, "FILTER_S", seconds)
        for limit in (1, 4, 5, 6, 1000):
            listed, before, pages = [], FIRST, 0
            while before is not None:
                turns.clear()
                rows, rest = await filter_codes(kept.pool, 1, 2, limit, before, status, turn)
                assert len(rows) <= min(limit, 5 * len(turns))
                assert len(turns) == 1 or seconds
                assert rest is None or rest < before
                listed, before, pages = listed + rows, rest, pages + 1
            assert listed == [row for row in everything if row.status == status]
            assert len(listed) == count
            assert pages >= 20 or seconds
            assert pages == 1 or not seconds or limit <= count
    for other in ((1, 3), (2, 2)):
        assert await page_codes(kept.pool, *other, 50, FIRST) == ([], None)
