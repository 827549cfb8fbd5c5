"""Books that keep a stock, on the running service: exactly what is lacking is generated, and nothing more."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from tests.service_fixture import PATIENCE_S, Service, new_id, ok, until


def stocked(service: Service, book: str, free: int, codes: int) -> None:
    """Wait until so many are free; then, once the worker has looked again, the book has exactly so many codes."""
    until(lambda: service.stats(book)["available"] >= free)
    looked(service)
    stats = service.stats(book)
    assert (stats["available"], stats["codes"]) == (free, codes)


def looked(service: Service) -> None:
    """Wait until the worker has looked at every book since, and made what it found lacking.

    It takes books and jobs in order, so once a new book has its stock, whatever it saw lacking before was made too.
    """
    beacon = service.book(keepFree=1)
    until(lambda: service.stats(beacon)["available"] == 1)
    ok(service.manage.patch(f"/v1/books/{beacon}", json={"status": "archived"}))


def assign(service: Service, book: str, times: int) -> list[str]:
    """The codes that new users got."""
    said = [{"bookId": book, "userId": new_id()} for _ in range(times)]
    return [ok(service.checkout.post("/v1/coupons/assign", json=body), 201)["code"] for body in said]


def free_codes(service: Service, book: str, count: int) -> list[str]:
    """Some free codes of a book."""
    page = ok(service.manage.get(f"/v1/books/{book}/codes", params={"status": "available", "limit": count}))
    assert len(page["items"]) == count
    return [item["code"] for item in page["items"]]


def patch(service: Service, book: str, **said: Any) -> None:
    """PATCH a book."""
    ok(service.manage.patch(f"/v1/books/{book}", json=said))


async def number_of(service: Service, book: str) -> int:
    """A book's number, as logs name it."""
    ((number,),) = await service.fetch("SELECT book FROM books WHERE book_id = $1", book)
    return number


async def jobs_of(service: Service, book: str) -> list[tuple[str, int]]:
    """Status and size of the jobs that were made for a book."""
    rows = await service.fetch(
        "SELECT jobs.status, requested FROM jobs JOIN books USING (workspace) WHERE book_id = $1 "
        "AND (parameters ->> 'book')::int = book ORDER BY job_id",
        book,
    )
    return [(row["status"], row["requested"]) for row in rows]


def told(service: Service, event: str, number: int) -> list[dict[str, Any]]:
    """What the worker logged of a book of the workspace demo."""
    lines = [line for line in service.run.output.read_text().splitlines() if f'"event": "{event}"' in line]
    found = [json.loads(line[line.index("{") :]) for line in lines]
    return [line for line in found if line["book"] == number]


async def test_a_stock_is_kept_up(service: Service) -> None:
    """A book without codes gets its stock, and again what was assigned, redeemed or locked; what comes back is on top.
    The log says which job, and the job can be read."""
    book = service.book(keepFree=50)
    stocked(service, book, 50, 50)
    assert await jobs_of(service, book) == [("done", 50)]
    (line,) = told(service, "restocking", await number_of(service, book))
    assert line["codes"] == 50
    job = ok(service.manage.get(f"/v1/jobs/{line['job_id']}"))
    assert (job["kind"], job["status"], job["requested"], job["done"]) == ("generate", "done", 50, 50)

    first, *_ = assign(service, book, 30)
    stocked(service, book, 50, 80)

    redeemed, *locked = free_codes(service, book, 6)
    ok(service.checkout.post(f"/v1/coupons/redeem/{redeemed}", json={"userId": "u"}), 201)
    stocked(service, book, 50, 81)
    locks = {code: ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "u"}), 201) for code in locked}
    stocked(service, book, 50, 86)
    for code, lock in locks.items():
        body = {"lockToken": lock["lockToken"]}
        assert service.checkout.post(f"/v1/coupons/unlock/{code}", json=body).status_code == 204
    stocked(service, book, 55, 86)
    ok(service.manage.post(f"/v1/coupons/unassign/{first}", json={}))
    stocked(service, book, 56, 86)
    assign(service, book, 7)
    stocked(service, book, 50, 87)


