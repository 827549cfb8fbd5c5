"""Compare what books and users have spent of budgets and limits of uses: a part of a comparison (comparison.py), in the
lifetime, and the day and month in which the comparison began. What stored locks hold is Redis's alone. examination.py
makes the writes."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

from service.engine.domain.budgets import names_users
from service.engine.domain.configuration import BookRow
from service.engine.domain.field_types import decode_id, encode_field
from service.engine.formats import key_names
from service.engine.formats.bounds import (
    Span,
    Spent,
    counter_names,
    counters_of,
    encode_spent,
    parse_spent,
    read_counters,
    spans_at,
)
from service.engine.formats.coupon_state import About, Difference, Write
from service.engine.formats.event_id import EventId
from service.engine.formats.stored_settings import zone_of
from service.engine.hot.inspection import Item, Snapshot
from service.engine.record.actor import mask
from service.server.in_postgres.budget_rows import budgeted_books, spent_of_book, spent_of_these, spent_of_users
from service.server.reconcile.examination import Examiner, Subject, UndecidableNow

_NOTHING = Spent(0, 0)


class Account(NamedTuple):
    """A book's, or of a user in it; users as fields, '' for the book."""

    book: int
    user: str = ""


class Budgets(Subject):
    """The accounts of a workspace's books that are counted. The worker counts the others (budget_counter.py)."""

    at_once = 40

    def __init__(self, examiner: Examiner) -> None:
        super().__init__(examiner)
        self._books: dict[int, tuple[BookRow, tuple[Span, Span, Span]]] = {}

    async def compare(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        for row, offset_ms in await budgeted_books(self._pool, self._partition, self._workspace):
            self._books[row.book] = row, spans_at(zone_of(row), now_ms + offset_ms)
        await self._examiner.examine(self, [Account(book) for book in self._books])
        for row, spans in self._books.values():
            if names_users(row.bounds):
                await self._compare_users(row, spans)

    async def _compare_users(self, row: BookRow, spans: Sequence[Span]) -> None:
        cut = await self._examiner.cut()
        async with aclosing(spent_of_users(self._pool, row, cut.at, spans)) as pages:
            async for page in pages:
                accounts = [Account(row.book, encode_field(one.user_id)) for one in page]
                items = [self.items(account)[0] for account in accounts]
                texts = await self._inspector.read([("HGET", item.key, item.member) for item in items])
                suspects = [
                    account
                    for account, one, text in zip(accounts, page, texts, strict=True)
                    if _unlike(parse_spent(text or None, row.counted_from), one.spent, spans)
                ]
                await self._examiner.examine(self, suspects)

    def items(self, thing: Account) -> Sequence[Item]:
        counters = key_names.counters(self._w, thing.book)
        counted = Item("h", counters, "accounts")
        if thing.user:
            key = key_names.orders(self._w, key_names.bucket(thing.user))
            return [Item("h", key, f"{thing.book}/{thing.user}/"), counted]
        row, spans = self._books[thing.book]
        names = [name for span in spans for name in counter_names(row.counted_from, span.name)]
        return [counted, *(Item("h", counters, name) for name in names)]

    async def fetch_expected(self, at: EventId, things: Sequence[Account]) -> dict[Account, Mapping[str, Spent]]:
        expected: dict[Account, Mapping[str, Spent]] = {}
        users = defaultdict[int, list[str]](list)
        for thing in things:
            if thing.user:
                users[thing.book].append(decode_id(thing.user))
            else:
                expected[thing] = await spent_of_book(self._pool, self._books[thing.book][0], at, self._spans(thing))
        for book, names in users.items():
            row, spans = self._books[book]
            for one in await spent_of_these(self._pool, row, at, spans, names):
                expected[Account(book, encode_field(one.user_id))] = one.spent
        return expected

    def find_difference(
        self, thing: Account, expected: dict[Account, Mapping[str, Spent]], snapshot: Snapshot, values: Sequence[Any]
    ) -> Difference | UndecidableNow | None:
        row, wanted, spans = self._books[thing.book][0], expected.get(thing, {}), self._spans(thing)
        counted = values[1] if thing.user else values[0]
        if counted != str(row.counted_from):
            return None
        if thing.user:
            stored = parse_spent(values[0], row.counted_from)
            if not (unlike := _unlike(stored, wanted, spans)):
                return None
            mended = stored | {period: wanted.get(period, _NOTHING) for period in unlike}
            text = f"{row.counted_from} {encode_spent(mended)}"
            about, name = (About("user", thing.user),), f"user {mask(thing.user)} in book {thing.book}"
            return Difference(("user_counts",), name, [self.items(thing)[0].change(values[0], text)], about=about)
        numbers = iter(values[1:])
        stored = {span.name: read_counters(next(numbers), next(numbers), next(numbers)) for span in spans}
        writes: list[Write] = []
        for period in _unlike(stored, wanted, spans):
            was, right = stored[period], wanted.get(period, _NOTHING)
            off = Spent(right.amount_e4 - was.amount_e4, right.uses - was.uses)
            key, counters = key_names.counters(self._w, thing.book), counters_of(row.counted_from, period, off)
            writes += [Write("n", key, counter, None, str(by)) for counter, by in counters.items()]
        about = (About("book", str(thing.book)),)
        return Difference(("book_counts",), f"book {thing.book}", writes, about=about) if writes else None

    def _spans(self, thing: Account) -> tuple[Span, Span, Span]:
        return self._books[thing.book][1]


def _unlike(stored: Mapping[str, Spent], wanted: Mapping[str, Spent], spans: Sequence[Span]) -> list[str]:
    """The periods that differ."""
    return [span.name for span in spans if stored.get(span.name, _NOTHING) != wanted.get(span.name, _NOTHING)]
