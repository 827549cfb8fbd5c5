"""What is kept once for a book or a workspace: counters and settings; and idempotency keys."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from hashlib import md5
from typing import Any

from service.access.actor import mask
from service.common.byte_runs import SMALL_BYTES, split_by_bytes
from service.formats import key_names
from service.formats.coupon_state import About, Difference, Write
from service.formats.event_id import EventId
from service.formats.stored_settings import book_settings, workspace_settings
from service.hot.inspection import Item, Seen
from service.reconcile.examination import LATER, Examiner, Later
from service.record.config.book_rows import read_books
from service.record.config.workspace_rows import read_workspace
from service.record.partitions import comparisons as record
from service.record.partitions.partition_rows import read_partition

KEYS_A_READ = 500
COUNTERS = "codes assigned redeemed exhausted inactive redemptions rolledBack discount users taken".split()


class Books:
    """Books' counters. All of some books are read at one cut, for which the record counts them anew: they differ or
    they don't, however much goes on. Counts are mended by what they are off."""

    at_once = 40

    def __init__(self, examiner: Examiner) -> None:
        self._examiner = examiner
        self._workspace, self._partition = examiner.workspace, examiner.partition
        self._w = key_names.prefix(self._partition, self._workspace)
        self._one_pass = asyncio.Lock()

    async def compare(self) -> None:
        """All of them."""
        await self._examiner.examine(self, await record.books_numbers(self._examiner.pool, self._workspace))

    def items(self, thing: int) -> Sequence[Item]:
        """See Kind."""
        return [Item("h", key_names.counters(self._w, thing), counter) for counter in COUNTERS]

    async def said(self, at: EventId, things: Sequence[int]) -> tuple[dict[int, dict[str, int]], int]:
        """See Kind; and the configuration's version, which tells of codes that came or changed meanwhile."""
        async with self._one_pass, self._examiner.pool.acquire() as connection:
            counts = await record.counts(connection, self._partition, self._workspace, at, things)
            return counts, (await read_partition(connection, self._partition)).config_version

    def judge(
        self, thing: int, said: tuple[dict[int, dict[str, int]], int], seen: Seen, values: Sequence[Any]
    ) -> Difference | Later | None:
        """See Kind."""
        if not seen.config == seen.newest == said[1]:
            return LATER
        counts = said[0].get(thing, {})
        found = {counter: int(value or 0) for counter, value in zip(COUNTERS, values, strict=True)}
        off = {counter: counts.get(counter, 0) - found[counter] for counter in COUNTERS}
        writes = [Write("n", key_names.counters(self._w, thing), name, None, str(by)) for name, by in off.items() if by]
        about = (About("book", str(thing)),)
        return Difference(("book_counts",), f"book {thing}", writes, about=about) if writes else None


class Configuration:
    """What the merchant said of the workspace and its books, with its version."""

    at_once = 200

    def __init__(self, examiner: Examiner) -> None:
        self._examiner = examiner
        self._workspace, self._partition = examiner.workspace, examiner.partition
        self._w = key_names.prefix(self._partition, self._workspace)

    async def compare(self, done: Callable[[int], None]) -> None:
        """All of it; of its few rows `done` hears nothing."""
        del done
        books = await record.books_numbers(self._examiner.pool, self._workspace)
        await self._examiner.examine(self, [0, *books])

    def items(self, thing: int) -> Sequence[Item]:
        """See Kind; 0 is the workspace's settings."""
        return [Item("s", key_names.book(self._w, thing) if thing else key_names.settings(self._w))]

    async def said(self, at: EventId, things: Sequence[int]) -> dict[int, tuple[int, str]]:
        """See Kind."""
        del at  # configuration goes by its versions
        rows = await read_books(self._examiner.pool, self._workspace, things)
        row = await read_workspace(self._examiner.pool, self._workspace)
        found = {book.book: (book.version, book_settings(book)) for book in rows}
        return found | {0: (row.version, workspace_settings(row))}

    def judge(
        self, thing: int, said: dict[int, tuple[int, str]], seen: Seen, values: Sequence[Any]
    ) -> Difference | Later | None:
        """See Kind."""
        version, settings = said[thing]
        if version > seen.config:
            return LATER
        expected = f"{version} {settings}"
        if values[0] == expected:
            return None
        write = Write("s", self.items(thing)[0].key, "", values[0], expected)
        return Difference(("configuration",), f"book {thing}" if thing else "the workspace", [write])


class Keys:
    """Idempotency keys that were used within the last hour, as long as each is known at least. Those whose requests had
    no event are in Redis alone. Large entries are compared by their digests, and looked at closely one by one."""

    at_once = 200

    def __init__(self, examiner: Examiner) -> None:
        self._examiner, self._looker = examiner, examiner.looker
        self._workspace, self._partition = examiner.workspace, examiner.partition
        self._w = key_names.prefix(self._partition, self._workspace)

    async def compare(self, done: Callable[[int], None]) -> None:
        """All of them; `done`, which counts codes and orders, hears nothing."""
        del done
        cut = await self._examiner.cut()
        about = (self._workspace, *cut.at, SMALL_BYTES)
        async with (
            self._examiner.pool.acquire() as connection,
            aclosing(record.stream(connection, "keys_in_order", *about)) as rows,
        ):
            async for some in rows:
                await self._page(some)

    async def _page(self, rows: Sequence[tuple[str, int, str]]) -> None:
        for part in split_by_bytes(rows, lambda row: row[1], KEYS_A_READ):
            (entries,) = await self._looker.read([("MGET", *[self._name(key) for key, _, _ in part])])
            small, large = list[str](), list[str]()
            for (key, size, said), entry in zip(part, entries, strict=True):
                if size <= SMALL_BYTES and entry != said:
                    small.append(key)
                elif size > SMALL_BYTES and _digest(entry or "") != said:
                    large.append(key)
            await self._examine(small, self.at_once)
            await self._examine(large, 1)

    async def _examine(self, suspects: Sequence[str], at_once: int) -> None:
        for start in range(0, len(suspects), at_once):
            await self._examiner.examine(self, suspects[start : start + at_once])

    def _name(self, key: str) -> str:
        return key_names.answer(self._w, key)

    def items(self, thing: str) -> Sequence[Item]:
        """See Kind."""
        return [Item("s", key_names.answer(self._w, thing))]

    async def said(self, at: EventId, things: Sequence[str]) -> dict[str, tuple[str, int]]:
        """See Kind."""
        return await record.kept_keys(self._examiner.pool, self._workspace, at, things)

    def judge(
        self, thing: str, said: dict[str, tuple[str, int]], seen: Seen, values: Sequence[Any]
    ) -> Difference | Later | None:
        """See Kind."""
        del seen
        if thing not in said or values[0] == said[thing][0]:
            return None
        entry, ttl_ms = said[thing]
        write = Write("i", key_names.answer(self._w, thing), str(ttl_ms), values[0], entry)
        return Difference(("idempotency_keys",), f"key {mask(thing)}", [write])


def _digest(entry: str) -> str:
    return md5(entry.encode(), usedforsecurity=False).hexdigest()
