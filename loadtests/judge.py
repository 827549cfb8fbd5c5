"""Checks after a load: its responses, Redis, Postgres, and what the service responds now."""

import asyncio
import random
import time
from collections.abc import Awaitable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from loadtests.histories import Histories, Look
from loadtests.ledger import CREATED, CUT_OFF, Entry, Ledger, now_ms
from loadtests.plan import CARD, CODE_USES, HOLD_S, Book
from loadtests.tables import EXAMPLES, Difference, Tables
from loadtests.target import Target, new_id
from loadtests.visits import LOCKED
from loadtests.wire import ERRORS

DRAIN_S = 120.0
SETTLE_S = 20.0
"""How long Redis and Postgres may count differently: codes may still be generated for a book with `keepFree`."""
ASKED_AGAIN = 25
"""How many kept responses, and how many lost ones, are requested again."""
CODES_A_BOOK = 40
"""How many codes of a book are read, beside all of the merchant's."""
AT_ONCE = 16
EXPLAINED = 200_000
"""Histories are checked for at most so many requests, because they are in memory."""
_REFUSED_ANEW = (
    "coupon_redeemed", "coupon_exhausted", "coupon_locked", "user_redemption_limit", "out_of_stock", "budget_exhausted",
    "order_already_used", "lock_lost", "coupon_assigned_to_other",
)  # fmt: skip


class Judgement(NamedTuple):
    wrong: list[Difference]
    answers: int
    took_s: float
    """From the first request to the last."""
    redemptions: int
    unanswered: dict[tuple[str, str], int]
    """Requests without a response, by operation and reason."""
    seen: dict[str, int]
    """How many responses by label: `Buyer redeem 201`."""
    kept: int
    """Successes that are recorded."""
    lost: dict[str, int]
    """Lost responses, by durability."""


