"""Compare books' counters, what their cards hold, settings, and idempotency keys: parts of a comparison
(comparison.py). They return the writes that would repair Redis; examination.py makes them. Names of counters are
those in Redis."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from hashlib import md5
from typing import Any

from service.common.byte_runs import SMALL_BYTES, split_by_bytes
from service.engine.formats import discount_sum, key_names
from service.engine.formats.coupon_state import About, Difference, Write
from service.engine.formats.event_id import EventId
from service.engine.formats.key_names import SETS_OF_LOCKS
from service.engine.formats.stored_settings import book_settings, without_mark, workspace_settings
from service.engine.hot.inspection import WRONG, Item, Snapshot
from service.engine.record.actor import mask
from service.server.in_postgres import comparisons as record
from service.server.in_postgres.book_rows import read_books
from service.server.in_postgres.bulk_reads import Counts
from service.server.in_postgres.workspace_rows import read_workspace
from service.server.reconcile.examination import UNDECIDABLE_NOW, Examiner, Subject, UndecidableNow

KEYS_A_READ = 500
MAX_AGE_MIN = 58
"""As in keys_in_order of sql/queries/reconciling.sql."""
SUMS = (discount_sum.LOW, "issued", "credited", "spent", "closed")
"""Sums of amounts. That of what locks hold follows from Redis alone (HeldSums)."""
COUNTERS = [
    *"codes assigned redeemed exhausted inactive redemptions rolledBack users taken".split(),
    *(counter for name in SUMS for counter in discount_sum.sum_counters(name)),
]
_OF_BLOCKED = ("inactive", "assigned")


class Books(Subject):
    """Books' counters. All counters of a book are read at one cut, and the record counts up to that cut. A
    repair adds the difference to the counter."""

    at_once = 25

    def __init__(self, examiner: Examiner) -> None:
        super().__init__(examiner)
        self._one_pass = asyncio.Lock()

    async def compare(self) -> None:
        await self._examiner.quarantine.read_on()
        books, suspects = await record.books_numbers(self._pool, self._workspace), list[int]()
        for start in range(0, len(books), self.at_once):
            suspects += await self._find_unlike(books[start : start + self.at_once])
        await self._examiner.examine(self, suspects)

    async def _find_unlike(self, books: Sequence[int]) -> list[int]:
        snapshot = await self._inspector.read_values([item for book in books for item in self.items(book)])
        await self._examiner.wait_until_recorded(snapshot.at)
        expected = await self._examiner.bulk.counts(self._workspace, snapshot.at, books)
        unlike: list[int] = []
        for index, book in enumerate(books):
            values = snapshot.values[index * len(COUNTERS) : (index + 1) * len(COUNTERS)]
            if WRONG not in values and self.find_difference(book, expected, snapshot, values):
                unlike.append(book)
        return unlike

    def items(self, thing: int) -> Sequence[Item]:
        return [Item("h", key_names.counters(self._w, thing), counter) for counter in COUNTERS]

    async def fetch_expected(self, at: EventId, things: Sequence[int]) -> Counts:
        """The counters, and the configuration's version, which shows whether codes have changed."""
        async with self._one_pass:
            return await self._examiner.primary.counts(self._workspace, at, things)

    def find_difference(
        self, thing: int, expected: Counts, snapshot: Snapshot, values: Sequence[Any]
    ) -> Difference | UndecidableNow | None:
        if not snapshot.config == snapshot.newest == expected[1]:
            return UNDECIDABLE_NOW
        counts = expected[0].get(thing, {})
        stored = {counter: int(value or 0) for counter, value in zip(COUNTERS, values, strict=True)}
        sums_e4 = {
            name: discount_sum.join_sum(*(stored.pop(counter) for counter in discount_sum.sum_counters(name)))
            for name in SUMS
        }
        off = {counter: counts.get(counter, 0) - value for counter, value in stored.items()}
        for name, sum_e4 in sums_e4.items():
            off |= discount_sum.split_into(name, int(counts.get(name, 0)) - sum_e4)
        about = (About("book", str(thing)),)
        if self._examiner.quarantine.names(about):  # blocked codes count as inactive, and only Redis knows them
            off |= dict.fromkeys(_OF_BLOCKED, 0)
        writes = [Write("n", key_names.counters(self._w, thing), name, None, str(by)) for name, by in off.items() if by]
        return Difference(("book_counts",), f"book {thing}", writes, about=about) if writes else None


