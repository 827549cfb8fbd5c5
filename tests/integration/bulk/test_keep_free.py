"""Books that keep a stock, on the running service: the worker generates the missing codes, and no others."""

import json
from typing import Any

from tests.harness.service_fixture import Service, new_id, ok
from tests.harness.serving import own_workspace
from tests.harness.waiting import until

service = own_workspace("live")
"""A workspace of this file's own, for whose books the worker orders jobs."""


def wait_for_stock(service: Service, book: str, free: int, codes: int) -> None:
    """Wait until so many codes are free; once the worker has checked again, the book has exactly so many codes."""
    until(lambda: service.stats(book)["available"] >= free)
    wait_for_restocking(service)
    stats = service.stats(book)
    assert (stats["available"], stats["codes"]) == (free, codes)


def wait_for_restocking(service: Service) -> None:
    """Wait until the worker has checked every book, and generated the missing codes.

    The worker takes books and jobs in order: once a new book has its stock, earlier orders are done too.
    """
    beacon = service.book(keepFree=1)
    until(lambda: service.stats(beacon)["available"] == 1)
    ok(service.manage.patch(f"/v1/books/{beacon}", json={"status": "archived"}))


def assign(service: Service, book: str, times: int) -> list[str]:
    """Assign codes to new users; the codes."""
    bodies = [{"bookId": book, "userId": new_id()} for _ in range(times)]
    return [ok(service.checkout.post("/v1/coupons/assign", json=body), 201)["code"] for body in bodies]


async def read_jobs(service: Service, book: str) -> list[tuple[str, int]]:
    """Status and size of the jobs that were ordered for a book."""
    rows = await service.fetch(
        "SELECT jobs.status, requested FROM jobs JOIN books USING (workspace, book) WHERE book_id = $1 ORDER BY job_id",
        book,
    )
    return [(row["status"], row["requested"]) for row in rows]


async def read_log(service: Service, event: str, book: str) -> list[dict[str, Any]]:
    ((number,),) = await service.fetch("SELECT book FROM books WHERE book_id = $1", book)
    lines = [line for line in service.run.output.read_text().splitlines() if f'"event": "{event}"' in line]
    entries = [json.loads(line[line.index("{") :]) for line in lines]
    return [entry for entry in entries if (entry["workspace"], entry["book"]) == (service.workspace, number)]


async def test_a_stock_is_kept_up(service: Service) -> None:
    """The worker replaces codes that are assigned, redeemed, locked or switched off; codes that become free again are
    extra. The log names the job, and the job can be read."""
    book = service.book(keepFree=50)
    wait_for_stock(service, book, 50, 50)
    assert await read_jobs(service, book) == [("done", 50)]
    (entry,) = await read_log(service, "restocking", book)
    assert entry["codes"] == 50
    job = ok(service.manage.get(f"/v1/jobs/{entry['job_id']}"))
    assert (job["kind"], job["status"], job["requested"], job["done"]) == ("generate", "done", 50, 50)

    first, *_ = assign(service, book, 30)
    wait_for_stock(service, book, 50, 80)
    page = ok(service.manage.get(f"/v1/books/{book}/codes", params={"status": "available", "limit": 7}))
    redeemed, inactive, *locked = (item["code"] for item in page["items"])
    ok(service.checkout.post(f"/v1/coupons/redeem/{redeemed}", json={"userId": "u"}), 201)
    ok(service.manage.patch(f"/v1/coupons/{inactive}", json={"status": "inactive"}))
    locks = {code: ok(service.checkout.post(f"/v1/coupons/lock/{code}", json={"userId": "u"}), 201) for code in locked}
    wait_for_stock(service, book, 50, 87)
    for code, lock in locks.items():
        body = {"lockToken": lock["lockToken"]}
        assert service.checkout.post(f"/v1/coupons/unlock/{code}", json=body).status_code == 204
    ok(service.manage.post(f"/v1/coupons/unassign/{first}", json={}))
    wait_for_stock(service, book, 56, 87)
    assign(service, book, 7)
    wait_for_stock(service, book, 50, 88)


async def test_a_pattern_that_is_used_up(service: Service) -> None:
    """If the pattern has no room for another code, the worker logs an alarm and stops ordering; with another pattern it
    restocks the book at once."""
    book = service.book(keepFree=1, codePattern=f"{new_id('x')[2:8].upper()}####", charset="0123456789")
    wait_for_stock(service, book, 1, 1)
    assign(service, book, 1)
    for _ in range(2):
        wait_for_restocking(service)
        (alarm,) = await read_log(service, "not_restocked", book)
        assert (alarm["level"], alarm["next_try_s"]) == ("error", 60)
    assert await read_jobs(service, book) == [("done", 1)]
    ok(service.manage.patch(f"/v1/books/{book}", json={"codePattern": None, "charset": None}))
    wait_for_stock(service, book, 1, 2)
