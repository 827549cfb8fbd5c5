"""Workers that die while a book's stock is made up: whatever they leave, exactly the stock is there in the end."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx

from tests.harness.service_fixture import Service, database, new_id, ok
from tests.harness.waiting import PATIENCE_S, wait_until
from tests.lab.faults.recorded import wait

KEPT = 30_000
"""Six transactions of codes, so that a kill meets the job half done."""


def buy(service: Service, book: str, ended: threading.Event) -> int:
    """Let users get a book's codes, one after another, until `ended`; return how many did."""
    bought = 0
    headers = {"Authorization": "Bearer demo_checkout"}
    with httpx.Client(base_url=service.run.url, headers=headers, timeout=PATIENCE_S, verify=False) as client:
        while not ended.wait(0.1):
            answer = client.post("/v1/coupons/assign", json={"bookId": book, "userId": new_id()})
            assert answer.status_code == 201 or answer.json()["code"] == "out_of_stock", answer.text
            bought += answer.is_success
    return bought


async def test_workers_die_while_codes_are_made(own_service: Callable[[], Service]) -> None:
    """Workers killed between a job's transactions, while taking over, and once the last codes are recorded, with
    buyers going on: the jobs ask together for exactly the codes that are there, and exactly the stock is free."""
    service = own_service()
    book, ended = service.book(keepFree=KEPT), threading.Event()
    async with database(service.run.facts["databaseUrl"]) as postgres:

        async def codes() -> Any:
            return await postgres.fetchval("SELECT code_count FROM books WHERE book_id = $1", book)

        async def fence() -> Any:
            return await postgres.fetchval("SELECT fence FROM partitions")

        async def more_than(least: int) -> bool:
            return await codes() > least

        async def taken_after(last: int) -> bool:
            return await fence() != last  # fences are random

        buying = asyncio.create_task(asyncio.to_thread(buy, service, book, ended))
        try:
            await wait_until(lambda: more_than(0))
            last = await fence()
            service.run.kill("worker")
            assert 0 < await codes() < KEPT
            await wait_until(lambda: taken_after(last))
            service.run.kill("worker")
            await wait_until(lambda: more_than(KEPT - 1))
            service.run.kill("worker")
            await wait_until(lambda: more_than(KEPT))
        finally:
            ended.set()
            bought = await buying
        assert bought > 0

        wait(lambda: service.stats(book)["available"] >= KEPT)
        beacon = service.book(keepFree=1)
        wait(lambda: service.stats(beacon)["available"] == 1)
        stats = service.stats(book)
        assert (stats["available"], stats["codes"], stats["assigned"]) == (KEPT, KEPT + bought, bought)
        assert await codes() == KEPT + bought

        async def jobs() -> list[Any]:
            return await postgres.fetch(
                "SELECT jobs.status, requested FROM jobs JOIN books USING (workspace, book) WHERE book_id = $1", book
            )

        async def have_ended() -> bool:
            return {job["status"] for job in await jobs()} == {"done"}

        await wait_until(have_ended)  # a worker may have died with all codes made, and the job left to finish
        assert sum(job["requested"] for job in await jobs()) == KEPT + bought
    assert ok(service.operate.get("/v1/ops/consistency"))["state"] == "open"
