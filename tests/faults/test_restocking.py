"""Workers that die while a book's stock is made up: whatever they leave, exactly the stock is there in the end."""

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, Self

import asyncpg
import httpx

from tests.faults.recorded import wait
from tests.service_fixture import Service, database, new_id, ok
from tests.waiting import wait_until

KEPT = 30_000
"""Six transactions of codes, so that a kill meets the job half done."""


class Buyers:
    """Users who get a book's codes, one after another, while the block runs."""

    def __init__(self, service: Service, book: str) -> None:
        self._service, self._book = service, book
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._buy, daemon=True)
        self.bought = 0
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _buy(self) -> None:
        headers = {"Authorization": "Bearer demo_checkout"}
        with httpx.Client(base_url=self._service.run.url, headers=headers, timeout=10, verify=False) as client:
            while not self._ended.wait(0.1):
                answer = client.post("/v1/coupons/assign", json={"bookId": self._book, "userId": new_id()})
                if answer.status_code == 201:
                    self.bought += 1
                elif answer.json()["code"] != "out_of_stock":
                    self.wrong.append(answer.text)


async def test_workers_die_while_codes_are_made(own_service: Callable[[], Service]) -> None:
    """Workers killed between a job's transactions, while taking over, and once the last codes are recorded, with
    buyers going on: the jobs ask together for exactly the codes that are there, and exactly the stock is free."""
    service = own_service()
    book = service.book(keepFree=KEPT)
    async with database(service.run.facts["databaseUrl"]) as postgres:
        await kill_while_made(service, book, postgres)


async def kill_while_made(service: Service, book: str, postgres: asyncpg.Connection) -> None:
    async def codes() -> Any:
        return await postgres.fetchval("SELECT code_count FROM books WHERE book_id = $1", book)

    async def fence() -> Any:
        return await postgres.fetchval("SELECT fence FROM partitions")

    def kill() -> None:
        (worker,) = service.run.facts["pids"]["worker"]
        os.kill(worker, signal.SIGKILL)
        service.run.until_replaced("worker", worker)

    async def more_than(least: int) -> bool:
        return await codes() > least

    async def taken_after(last: int) -> bool:
        return await fence() != last  # fences are random

    with Buyers(service, book) as buyers:
        await wait_until(lambda: more_than(0))
        last = await fence()
        kill()
        left = await codes()
        assert 0 < left < KEPT
        await wait_until(lambda: taken_after(last))
        kill()
        await wait_until(lambda: more_than(KEPT - 1))
        kill()
        await wait_until(lambda: more_than(KEPT))
    assert buyers.wrong == []
    assert buyers.bought > 0

    wait(lambda: service.stats(book)["available"] >= KEPT)
    beacon = service.book(keepFree=1)
    wait(lambda: service.stats(beacon)["available"] == 1)
    stats = service.stats(book)
    assert (stats["available"], stats["codes"], stats["assigned"]) == (KEPT, KEPT + buyers.bought, buyers.bought)
    assert await codes() == KEPT + buyers.bought

    async def jobs() -> list[Any]:
        return await postgres.fetch(
            "SELECT jobs.status, requested FROM jobs JOIN books USING (workspace, book) WHERE book_id = $1", book
        )

    async def ended() -> bool:
        return {job["status"] for job in await jobs()} == {"done"}

    await wait_until(ended)  # a worker may have died with all codes made, and the job left to finish
    assert sum(job["requested"] for job in await jobs()) == KEPT + buyers.bought
    assert ok(service.operate.get("/v1/ops/consistency"))["state"] == "open"
