"""Buyers and a merchant who write down everything they were answered, while servers and workers die."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from uuid import uuid4

import httpx

from tests.faults.stage import PATIENCE_S, Stage
from tests.service_fixture import new_code, new_id

BUYERS = 8
CODES = 700
PAUSE_S = 0.015
LOOK_S = 0.01
CLOSED = {"recovering", "unavailable", "outcome_unknown"}
CODE_USES, USER_USES, BOOK_USES, USER_CODES = 5, 2, 10, 2
"""The limits that buyers run into."""

_CLAIMED = {"book", "upload"}
"""What is off the hot path: a key whose outcome is unknown is claimed for a minute, so it is asked under another."""
_RECORDED = "durability=recorded, wait=2"


@dataclass(frozen=True)
class Answer:
    """What a request was answered that was answered at all; asked again under its key until then."""

    kind: str
    path: str
    body: dict[str, Any]
    key: str
    status: int
    content: bytes
    said: dict[str, Any]

    @property
    def code(self) -> str:
        """A refusal's code; '' for a success."""
        return self.said.get("code", "") if self.status >= 400 else ""

    @property
    def durability(self) -> str:
        """The level that it says it reached."""
        return self.said.get("durability", "")


@dataclass
class Look:
    """One look of those who only look: when, for how long (s), and what it was answered ('' for a success)."""

    at: float
    took: float
    code: str


@dataclass
class Books:
    """The books of a ledger, by what their limit is."""

    plain: str = ""
    gifts: str = ""
    user: str = ""
    total: str = ""
    assigned: str = ""
    shared: list[str] = field(default_factory=list)
    """Codes of CODE_USES each, for all."""


