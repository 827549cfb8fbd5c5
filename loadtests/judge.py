"""What must be true after a load: its ledger, Redis and Postgres say the same, and nothing is over its limit."""

import asyncio
import sqlite3
import time
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from loadtests.barrage import Answer
from loadtests.ground import Ground
from loadtests.ledger import entries, fill, insert
from loadtests.plan import STOCK, Book, Plan
from loadtests.rules import RULES, TABLES, VIEWS

DRAIN_S = 120.0
SETTLE_S = 20.0
"""How long Redis and Postgres may count otherwise: codes are still made for a book that was to be kept stocked."""
EXAMPLES = 5


class Difference(NamedTuple):
    """A rule that doesn't hold: how often, and some of it."""

    rule: str
    many: int
    examples: list[str]

    def __str__(self) -> str:
        return f"{self.rule}: {self.many} × {'; '.join(self.examples)}"


class Judgement(NamedTuple):
    """What was found, and of how much."""

    differences: list[Difference]
    answers: int
    took_s: float
    """From the first request to the last."""
    redemptions: int
    unanswered: int
    """But for those that the load's end cut off."""
    seen: dict[str, int]
    """How many answers of each kind: `Buyer redeem 201`."""


class Judge:
    """Judges a load by its ledger and the service's API, in a SQLite file, so that memory doesn't grow with the load.

    1. No book is kept stocked any more, and everything that was answered is recorded.
    2. Answers, redemptions and codes of Postgres become tables, and what Redis counts of each book.
    3. Each of the rules is a query that finds what breaks it.
    """

    def __init__(self, on: Ground, plan: Plan, folder: Path) -> None:
        self.on, self.plan, self._folder = on, plan, folder
        path = folder / "check.sqlite"
        path.unlink(missing_ok=True)
        self.database = sqlite3.connect(path)
        self.database.executescript(f"PRAGMA journal_mode = off; PRAGMA synchronous = off; {TABLES}")

    async def judge(self) -> Judgement:
        """All of it. TimeoutError where the record stays behind."""
        try:
            answers = fill(self.database, entries(self._folder))
            await self._settle()
            for book in self.plan.books:
                await self._read(book)
            self.database.executescript(VIEWS)
            return Judgement(
                differences(self.database),
                answers,
                self._count("SELECT (max(sent_ms) - min(sent_ms)) / 1000.0 FROM answers") or 0.0,
                self._count("SELECT count(*) FROM redemptions"),
                self._count("SELECT count(*) FROM answers WHERE status = 0 AND refusal <> ''"),
                dict(self.database.execute(_SEEN)),
            )
        finally:
            self.database.close()

    def _count(self, sql: str) -> Any:
        return self.database.execute(sql).fetchone()[0]

    async def _settle(self) -> None:
        """End what the service does by itself for these books, once all is recorded."""
        deadline = time.monotonic() + DRAIN_S
        while True:
            told = await self._consistency()
            if (told.get("state"), told.get("lagEvents")) == ("open", 0):
                break
            if time.monotonic() > deadline:
                raise TimeoutError(f"not everything is recorded after {DRAIN_S:.0f} s: {told}")
            await asyncio.sleep(0.2)
        for book in self.plan.of("gifts") + self.plan.of("stocked"):
            await self._ask("PATCH", f"/v1/books/{book.book_id}", {"keepFree": None})
        insert(self.database, "drift", 2, told["drift"].items())
        coupons = (await self._ask("GET", "/v1/workspace")).body["couponsPerOrder"]
        insert(self.database, "workspace", 1, [(coupons,)])

    async def _consistency(self) -> dict[str, Any]:
        """How far the record is; why that isn't known, where the service is just being started again."""
        try:
            return (await self._ask("GET", "/v1/ops/consistency")).body
        except (OSError, EOFError, RuntimeError) as error:
            self.on.barrage.close()
            return {"error": str(error)}

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
        return await self.on.barrage.one(method, path, body)

    async def _read(self, book: Book) -> None:
        """What Postgres lists of a book, and what Redis counts; once more while they are unlike, for a while."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            stats = await self.on.stats(book.book_id)
            for table in ("redemptions", "codes"):
                self.database.execute(f"DELETE FROM {table} WHERE book_id = ?", (book.book_id,))
                async for page in self.on.pages(f"/v1/books/{book.book_id}/{table}"):
                    insert(self.database, table, *_ROWS[table](book, page))
            told, listed = _counted(stats), dict(self.database.execute(_LISTED, {"book": book.book_id}).fetchall())
            listed = {name: listed.get(name, 0) for name in told}
            if told == listed or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        stock = STOCK if book.kind == "stock" else None
        limits = (book.per_code, book.per_user, book.total, stock)
        insert(self.database, "books", 6, [(book.book_id, book.kind, *limits)])
        insert(self.database, "counts", 4, [(book.book_id, name, told[name], listed[name]) for name in told])


def differences(database: sqlite3.Connection) -> list[Difference]:
    """The rules that don't hold."""
    found = []
    for rule, sql in RULES:
        rows = database.execute(sql).fetchall()
        if rows:
            found.append(Difference(rule, len(rows), [" ".join(map(str, row)) for row in rows[:EXAMPLES]]))
    return found


def _counted(stats: dict[str, Any]) -> dict[str, int]:
    """What Redis counts, as far as a list has it: a list shows the status beneath a lock."""
    told = {name: stats[name] for name in ("codes", "redeemed", "exhausted", "inactive")}
    told |= {name: stats[name] for name in ("redemptions", "rolledBack", "users")}
    unused = stats["available"] + stats["assigned"] + stats["locked"]
    return told | {"unused": unused, "discountTotal": _e4(stats["discountTotal"])}


def _e4(amount: str) -> int:
    return int(Decimal(amount) * 10_000)


def _redemption_rows(book: Book, page: list[dict[str, Any]]) -> tuple[int, list[tuple[Any, ...]]]:
    return 8, [
        (
            book.book_id,
            *(item[name] or "" for name in ("redemptionId", "code", "userId", "orderId", "finalAmount")),
            _e4(item["discountAmount"]),
            item["rolledBackAt"] is not None,
        )
        for item in page
    ]


def _code_rows(book: Book, page: list[dict[str, Any]]) -> tuple[int, list[tuple[Any, ...]]]:
    return 5, [(book.book_id, item["code"], item["userId"] or "", item["status"], item["redemptions"]) for item in page]


_ROWS = {"redemptions": _redemption_rows, "codes": _code_rows}
_SEEN = """SELECT kind || ' ' || op || ' ' ||
  CASE WHEN status = 0 THEN 'unanswered ' || refusal ELSE trim(status || ' ' || refusal) END AS label, count(*)
FROM answers GROUP BY label ORDER BY label"""
_LISTED = """
SELECT 'codes', count(*) FROM codes WHERE book_id = :book
UNION ALL SELECT 'unused', count(*) FROM codes WHERE book_id = :book AND status IN ('available', 'assigned')
UNION ALL SELECT status, count(*) FROM codes
  WHERE book_id = :book AND status NOT IN ('available', 'assigned') GROUP BY status
UNION ALL SELECT 'redemptions', count(*) FROM redemptions WHERE book_id = :book AND NOT rolled_back
UNION ALL SELECT 'rolledBack', count(*) FROM redemptions WHERE book_id = :book AND rolled_back
UNION ALL SELECT 'users', count(DISTINCT user_id) FROM redemptions WHERE book_id = :book AND NOT rolled_back
UNION ALL SELECT 'discountTotal', coalesce(sum(discount_e4), 0) FROM redemptions
  WHERE book_id = :book AND NOT rolled_back
"""