class Judge:
    """Judges a load by its ledger and the service's API.

    1. Wait until everything is recorded, and end `keepFree`.
    2. Repeat requests under their keys: a kept response must come again, or `already_rolled_back` if it was; a lost one
       is decided again, and a lock without a response is returned.
    3. Check the merchant's changes, read codes, and request more of each total than is left.
    4. Each rule is a query that selects what breaks it.
    5. For each coupon, user, order and total, some order of the requests must explain every response.
    """

    lists_taken_back = False
    """Whether the table `taken_back` is filled."""

    def __init__(
        self,
        on: Target,
        books: Sequence[Book],
        ledger: Ledger,
        entries: Iterable[Entry],
        tables: Tables,
        *,
        may_lose: frozenset[str] = frozenset(),
        locks_end: bool = False,
    ) -> None:
        """`ledger` is for the judge's own requests; responses with a durability in `may_lose` may be lost; `locks_end`
        says whether locks may have ended before their time."""
        self.on, self.ledger, self.tables = on, ledger, tables
        self.books = {book.book_id: book for book in books}
        self.may_lose, self.locks_end = may_lose, locks_end
        self.looks: list[Look] = []
        self._entries: list[Entry] = []
        """All, up to EXPLAINED."""
        self._enter(entries)
        self._entered = len(ledger.entries)
        tables.insert("may_lose", ((durability,) for durability in may_lose))
        for (book_id,) in tables.query("SELECT DISTINCT book_id FROM answers WHERE op = 'upload'"):
            self.books[book_id] = Book(book_id, "merchant", "", 0)

    async def judge(self) -> Judgement:
        """Check everything. TimeoutError if not everything gets recorded."""
        await self.settle()
        await self._set_up()
        if self.may_lose:
            await self.read()
        self.tables.derive()
        kept = self.tables.query(f"SELECT count(*) FROM {_KEPT}")[0][0]
        lost = dict(self.tables.query(_LOST))
        self.tables.insert("lost_before", self.tables.query(_LOST_REDEMPTIONS))
        await self._ask_again()
        await self._return_locks()
        await self._see_configuration()
        await self._top_up()
        await self.settle()
        await self.read()
        self._enter(self.ledger.entries[self._entered :])
        wrong = self.tables.differences()
        if unexplained := self.unexplained():
            wrong.append(Difference("no order explains the responses", len(unexplained), unexplained[:EXAMPLES]))
        query = self.tables.query
        return Judgement(
            wrong,
            self.tables.entries,
            query("SELECT (max(sent_ms) - min(sent_ms)) / 1000.0 FROM answers WHERE buyer <> ''")[0][0] or 0.0,
            query("SELECT count(*) FROM redemptions")[0][0],
            {(op, reason or CUT_OFF): many for op, reason, many in query(_UNANSWERED)},
            dict(query(_SEEN)),
            kept,
            lost,
        )

    async def settle(self) -> None:
        """Wait until everything is recorded."""
        deadline = time.monotonic() + DRAIN_S
        while True:
            consistency = await self._consistency()
            if (consistency.get("state"), consistency.get("lagEvents")) == ("open", 0):
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"not everything is recorded after {DRAIN_S:.0f} s: {consistency}")
            await asyncio.sleep(0.2)
        self.tables.query("DELETE FROM drift")
        self.tables.insert("drift", consistency["drift"].items())

    async def read(self) -> None:
        """Read what Postgres lists and Redis counts of each book; again for a while if they differ."""
        await _some_at_once(self._read(book) for book in self.books.values())

    async def _read(self, book: Book) -> None:
        deadline, path = time.monotonic() + SETTLE_S, f"/v1/books/{book.book_id}"
        while True:
            stats = await self.on.stats(book.book_id)
            redemptions, codes = [await self.on.listed(f"{path}/{name}") for name in ("redemptions", "codes")]
            self.tables.list_book(book, redemptions, codes)
            if not self.tables.counts_unlike(book, stats) or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)

    def unexplained(self) -> list[str]:
        """The things whose history no order explains; not checked for a large load."""
        if len(self._entries) > EXPLAINED:
            return []
        lost = {number for (number,) in self.tables.query("SELECT entry FROM lost")}
        places = self.tables.query("SELECT coupons_per_order FROM about")[0][0]
        return list(
            Histories(self._entries, self.books, lost, places, locks_end=self.locks_end, looks=self.looks).unexplained()
        )

    def _enter(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.tables.enter([entry])
            if len(self._entries) <= EXPLAINED:
                self._entries.append(entry)

    async def _consistency(self) -> dict[str, Any]:
        """The state and lag of the partition; an error while the service restarts."""
        try:
            return (await self.on.barrage.one("GET", "/v1/ops/consistency")).body
        except (*ERRORS, RuntimeError) as error:
            return {"error": str(error)}

    async def _set_up(self) -> None:
        """End `keepFree` of these books."""
        for book in self.books.values():
            if book.kind == "stocked" or (book.kind == "gifts" and not book.codes):
                await self.on.barrage.one("PATCH", f"/v1/books/{book.book_id}", {"keepFree": None})
        places = (await self.on.barrage.one("GET", "/v1/workspace")).body["couponsPerOrder"]
        self.tables.insert("about", [(places, self.lists_taken_back, self.locks_end)])

    async def _ask_again(self) -> None:
        query, ask, seed = self.tables.query, self.ledger.ask, self.ledger.random.random()
        kept = query(
            f"SELECT key, path, body, status, book_id, code, {_MAY_BE_ROLLED_BACK} FROM {_KEPT} AND key <> '' "
            f"AND NOT {_MAY_BE_TAKEN_BACK} ORDER BY entry"
        )
        chosen = random.Random(seed)
        for key, path, body, status, book_id, code, rolled_back in chosen.sample(kept, min(ASKED_AGAIN, len(kept))):
            about = {"key": key, "book": book_id, "code": code}
            refusals = ["already_rolled_back"] if rolled_back else []
            await ask("again", path, msgspec.json.decode(body), *refusals, wanted={status}, **about)
        lost = query(
            "SELECT key, path, body, book_id, code FROM lost JOIN answers USING (entry) WHERE op = 'redeem' AND final"
        )
        for key, path, body, book_id, code in chosen.sample(lost, min(ASKED_AGAIN, len(lost))):
            request = msgspec.json.decode(body)
            others = _REFUSED_ANEW if self._is_used_by_another(book_id, code, request) else ()
            await ask("anew", path, request, *others, key=key or None, book=book_id, code=code)

    async def _return_locks(self) -> None:
        """Unlock what was locked by requests without a response, where a lock holds a use."""
        ask, kinds = self.ledger.ask, ("reserved", "budget", "cards")
        reserved = {one.book_id: one for one in self.books.values() if one.kind in kinds}
        cut = "SELECT key, path, body, book_id, code FROM answers WHERE op = 'lock' AND status IN (0, 503) AND final"
        for key, path, body, book_id, code in self.tables.query(cut):
            if book_id not in reserved:
                continue
            request, about = msgspec.json.decode(body), {"book": book_id, "code": code}
            locked = await ask("lock", path, request, *reserved[book_id].used_up, wanted=LOCKED, key=key, **about)
            if locked.succeeded:
                token = {"lockToken": locked.response["lockToken"]}
                await ask("unlock", f"/v1/coupons/unlock/{code}", token, wanted={204}, **about)

    def _is_used_by_another(self, book_id: str, code: str, request: dict[str, Any]) -> bool:
        """Whether another recorded redemption may prevent that a lost one is decided again."""
        if self.books[book_id].kind != "sale" or "lockToken" in request:
            return True
        near = (code, request["userId"], request["orderId"])
        return bool(self.tables.query("SELECT * FROM redemptions WHERE code = ? OR user_id = ? OR order_id = ?", *near))

    async def _see_configuration(self) -> None:
        query, ask = self.tables.query, self.ledger.ask
        for op, refusal in (("switch", "coupon_inactive"), ("limit", "out_of_stock")):
            for book_id, code in query("SELECT DISTINCT book_id, code FROM answers WHERE op = ? AND status = 200", op):
                await self._redeem(book_id, code, refusal, wanted=())
        uploads = query("SELECT body FROM answers WHERE op = 'upload' AND status = 200")
        codes = [code for (body,) in uploads for code in msgspec.json.decode(body)["codes"]]
        for book in self.books.values():
            codes += [book.code(number) for number in range(0, book.codes, max(1, book.codes // CODES_A_BOOK))]
        await _some_at_once(ask("coupon", f"/v1/coupons/{code}", {}, wanted={200}, method="GET") for code in codes)

    async def _top_up(self) -> None:
        """Request more of each shared limit than is left, so that it is used up exactly."""
        asked = self.tables.query("SELECT book_id, max(answered_ms) FROM answers WHERE op = 'lock' GROUP BY book_id")
        left = {book.book_id for book in self.books.values() if book.kind == "left"}
        ended_ms = HOLD_S * 1000 + 100 + max((at for book_id, at in asked if book_id in left), default=0)
        await asyncio.sleep(max(0.0, ended_ms - now_ms()) / 1000)
        await _some_at_once(self._top_up_book(book) for book in self.books.values())

    async def _top_up_book(self, book: Book) -> None:
        for code in map(book.code, range(book.codes if book.kind == "shared" else 0)):
            for _ in range(CODE_USES + 1):
                await self._redeem(book.book_id, code, "coupon_exhausted")
        for code in book.spare:
            await self._redeem(book.book_id, code, *book.used_up, "coupon_redeemed")
        for code in map(book.code, range(book.codes if book.kind == "cards" else 0)):
            for _ in range(CARD // 20 + 1):
                await self._redeem(book.book_id, code, "coupon_exhausted")

    async def _redeem(self, book_id: str, code: str, *refusals: str, wanted: Collection[int] = CREATED) -> None:
        body = {"userId": new_id(), "orderId": new_id(), "orderValue": "20.00"}
        about = {"wanted": wanted, "book": book_id, "code": code}
        await self.ledger.ask("redeem", f"/v1/coupons/redeem/{code}", body, *refusals, **about)


async def _some_at_once(doing: Iterable[Awaitable[Any]]) -> None:
    """Await all, AT_ONCE at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(what: Awaitable[Any]) -> None:
        async with gate:
            await what

    await asyncio.gather(*map(one, doing))


_KEPT = """answers WHERE final AND status BETWEEN 200 AND 299
AND op IN ('redeem', 'assign', 'checkout', 'rollback', 'order') AND entry NOT IN (SELECT entry FROM lost)"""
_MAY_BE_ROLLED_BACK = """EXISTS (
  SELECT * FROM answered_redemptions t JOIN rollback_requests ON name IN (t.redemption_id, t.order_id)
  WHERE t.entry = answers.entry)"""
_MAY_BE_TAKEN_BACK = "(op = 'assign' AND EXISTS (SELECT * FROM rollback_requests WHERE name = answers.code))"
"""Then it is decided again."""
_UNANSWERED = "SELECT op, refusal, count(*) FROM answers WHERE status = 0 GROUP BY op, refusal ORDER BY 3 DESC"
_LOST = "SELECT durability, count(*) FROM lost JOIN answers USING (entry) WHERE final GROUP BY durability"
_LOST_REDEMPTIONS = "SELECT redemption_id FROM lost JOIN answered_redemptions USING (entry)"
_SEEN = """SELECT buyer || ' ' || op || ' ' ||
  trim(CASE status WHEN 0 THEN 'unanswered' ELSE status END || ' ' || refusal) AS label, count(*)
FROM answers WHERE buyer <> '' GROUP BY label ORDER BY label"""