async def test_keep_free_is_changed(service: Service) -> None:
    """More is made at once when keepFree goes up; nothing while it is down or null."""
    book = service.book(keepFree=10)
    stocked(service, book, 10, 10)
    patch(service, book, keepFree=25)
    stocked(service, book, 25, 25)
    patch(service, book, keepFree=5)
    stocked(service, book, 25, 25)
    assign(service, book, 22)
    stocked(service, book, 5, 27)
    patch(service, book, keepFree=None)
    assign(service, book, 3)
    looked(service)
    assert service.stats(book)["available"] == 2
    patch(service, book, keepFree=4)
    stocked(service, book, 4, 29)


async def test_codes_that_are_switched_off_are_not_free(service: Service) -> None:
    """What is switched off is replaced; switched on again it is on top."""
    book = service.book(keepFree=10)
    stocked(service, book, 10, 10)
    off = free_codes(service, book, 3)
    for code in off:
        ok(service.manage.patch(f"/v1/coupons/{code}", json={"status": "inactive"}))
    stocked(service, book, 10, 13)
    for code in off:
        ok(service.manage.patch(f"/v1/coupons/{code}", json={"status": "active"}))
    stocked(service, book, 13, 13)


async def test_which_books_are_restocked(service: Service) -> None:
    """An inactive book is, an archived one isn't until it is no longer; codes that are coming anyway aren't doubled."""
    inactive, archived = service.book(keepFree=3, status="inactive"), service.book(keepFree=4, status="archived")
    large = service.book(keepFree=2_000, totalCodes=3_000)
    stocked(service, inactive, 3, 3)
    assert service.stats(archived)["codes"] == 0
    stocked(service, large, 3_000, 3_000)
    assert await jobs_of(service, large) == [("done", 3_000)]
    patch(service, archived, status="active")
    stocked(service, archived, 4, 4)


async def test_buyers_go_on_while_codes_are_made(service: Service) -> None:
    """Many more buyers than the stock has: who hears out_of_stock gets a code when they come back, and in the end
    exactly the stock is free."""
    book = service.book(keepFree=50)
    stopped = threading.Event()
    refused_: list[str] = []

    def buy(user: str) -> str | None:
        with httpx.Client(
            base_url=service.run.url, headers={"Authorization": "Bearer demo_checkout"}, timeout=30
        ) as client:
            while not stopped.is_set():
                answer = client.post("/v1/coupons/assign", json={"bookId": book, "userId": user})
                if answer.status_code == 201:
                    return answer.json()["code"]
                refused_.append(answer.json()["code"])
                stopped.wait(0.1)
        return None

    with ThreadPoolExecutor(8) as buyers:
        bought = [buyers.submit(buy, new_id()) for _ in range(200)]
        try:
            codes = [found.result(PATIENCE_S) for found in bought]
        finally:
            stopped.set()
    assert None not in codes
    assert len(set(codes)) == 200
    assert set(refused_) <= {"out_of_stock"}  # who is slow enough hears nothing
    stocked(service, book, 50, 250)
    assert sum(requested for _, requested in await jobs_of(service, book)) == 250


async def test_a_pattern_that_is_used_up(service: Service) -> None:
    """Where other books have all codes of the pattern, or the book had as many as it may, an alarm says so, the worker
    doesn't try again and again, and other books get theirs; with another pattern the book is restocked at once."""
    letters: dict[str, Any] = {"codePattern": f"{new_id('x')[2:8].upper()}####", "charset": "0123456789"}
    taken = "\n".join(letters["codePattern"].replace("####", f"{number:04}") for number in range(10_000))
    upload = service.manage.post(
        f"/v1/books/{service.book()}/codes", content=taken, headers={"Content-Type": "text/plain"}
    )
    assert ok(upload)["added"] == 10_000
    used_up = service.book(keepFree=1, **letters)
    once = service.book(keepFree=1, codePattern=f"{new_id('x')[2:8].upper()}####", charset="0123456789")
    stocked(service, once, 1, 1)
    assign(service, once, 1)
    for book in (used_up, once):
        number = await number_of(service, book)
        (alarm,) = until(lambda number=number: told(service, "not_restocked", number))
        assert (alarm["level"], alarm["next_try_s"]) == ("error", 60)
    looked(service)
    looked(service)
    assert await jobs_of(service, used_up) == [("failed", 1)]
    assert await jobs_of(service, once) == [("done", 1)]
    for book, codes in ((used_up, 1), (once, 2)):
        patch(service, book, codePattern=None, charset=None)
        stocked(service, book, 1, codes)
        assert len(told(service, "not_restocked", await number_of(service, book))) == 1
