"""What clients of a service that is hurt asked and were answered, all of it."""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from uuid import UUID, uuid4

import httpx

from service.record.pool import ERRORS
from tests.faults.nodes import PATIENCE_S
from tests.faults.stage import Stage
from tests.service_fixture import new_code, new_id

CODES = 700
PAUSE_S = 0.015
LOOK_S = 0.01
CLOSED = {"recovering", "unavailable", "outcome_unknown", "behind"}
CODE_USES, USER_USES, BOOK_USES, USER_CODES = 5, 2, 10, 2
"""The limits that buyers run into."""
LEFT_S = 2
"""How long a lock lives that is left to end by itself."""

_CLAIMED = {"book", "upload"}
"""What is off the hot path: a key whose outcome is unknown is claimed for a minute, so it is asked under another."""
_RECORDED = "durability=recorded, wait=2"
_IS_THERE = "SELECT EXISTS (SELECT FROM redemptions WHERE redemption_id = $1)"
SETTLED_S = 0.5
"""So long after an epoch was drawn a process may use the one before: on a Redis that nobody has fenced yet."""
UNKNOWN = 0
"""The status of a request that was not repeated when its outcome was unknown."""


@dataclass(frozen=True)
class Answer:
    """What a request was answered; one with a key is asked again until it is answered."""

    kind: str
    path: str
    body: dict[str, Any]
    key: str
    """'' where it is asked without one, and once."""
    status: int
    content: bytes
    said: dict[str, Any]
    asked: float
    """When first (time.monotonic)."""
    sent: float
    """When last."""
    answered: float

    @property
    def code(self) -> str:
        """A refusal's code; '' for a success."""
        return self.said.get("code", "") if self.status >= 400 else ""

    @property
    def succeeded(self) -> bool:
        """Whether it was answered, and with yes."""
        return 200 <= self.status < 400

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
    said: dict[str, Any]


@dataclass
class Books:
    """The books of a ledger, by what their limit is."""

    plain: str = ""
    gifts: str = ""
    user: str = ""
    total: str = ""
    held: str = ""
    """As `total`, by buyers who lock first."""
    left: str = ""
    """As `total`, by buyers who leave their locks to end."""
    assigned: str = ""
    shared: list[str] = field(default_factory=list)
    """Codes of CODE_USES each, for all."""

    @property
    def totals(self) -> list[str]:
        """Those of BOOK_USES uses."""
        return [self.total, self.held, self.left]


