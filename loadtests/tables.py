"""The tables that the rules query: requests and responses, and what the service lists."""

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from loadtests.ledger import Entry
from loadtests.plan import CARD, STOCK, USER_CODES, Book
from loadtests.rules import DERIVED, RULES, TABLES, VIEWS

EXAMPLES = 5
Item = Mapping[str, Any]
_REDEMPTION = "redemptionId code userId orderId orderValue currency discountAmount finalAmount redeemedAt".split()


class Difference(NamedTuple):
    """A rule that doesn't hold: how often, and some examples."""

    rule: str
    many: int
    examples: list[str]

    def __str__(self) -> str:
        return f"{self.rule}: {self.many} × {'; '.join(self.examples)}"


class Tables:
    """Tables of one load, in memory or, for a large load, in a SQLite file."""

    def __init__(self, path: str = ":memory:") -> None:
        self._database = sqlite3.connect(path)
        self._database.executescript(f"PRAGMA journal_mode = off; PRAGMA synchronous = off; {TABLES}")
        self.entries = 0

    def close(self) -> None:
        self._database.close()

    def query(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._database.execute(sql, values).fetchall()

    def insert(self, table: str, rows: Iterable[Iterable[Any]]) -> None:
        for row in rows:
            values = tuple(row)
            self._database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)

    def enter(self, entries: Iterable[Entry]) -> None:
        """Insert requests and responses."""
        for entry in entries:
            self.entries += 1
            self._enter(self.entries, entry)

    def list_book(self, book: Book, redemptions: Iterable[Item], codes: Iterable[Item]) -> None:
        """Insert what the service lists of a book, and delete what it listed before."""
        for table in ("redemptions", "codes", "books", "counts"):
            self._database.execute(f"DELETE FROM {table} WHERE book_id = ?", (book.book_id,))
        stock = STOCK if book.kind == "stock" else None
        codes_per_user = USER_CODES if book.kind == "assigned" else None
        limits = (book.per_code, book.per_user, book.total, stock, codes_per_user)
        self.insert("books", [(book.book_id, book.kind, *limits)])
        rows = (
            (book.book_id, *_fields(item), item["rolledBackAt"] or "", _e4(item["discountAmount"]))
            for item in redemptions
        )
        self.insert("redemptions", rows)
        names = ("code", "userId", "assignedAt", "status")
        self.insert("codes", ((book.book_id, *(item[name] or "" for name in names)) for item in codes))

    def counts_unlike(self, book: Book, stats: Item) -> bool:
        """Insert what Redis counts of a book, without locks, which lists lack. Whether it differs from the lists."""
        counts = {name: stats[name] for name in ("codes", "redeemed", "exhausted", "inactive")}
        counts |= {name: stats[name] for name in ("redemptions", "rolledBack", "users")}
        counts["unused"] = stats["available"] + stats["assigned"] + stats["locked"]
        counts["discountTotal"] = _e4(stats["discountTotal"])
        if card := stats["balance"]:
            counts["issued"] = sum(_e4(card[name]) for name in ("available", "held", "spent"))
            counts["spent"] = _e4(card["spent"])
        for budget in stats["budgets"]:
            counts["spent"] = _e4(budget["spent"])
        listed: dict[str, int] = dict(self._database.execute(_LISTED, {"book": book.book_id}).fetchall())
        self.insert("counts", [(book.book_id, name, many, listed.get(name, 0)) for name, many in counts.items()])
        return any(many != listed.get(name, 0) for name, many in counts.items())

    def differences(self, rules: Mapping[str, str] = RULES) -> list[Difference]:
        """The rules that don't hold."""
        self.derive()
        differences = []
        for rule, sql in rules.items():
            if rows := self.query(sql):
                differences.append(Difference(rule, len(rows), [" ".join(map(str, row)) for row in rows[:EXAMPLES]]))
        return differences

    def derive(self) -> None:
        """Fill the derived tables again."""
        self._database.executescript("".join(f"DROP TABLE IF EXISTS {table};" for table in DERIVED) + VIEWS)

    def _enter(self, number: int, entry: Entry) -> None:
        until_ms = _ms(entry.response["expiresAt"]) if "lockToken" in entry.response else 0
        row = (
            number, entry.buyer, entry.op, entry.key, entry.path, msgspec.json.encode(entry.body), entry.book_id,
            entry.code, entry.user, entry.order, entry.status, entry.refusal, entry.retry_after, entry.replayed,
            entry.digest, entry.wanted, entry.final, entry.durability, entry.api, until_ms, entry.sent_ms,
            entry.answered_ms,
        )  # fmt: skip
        self.insert("answers", [row])
        if redemption := entry.redemption:
            self.insert("answered_redemptions", [(number, entry.book_id, *_fields(redemption))])
        if assigned := entry.assignment:
            book_id = entry.book_id if assigned is entry.response else ""
            about = (assigned["code"], assigned["userId"], entry.order, assigned["assignedAt"])
            self.insert("answered_assignments", [(number, book_id, *about)])
        rollbacks = ((number, item["redemptionId"], item["rolledBackAt"]) for item in entry.rollbacks)
        self.insert("answered_rollbacks", rollbacks)
        if entry.path.endswith("/rollback"):
            self.insert("rollback_requests", [(entry.path.split("/")[-2], entry.body.get("restore", True))])
        if entry.op == "unassign":
            self.insert("rollback_requests", [(entry.code, True)])


def _fields(redemption: Item) -> list[str]:
    return [redemption[name] or "" for name in _REDEMPTION]


def _e4(amount: str) -> int:
    return int(Decimal(amount) * 10_000)


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


_LISTED = f"""
SELECT 'codes', count(*) FROM codes WHERE book_id = :book
UNION ALL SELECT 'unused', count(*) FROM codes WHERE book_id = :book AND status IN ('available', 'assigned')
UNION ALL SELECT status, count(*) FROM codes
  WHERE book_id = :book AND status NOT IN ('available', 'assigned') GROUP BY status
UNION ALL SELECT 'redemptions', count(*) FROM redemptions WHERE book_id = :book AND rolled_back_at = ''
UNION ALL SELECT 'rolledBack', count(*) FROM redemptions WHERE book_id = :book AND rolled_back_at <> ''
UNION ALL SELECT 'users', count(DISTINCT user_id) FROM redemptions WHERE book_id = :book AND rolled_back_at = ''
UNION ALL SELECT 'spent', coalesce(sum(discount_e4), 0) FROM redemptions WHERE book_id = :book
  AND (rolled_back_at = '' OR redemption_id IN (SELECT name FROM rollback_requests WHERE NOT restore))
UNION ALL SELECT 'issued', count(*) * {CARD * 10000} FROM codes WHERE book_id = :book
UNION ALL SELECT 'discountTotal', coalesce(sum(discount_e4), 0) FROM redemptions
  WHERE book_id = :book AND rolled_back_at = ''
"""