class Ledger:
    """Asynchronous buyers of codes of their own, who also meet at shared limits; and a merchant.

    1. Each request has a key; unanswered, or answered 503, it is repeated until it is answered.
    2. What was answered goes into `answers`, refusals too; what may never be answered into `wrong`.
    3. The merchant makes books, adds codes, switches a code off, patches a limit, and sees at once that it governs.
    4. Two only look: one at a coupon in Redis, one at lists of books and of redemptions, in Postgres.
    """

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage, self.random = stage, random.Random(seed)
        self.books = Books()
        self.codes = [new_code() for _ in range(CODES)]
        self.asked_codes: set[str] = set()
        self.book_codes: dict[str, list[str]] = {}
        """All codes that the merchant was told are there, by book."""
        self.answers: list[Answer] = []
        self.tokens: dict[str, str] = {}
        """Codes by the token of a lock."""
        self.limits: dict[str, str] = {}
        """A code of each book of which the merchant was answered that its total is used up; by the book."""
        self.switched_off: list[str] = []
        self.wrong: list[str] = []
        self.unanswered: Counter[str] = Counter()
        self.looks: list[Look] = []
        self.reads: list[Look] = []
        self.paused = False
        self.outboxes: list[dict[str, str]] = []
        """Of servers that were left, before the service came back to them."""
        self._unused = iter(self.codes)
        self._shared_orders = [new_id("order") for _ in range(12)]
        self._ended = False
        self._client = httpx.AsyncClient(headers=stage.headers, timeout=10, limits=httpx.Limits(max_connections=40))

    async def begin(self) -> "Ledger":
        """Make the books."""
        spent = {"discount": {"type": "percentage", "value": 10}}
        books = self.books
        books.gifts = await self._book(*(new_code() for _ in range(CODES // 4)))
        books.plain = await self._book(*self.codes, giftBookId=books.gifts, **spent)
        books.user = await self._book(*self._more(200), maxRedemptionsPerUser=USER_USES)
        books.total = await self._book(*self._more(60), maxRedemptions=BOOK_USES)
        books.assigned = await self._book(*self._more(200), maxCodesPerUser=USER_CODES)
        books.shared = self._more(6)
        await self._book(*books.shared, maxRedemptionsPerCode=CODE_USES)
        return self

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Ledger"]:
        """Buy while the block runs; then until everything that was asked is answered, and give all locks back."""
        tasks = [asyncio.create_task(self._buy()) for _ in range(BUYERS)]
        tasks += [asyncio.create_task(task()) for task in (self._manage, self._look, self._read)]
        try:
            yield self
            self._ended = True
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*tasks)
            for token, code in self.tokens.items():
                await self.ask("unlock", f"/v1/coupons/unlock/{code}", {"lockToken": token}, {204})
        finally:
            self._ended = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def until_more(self, answers: int) -> None:
        """Wait until so many more were answered well, or there is nothing left to buy."""
        wanted = sum(answer.status < 400 for answer in self.answers) + answers
        async with asyncio.timeout(PATIENCE_S):
            while sum(answer.status < 400 for answer in self.answers) < wanted and not self.wrong:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def top_up(self) -> None:
        """Ask of each shared limit more than it has, so that exactly that is used in the end."""
        for code in self.books.shared:
            for _ in range(CODE_USES + 1):
                await self.redeem(code, "coupon_exhausted")
        for code in self._more_of(self.books.total)[: BOOK_USES + 2]:
            await self.redeem(code, "out_of_stock")

    async def ask(
        self,
        kind: str,
        path: str,
        body: dict[str, Any],
        wanted: set[int],
        *refusals: str,
        key: str = "",
        recorded: bool = False,
        method: str = "POST",
    ) -> Answer:
        """A request's answer, with a status or a refusal out of these, however often it has to be asked."""
        key = key or uuid4().hex
        headers = {"Prefer": _RECORDED} if recorded else {}
        deadline = time.monotonic() + PATIENCE_S
        while True:
            if method == "POST":
                headers["Idempotency-Key"] = key
            try:
                told = await self._client.request(method, self._url(path), json=body or None, headers=headers)
            except httpx.TransportError as error:
                self.unanswered[type(error).__name__] += 1
                told = None
            if told is not None:
                said = told.json() if told.content else {}
                if told.status_code != 503 and said.get("code") != "request_in_progress":
                    break
                self.unanswered[said["code"]] += 1
                if kind in _CLAIMED:
                    key = uuid4().hex
                if told.status_code == 503 and not 1 <= int(told.headers.get("Retry-After", 0)) <= 5:
                    self.wrong.append(f"Retry-After {told.headers.get('Retry-After')}")
            assert time.monotonic() < deadline, f"never answered: {kind} {dict(self.unanswered)}"
            await asyncio.sleep(PAUSE_S)
        answer = Answer(kind, path, body, key, told.status_code, told.content, said)
        if answer.status not in wanted and answer.code not in refusals:
            self.wrong.append(f"{kind}: {answer.status} {told.text[:300]}")
        self.answers.append(answer)
        return answer

    def _url(self, path: str) -> str:
        return self.random.choice(self.stage.urls) + path

    async def _book(self, *codes: str, **said: Any) -> str:
        made = await self.ask("book", "/v1/books", {"name": "Drill"} | said, {201})
        book = made.said["bookId"]
        told = await self.ask("upload", f"/v1/books/{book}/codes", {"codes": codes}, {200})
        # What was unknown and then is asked again finds its codes there.
        if told.said.get("added", 0) + told.said.get("duplicates", 0) != len(codes):
            self.wrong.append(f"upload: {told.said}")
        self.book_codes[book] = list(codes)
        return book

    def _more(self, number: int) -> list[str]:
        return [new_code() for _ in range(number)]

    def _more_of(self, book: str) -> list[str]:
        """Codes of a book that nobody has asked for."""
        return [code for code in self.book_codes[book] if code not in self.asked_codes]

    # Buyers

    async def _buy(self) -> None:
        doings: list[Callable[[], Awaitable[None]]] = [
            *(self._assign_any, self._assign_then_redeem, self._lock_then_redeem, self._lock_then_unlock),
            *(self._redeem_alone, self._redeem_alone, self._checkout, self._roll_back, self._roll_back_order),
            *(self._rush_a_code, self._rush_a_user, self._rush_a_book, self._rush_assigning, self._rush_an_order),
        ]
        while not self._ended:
            if self.paused:
                await asyncio.sleep(PAUSE_S)
                continue
            try:
                await self.random.choice(doings)()
            except _SoldOut:
                return
            await asyncio.sleep(PAUSE_S)

    def _next(self) -> str:
        code = next(self._unused, None)
        if code is None:
            raise _SoldOut
        self.asked_codes.add(code)
        return code

    def _recorded(self) -> bool:
        return self.random.random() < 0.25

    async def redeem(
        self, code: str, *refusals: str, wanted: set[int] | None = None, recorded: bool = False, **said: Any
    ) -> Answer:
        """Redeem a code for somebody, or hear one of these refusals; with `wanted` empty one of them for certain."""
        self.asked_codes.add(code)
        body = {"userId": new_id(), "orderId": new_id("order"), "orderValue": "20.00"} | said
        path = f"/v1/coupons/redeem/{code}"
        wanted = {201} if wanted is None else wanted
        return await self.ask("redeem", path, body, wanted, *refusals, recorded=recorded or self._recorded())

    async def _redeem_alone(self) -> None:
        await self.redeem(self._next())

    async def _assign_any(self) -> None:
        body = {"bookId": self.books.gifts, "userId": new_id()}
        await self.ask("assign", "/v1/coupons/assign", body, {201}, "out_of_stock", recorded=self._recorded())

    async def _assign_then_redeem(self) -> None:
        code, user = self._next(), new_id()
        body = {"userId": user}
        await self.ask("assign", f"/v1/coupons/assign/{code}", body, {201}, recorded=self._recorded())
        await self.redeem(code, userId=user)

    async def _lock(self, code: str, user: str, order: str) -> str:
        body = {"userId": user, "orderId": order}
        locked = await self.ask("lock", f"/v1/coupons/lock/{code}", body, {201, 200})
        token = locked.said.get("lockToken", "")
        self.tokens[token] = code
        return token

    async def _lock_then_redeem(self) -> None:
        code, user, order = self._next(), new_id(), new_id("order")
        token = await self._lock(code, user, order)
        about: dict[str, Any] = {"userId": user, "orderId": order}
        told = await self.redeem(code, "lock_lost", **about, lockToken=token)
        if told.code == "lock_lost":
            await self.redeem(code, **about)

    async def _lock_then_unlock(self) -> None:
        code = self._next()
        token = await self._lock(code, new_id(), new_id("order"))
        await self.ask("unlock", f"/v1/coupons/unlock/{code}", {"lockToken": token}, {204})

    async def _checkout(self) -> None:
        body = {"userId": new_id(), "orderId": new_id("order"), "orderValue": "30.00"}
        if self.random.random() < 0.8:
            body["code"] = self._next()
        else:
            body["giftBookId"] = self.books.gifts
        await self.ask("checkout", "/v1/checkout", body, {201}, recorded=self._recorded())

    async def _roll_back(self) -> None:
        told = await self.redeem(self._next())
        if redemption := told.said.get("redemptionId"):
            body = {"reason": "drill", "restore": self.random.random() < 0.7}
            path = f"/v1/redemptions/{redemption}/rollback"
            # Not found where the redemption was lost meanwhile: the judge knows.
            await self.ask("rollback", path, body, {200}, "redemption_not_found", recorded=self._recorded())

    async def _roll_back_order(self) -> None:
        code, order = self._next(), new_id("order")
        body = {"userId": new_id(), "orderId": order, "orderValue": "30.00", "code": code}
        await self.ask("checkout", "/v1/checkout", body, {201})
        path = f"/v1/orders/{order}/rollback"
        await self.ask("order", path, {"reason": "drill"}, {200}, "order_not_found", recorded=self._recorded())

    async def _rush_a_code(self) -> None:
        await self.redeem(self.random.choice(self.books.shared), "coupon_exhausted")

    async def _rush_a_user(self) -> None:
        user = f"greedy-{self.books.user[-8:]}-{self.random.randrange(6)}"
        if left := self._more_of(self.books.user):
            await self.redeem(left[0], "user_redemption_limit", userId=user)

    async def _rush_a_book(self) -> None:
        if len(left := self._more_of(self.books.total)) > BOOK_USES + 2:
            await self.redeem(left[0], "out_of_stock")

    async def _rush_assigning(self) -> None:
        body = {"bookId": self.books.assigned, "userId": f"taker-{self.books.user[-8:]}-{self.random.randrange(30)}"}
        refusals = ("user_code_limit", "out_of_stock")
        await self.ask("assign", "/v1/coupons/assign", body, {201}, *refusals, recorded=self._recorded())

    async def _rush_an_order(self) -> None:
        await self.redeem(self._next(), "order_already_used", orderId=self.random.choice(self._shared_orders))

    # The merchant

    async def _manage(self) -> None:
        while not self._ended:
            if self.paused:
                await asyncio.sleep(PAUSE_S)
                continue
            codes = self._more(4)
            book = await self._book(*codes)
            used, off, *_, last = codes
            await self.ask("switch", f"/v1/coupons/{off}", {"status": "inactive"}, {200}, method="PATCH")
            self.switched_off.append(off)
            await self.redeem(off, "coupon_inactive", wanted=set())
            while not self._ended:
                told = await self.redeem(used, recorded=True)
                if told.durability == "recorded":
                    break  # else it may be lost, and the limit not reached
                used = self._more(1)[0]
                await self.ask("upload", f"/v1/books/{book}/codes", {"codes": [used]}, {200})
                self.book_codes[book].append(used)
            else:
                return
            await self.ask("limit", f"/v1/books/{book}", {"maxRedemptions": 1}, {200}, method="PATCH")
            self.limits[book] = last
            await self.redeem(last, "out_of_stock", wanted=set())
            await asyncio.sleep(PAUSE_S)

    # Those who only look

    async def _look(self) -> None:
        await self._looking([f"/v1/coupons/{self.codes[0]}"], self.stage.urls[0], self.looks, LOOK_S)

    async def _read(self) -> None:
        paths = ["/v1/books?limit=1", f"/v1/books/{self.books.plain}/redemptions?limit=5"]
        await self._looking(paths, self.stage.urls[-1], self.reads, LOOK_S * 5)

    async def _looking(self, paths: list[str], url: str, looks: list[Look], pause_s: float) -> None:
        turns = cycle(paths)
        async with httpx.AsyncClient(headers=self.stage.headers, timeout=10) as client:
            while not self._ended or (looks and looks[-1].code):
                at = time.monotonic()
                try:
                    told = await client.get(url + next(turns))
                    code = "" if told.is_success else told.json().get("code", "")
                    if told.status_code not in (200, 503):
                        self.wrong.append(f"look: {told.status_code} {told.text[:300]}")
                except httpx.TransportError as error:
                    code = type(error).__name__
                looks.append(Look(at, time.monotonic() - at, code))
                await asyncio.sleep(pause_s)


class _SoldOut(Exception):
    """All codes are used."""