class Ledger:
    """Requests and their answers.

    1. Each request has a key; unanswered, or answered 503, it is repeated until it is answered. What has no key is
       asked once, and its outcome may stay unknown.
    2. What was answered goes into `answers`, refusals too; what may never be answered into `wrong`.
    3. An answer that says `recorded` is looked up at once: it must be in Postgres then.
    4. Two only look: one at a coupon in Redis, one at lists of books and of redemptions, in Postgres.
    """

    def __init__(self, stage: Stage, seed: int, codes: int = CODES, recorded: float = 0.25) -> None:
        self.stage, self.random = stage, random.Random(seed)
        self._recorded = recorded
        self.books = Books()
        self.codes = [new_code() for _ in range(codes)]
        self.unused = iter(self.codes)
        """Of `codes`, those that nobody has asked for."""
        self.asked_codes: set[str] = set()
        self.book_codes: dict[str, list[str]] = {}
        """All codes that the merchant was told are there, by book."""
        self.answers: list[Answer] = []
        self.tokens: dict[str, str] = {}
        """Codes by the token of a lock, of those who don't leave theirs."""
        self.limits: dict[str, str] = {}
        """A code of each book of which the merchant was answered that its total is used up; by the book."""
        self.switched_off: list[str] = []
        self.wrong: list[str] = []
        self.unanswered: Counter[str] = Counter()
        self.looks: list[Look] = []
        self.reads: list[Look] = []
        self.paused = self.ended = False
        self.outboxes: list[dict[str, str]] = []
        """Of servers that were left, before the service came back to them."""
        self.leaves_locks = True
        """Whether locks are left to end by themselves: by a clock that is stepped they may not."""
        self.in_flight = 0
        self.strikes: list[int] = []
        """How many requests were under way at each strike."""
        self.lost_writes = 0
        """Writes that a loss of power took back."""
        self.closed: list[tuple[float, float]] = []
        """From when to when nobody may have been answered (time.monotonic)."""
        self.poisoned = 0
        """Events that were put into the outbox and can't be recorded."""
        self.looked_up = 0
        self._client = httpx.AsyncClient(headers=stage.headers, timeout=10, limits=httpx.Limits(max_connections=200))

    def struck(self) -> None:
        """Say that something is hurt now."""
        self.strikes.append(self.in_flight)

    async def begin(self) -> "Ledger":
        """Make the books."""
        spent = {"discount": {"type": "percentage", "value": 10}}
        books, total = self.books, {"maxRedemptions": BOOK_USES}
        books.gifts = await self.book(*self.new_codes(len(self.codes) // 4))
        books.plain = await self.book(*self.codes, giftBookId=books.gifts, **spent)
        books.user = await self.book(*self.new_codes(200), maxRedemptionsPerUser=USER_USES)
        books.total = await self.book(*self.new_codes(60), **total)
        books.held = await self.book(*self.new_codes(120), **total)
        books.left = await self.book(*self.new_codes(60), **total, lockSeconds=LEFT_S, maxLockSeconds=LEFT_S)
        books.assigned = await self.book(*self.new_codes(200), maxCodesPerUser=USER_CODES)
        books.shared = self.new_codes(6)
        await self.book(*books.shared, maxRedemptionsPerCode=CODE_USES)
        return self

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Have those look who only look while the block runs, and until what they see is whole again."""
        tasks = [asyncio.create_task(task()) for task in (self._look, self._read, self._watch)]
        try:
            yield
            self.ended = True
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.gather(*tasks)
        finally:
            self.ended = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def until_more(self, answers: int) -> None:
        """Wait until so many more were answered well, or there is nothing left to buy."""
        wanted = sum(answer.succeeded for answer in self.answers) + answers
        async with asyncio.timeout(PATIENCE_S):
            while sum(answer.succeeded for answer in self.answers) < wanted and not self.wrong:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def top_up(self) -> None:
        """Ask of each shared limit more than it has, so that exactly that is used in the end."""
        for code in self.books.shared:
            for _ in range(CODE_USES + 1):
                await self.redeem(code, "coupon_exhausted")
        for book in self.books.totals:
            for code in self.unasked(book)[: BOOK_USES + 2]:
                await self.redeem(code, "out_of_stock")

    async def tidy(self) -> None:
        """Lock once more what locks were left on, and give it back: then nothing of them is stored."""
        left = {answer.path: None for answer in self.answers if answer.kind == "leave" and answer.succeeded}
        await self.ask("more", f"/v1/books/{self.books.left}", {"maxRedemptions": 1000}, {200}, method="PATCH")
        for path in left:
            locked = await self.ask("lock", path, {"userId": new_id()}, {201, 200})
            body = {"lockToken": locked.said.get("lockToken", "")}
            await self.ask("unlock", path.replace("/lock/", "/unlock/"), body, {204})

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
        return await self._ask(kind, path, body, wanted, refusals, key or uuid4().hex, recorded, method)

    async def ask_once(self, kind: str, path: str, body: dict[str, Any], wanted: set[int], *refusals: str) -> Answer:
        """As `ask`, without a key: where the outcome is unknown it stays so."""
        return await self._ask(kind, path, body, wanted, refusals, "", recorded=False, method="POST")

    async def redeem(
        self, code: str, *refusals: str, wanted: set[int] | None = None, recorded: bool = False, **said: Any
    ) -> Answer:
        """Redeem a code for somebody, or hear one of these refusals; with `wanted` empty one of them for certain."""
        self.asked_codes.add(code)
        body = {"userId": new_id(), "orderId": new_id("order"), "orderValue": "20.00"} | said
        path = f"/v1/coupons/redeem/{code}"
        wanted = {201} if wanted is None else wanted
        return await self.ask("redeem", path, body, wanted, *refusals, recorded=recorded or self.wants_record())

    def wants_record(self) -> bool:
        """Whether to ask for `recorded`, as a part of all does."""
        return self.random.random() < self._recorded

    async def book(self, *codes: str, **said: Any) -> str:
        """The id of a new book with these codes."""
        made = await self.ask("book", "/v1/books", {"name": "Drill"} | said, {201})
        book = made.said["bookId"]
        told = await self.ask("upload", f"/v1/books/{book}/codes", {"codes": codes}, {200})
        # What was unknown and then is asked again finds its codes there.
        if told.said.get("added", 0) + told.said.get("duplicates", 0) != len(codes):
            self.wrong.append(f"upload: {told.said}")
        self.book_codes[book] = list(codes)
        return book

    @staticmethod
    def new_codes(number: int) -> list[str]:
        """Codes that no other test has."""
        return [new_code() for _ in range(number)]

    def unasked(self, book: str) -> list[str]:
        """Codes of a book that nobody has asked for."""
        return [code for code in self.book_codes[book] if code not in self.asked_codes]

    async def _ask(
        self,
        kind: str,
        path: str,
        body: dict[str, Any],
        wanted: set[int],
        refusals: tuple[str, ...],
        key: str,
        recorded: bool,
        method: str,
    ) -> Answer:
        asked, keyed = time.monotonic(), bool(key)
        while True:
            sent, headers = time.monotonic(), {"Prefer": _RECORDED} if recorded else {}
            if method == "POST" and keyed:
                headers["Idempotency-Key"] = key
            told = await self._send(method, path, body, headers)
            said: dict[str, Any] = told.json() if told is not None and told.content else {}
            if told is not None and told.status_code != 503 and said.get("code") != "request_in_progress":
                break
            self.unanswered[said.get("code", "cut")] += 1
            if told is not None and told.status_code == 503 and not 1 <= int(told.headers.get("Retry-After", 0)) <= 5:
                self.wrong.append(f"Retry-After {told.headers.get('Retry-After')}")
            if not keyed and (told is None or said["code"] == "outcome_unknown"):
                break
            if kind in _CLAIMED:
                key = uuid4().hex
            assert time.monotonic() < asked + PATIENCE_S, f"never answered: {kind} {dict(self.unanswered)}"
            await asyncio.sleep(PAUSE_S)
        status = UNKNOWN if told is None or told.status_code == 503 else told.status_code
        content = b"" if told is None else told.content
        answer = Answer(kind, path, body, key, status, content, said, asked, sent, time.monotonic())
        if status != UNKNOWN and status not in wanted and answer.code not in refusals:
            self.wrong.append(f"{kind} {path}: {status} {content[:300]!r}")
        self.answers.append(answer)
        if answer.durability == "recorded":
            await self._look_up(answer)
        return answer

    async def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> httpx.Response | None:
        self.in_flight += 1
        try:
            url = self.random.choice(self.stage.urls) + path
            return await self._client.request(method, url, json=body or None, headers=headers)
        except httpx.TransportError:
            return None
        finally:
            self.in_flight -= 1

    async def _look_up(self, answer: Answer) -> None:
        """That a redemption that was answered as recorded is. While Postgres can't be asked, the judge will see."""
        redemption = answer.said.get("redemptionId") if answer.kind == "redeem" else None
        if redemption is None:
            return
        with contextlib.suppress(*ERRORS):
            async with asyncio.timeout(1):
                there = await self.stage.pool.fetchval(_IS_THERE, UUID(redemption))
            self.looked_up += 1
            if not there:
                self.wrong.append(f"answered as recorded, and not in Postgres: {answer.path}")

    async def _watch(self) -> None:
        """When Postgres says that the partition is closed: its gate opens after that."""
        begun, last, epoch = 0.0, 0.0, 0
        while not self.ended:
            before = time.monotonic()
            with contextlib.suppress(*ERRORS):
                async with asyncio.timeout(1):
                    row = await self.stage.row()
                if row.state == "closed" and row.epoch == epoch:
                    last = before
                else:
                    self._was_closed(begun, last)
                    begun = last = time.monotonic()
                    epoch = row.epoch if row.state == "closed" else 0
            await asyncio.sleep(LOOK_S * 3)
        self._was_closed(begun, last)

    def _was_closed(self, begun: float, last: float) -> None:
        if last > begun + SETTLED_S:
            self.closed.append((begun + SETTLED_S, last))

    # Those who only look

    async def _look(self) -> None:
        await self._looking([f"/v1/coupons/{self.codes[0]}"], self.stage.urls[0], self.looks, LOOK_S)

    async def _read(self) -> None:
        paths = ["/v1/books?limit=1", f"/v1/books/{self.books.plain}/redemptions?limit=5"]
        await self._looking(paths, self.stage.urls[-1], self.reads, LOOK_S * 5)

    async def _looking(self, paths: list[str], url: str, looks: list[Look], pause_s: float) -> None:
        turns = cycle(paths)
        async with httpx.AsyncClient(headers=self.stage.headers, timeout=10) as client:
            while not self.ended or (looks and looks[-1].code):
                at, said = time.monotonic(), {}
                try:
                    told = await client.get(url + next(turns))
                    said = told.json()
                    code = "" if told.is_success else said.get("code", "")
                    if told.status_code not in (200, 503):
                        self.wrong.append(f"look: {told.status_code} {told.text[:300]}")
                except httpx.TransportError as error:
                    code = type(error).__name__
                looks.append(Look(at, time.monotonic() - at, code, said if looks is self.looks else {}))
                await asyncio.sleep(pause_s)
