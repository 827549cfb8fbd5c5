"""What a race runs on: books made for it, its requests, and what the service says of them afterwards."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, NamedTuple
from uuid import uuid4

from loadtests.wire import Answer, Ask, Barrage

RECORDED_S, JOB_S = 30.0, 900.0
"""The patience with the record, and with a job."""
POLL_S = 0.1
UPLOAD_CODES = 20_000
"""How many codes are uploaded at once."""
Counts = dict[str, int | str]


class Check(NamedTuple):
    """How many of which answers a round should have had, and what is true afterwards; and what came of it."""

    expected: Counts
    seen: Counts


class Target:
    """A service, and how many requests to put to it at once; every round makes data of its own."""

    def __init__(self, barrage: Barrage, at_once: int) -> None:
        self.barrage = barrage
        self.at_once = at_once

    async def book(self, codes: Sequence[str] = (), **rules: Any) -> str:
        """The id of a new book with these codes."""
        made = await self.barrage.one("POST", "/v1/books", {"name": "Race"} | rules)
        book_id = made.body["bookId"]
        await self.add(book_id, codes)
        return book_id

    async def add(self, book_id: str, codes: Sequence[str]) -> None:
        """Add new codes to a book, some thousands at a time."""
        for start in range(0, len(codes), UPLOAD_CODES):
            page = codes[start : start + UPLOAD_CODES]
            added = (await self.barrage.one("POST", f"/v1/books/{book_id}/codes", {"codes": page})).body
            assert added["added"] == len(page), added

    async def fire(self, ask: Callable[[int], Ask]) -> list[Answer]:
        """As many requests as there should be, numbered from 0."""
        return await self.barrage.fire([ask(number) for number in range(self.at_once)])

    async def same(self, ask: Ask) -> list[Answer]:
        """One request, as many times."""
        return await self.barrage.fire([ask] * self.at_once)

    async def stats(self, book_id: str) -> dict[str, Any]:
        """A book's live counts."""
        return (await self.barrage.one("GET", f"/v1/books/{book_id}/stats")).body

    async def coupon(self, code: str) -> dict[str, Any]:
        return (await self.barrage.one("GET", f"/v1/coupons/{code}")).body

    async def run_job(self, path: str, order: dict[str, Any], poll_s: float = POLL_S) -> dict[str, Any]:
        """Order a job, and return it when it has ended. AssertionError where that takes too long."""
        job = (await self.barrage.one("POST", path, order)).body
        deadline = time.monotonic() + JOB_S
        while job["status"] == "running":
            assert time.monotonic() < deadline, job
            await asyncio.sleep(poll_s)
            job = (await self.barrage.one("GET", f"/v1/jobs/{job['jobId']}")).body
        return job

    async def listed(self, path: str) -> list[dict[str, Any]]:
        """All items of a list out of Postgres, once it has everything that was answered before."""
        return [item async for page in self.pages(path) for item in page]

    async def pages(self, path: str) -> AsyncIterator[list[dict[str, Any]]]:
        """A list out of Postgres, a thousand items at a time, once it is up to date. TimeoutError if that is late."""
        cursor, deadline = "", time.monotonic() + RECORDED_S
        while True:
            joint = "&" if "?" in path else "?"
            page = await self.barrage.one("GET", f"{path}{joint}limit=1000{cursor}")
            if "scrip-lag-seconds" in page.headers:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{path} isn't recorded after {RECORDED_S:.0f} s")
                await asyncio.sleep(POLL_S)
                continue
            yield page.body["items"]
            if page.body["nextCursor"] is None:
                return
            cursor = f"&cursor={page.body['nextCursor']}"

    async def redeemed(self, book_id: str, answers: Iterable[Answer]) -> Counts:
        """What stands of a book in Redis, and in Postgres where that is what was answered."""
        answered = {redemption_of(answer)["redemptionId"] for answer in answers if answer.status == 201}
        stands = [item for item in await self.listed(f"/v1/books/{book_id}/redemptions") if not item["rolledBackAt"]]
        recorded = {item["redemptionId"] for item in stands}
        return {
            "redemptions": (await self.stats(book_id))["redemptions"],
            "recorded": len(recorded) if recorded == answered else f"{len(recorded)}, others than answered",
        }

    async def assigned(self, book_id: str, codes: Iterable[str]) -> Counts:
        """How many codes of a book are users' in Redis, and in Postgres where those are the ones that were answered."""
        answered = set(codes)
        items = await self.listed(f"/v1/books/{book_id}/codes")
        recorded = {item["code"] for item in items if item["userId"] is not None}
        return {
            "assigned": (await self.stats(book_id))["assigned"],
            "recorded": len(recorded) if recorded == answered else f"{len(recorded)}, others than answered",
        }


def count(answers: Iterable[Answer]) -> Counts:
    """How many answers of each kind."""
    return dict(Counter(answer.label for answer in answers))


def redemption_of(answer: Answer) -> dict[str, Any]:
    """The redemption that an answer is, or that a purchase's has."""
    return answer.body.get("redemption", answer.body)


def codes_of(answers: Iterable[Answer]) -> list[str]:
    """The coupons that were given."""
    return [answer.body["code"] for answer in answers if answer.status in (200, 201)]


def new_codes(many: int) -> list[str]:
    mark = uuid4().hex[:10].upper()
    return [f"R-{mark}-{number}" for number in range(many)]


def new_id() -> str:
    """A new id of a user, an order or a key."""
    return uuid4().hex