class HeldSums(Subject):
    """What the cards of each book hold together: the sum of their accounts, which are compared before. Of a book with
    more than a thousand locked cards it isn't known, nor of one with blocked cards, whose locks stay."""

    at_once = 1

    async def compare(self) -> None:
        books = await record.books_numbers(self._pool, self._workspace)
        self._cards = {book.book: book for book in await read_books(self._pool, self._workspace, books) if book.card}
        await self._examiner.examine(self, list(self._cards))

    def items(self, thing: int) -> Sequence[Item]:
        counters, ended = key_names.counters(self._w, thing), self._cards[thing].locks_ended
        return [
            *(Item("h", counters, name) for name in discount_sum.sum_counters("held")),
            Item("L", self._w, str(thing)),
            *(Item("n", key_names.set_of_codes(self._w, thing, f"{kind}{ended}")) for kind in SETS_OF_LOCKS if ended),
        ]

    async def fetch_expected(self, at: EventId, things: Sequence[int]) -> None:
        """Redis alone has what locks hold."""

    def find_difference(
        self, thing: int, expected: None, snapshot: Snapshot, values: Sequence[Any]
    ) -> Difference | UndecidableNow | None:
        low, high, held_e4, *set_aside = values
        about = (About("book", str(thing)),)
        if held_e4 is None or self._examiner.quarantine.names(about):
            return None
        if any(set_aside):  # their cards hold until they are swept
            return UNDECIDABLE_NOW
        sums = discount_sum.split_into("held", int(held_e4) - discount_sum.join_sum(int(low or 0), int(high or 0)))
        key = key_names.counters(self._w, thing)
        writes = [Write("n", key, name, None, str(by)) for name, by in sums.items()]
        return Difference(("balance",), f"book {thing}", writes, about=about) if writes else None


class Configuration(Subject):
    """The settings of the workspace and its books, with their versions."""

    at_once = 200

    async def compare(self) -> None:
        books = await record.books_numbers(self._pool, self._workspace)
        await self._examiner.examine(self, [0, *books])

    def items(self, thing: int) -> Sequence[Item]:
        """0 is the workspace's settings."""
        return [Item("s", key_names.book(self._w, thing) if thing else key_names.settings(self._w))]

    async def fetch_expected(self, at: EventId, things: Sequence[int]) -> dict[int, tuple[int, str]]:
        rows = await read_books(self._pool, self._workspace, things)
        row = await read_workspace(self._pool, self._workspace)
        books = {book.book: (book.version, book_settings(book)) for book in rows}
        return books | {0: (row.version, workspace_settings(row))}

    def find_difference(
        self, thing: int, expected: dict[int, tuple[int, str]], snapshot: Snapshot, values: Sequence[Any]
    ) -> Difference | UndecidableNow | None:
        version, settings = expected[thing]
        if version > snapshot.config:
            return UNDECIDABLE_NOW
        text = f"{version} {settings}"
        if (values[0] if thing else without_mark(values[0] or "")) == text:
            return None
        write = self.items(thing)[0].change(values[0], text)
        return Difference(("configuration",), f"book {thing}" if thing else "the workspace", [write])


class Keys(Subject):
    """Idempotency keys used within the last hour, for which each is stored at least. Redis alone has those of
    requests without an event. Large entries are first compared by digest."""

    at_once = 200

    async def compare(self) -> None:
        cut = await self._examiner.cut()
        async with aclosing(self._examiner.bulk.keys(self._workspace, cut.at, SMALL_BYTES)) as rows:
            async for some in rows:
                await self._page(some)

    async def _page(self, rows: Sequence[tuple[str, int, str]]) -> None:
        for part in split_by_bytes(rows, lambda row: row[1], KEYS_A_READ):
            (entries,) = await self._inspector.read([("MGET", *[key_names.answer(self._w, key) for key, _, _ in part])])
            small, large = list[str](), list[str]()
            for (key, size, expected), entry in zip(part, entries, strict=True):
                if size <= SMALL_BYTES and entry != expected:
                    small.append(key)
                elif size > SMALL_BYTES and _digest(entry or "") != expected:
                    large.append(key)
            await self._examine(small, self.at_once)
            await self._examine(large, 1)

    async def _examine(self, suspects: Sequence[str], at_once: int) -> None:
        for start in range(0, len(suspects), at_once):
            await self._examiner.examine(self, suspects[start : start + at_once])

    def items(self, thing: str) -> Sequence[Item]:
        return [Item("s", key_names.answer(self._w, thing))]

    async def fetch_expected(self, at: EventId, things: Sequence[str]) -> dict[str, tuple[str, int]]:
        return await record.recorded_keys(self._pool, self._workspace, at, things, MAX_AGE_MIN)

    def find_difference(
        self, thing: str, expected: dict[str, tuple[str, int]], snapshot: Snapshot, values: Sequence[Any]
    ) -> Difference | UndecidableNow | None:
        if thing not in expected or values[0] == expected[thing][0]:
            return None
        entry, ttl_ms = expected[thing]
        write = Write("i", key_names.answer(self._w, thing), str(ttl_ms), values[0], entry)
        return Difference(("idempotency_keys",), f"key {mask(thing)}", [write])


def _digest(entry: str) -> str:
    return md5(entry.encode(), usedforsecurity=False).hexdigest()
