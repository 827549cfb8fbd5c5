"""Codes: the directory, their records, their standing redemptions, and whether they are offered."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

from service.access.actor import mask
from service.formats import key_names
from service.formats.coupon_record import is_locked
from service.formats.coupon_state import About, Class, Difference, Said, Write, entry_of, unlike
from service.formats.directory_entry import parse_directory_entry
from service.formats.event_id import EventId
from service.hot.inspection import BUCKETS_A_RUN, Item, Seen
from service.reconcile.bucket_walk import pages
from service.reconcile.examination import LATER, Examiner, Later
from service.record.partitions import comparisons as record

MAX_STANDING = 1000
"""Of a code that was used more often than this, each is not compared."""
_SETS = "uapox"


class Coupons:
    """One workspace's.

    1. The record's codes come in order of their buckets, as of one cut; the directory is read page by page beside them,
       with the records of all codes that may have one. Pages are of moments after the cut, so what differs is no more
       than suspected: the examiner looks at it.
    2. Records of codes that the directory doesn't know (`strays`) are suspected, too.
    3. The counts of free codes by bucket are compared with the directory in Redis itself, by one script a page.
    """

    at_once = 12

    def __init__(self, examiner: Examiner, there: set[int] | None) -> None:
        """`there` are the directory's buckets, where not all of them have to be read."""
        self._examiner, self._looker, self._there = examiner, examiner.looker, there
        self._workspace, self._partition = examiner.workspace, examiner.partition
        self._w = key_names.prefix(self._partition, self._workspace)
        self._books: dict[str, str] = {}
        """The book in which the record last had a code that is suspected."""

    async def compare(self, done: Callable[[int], None]) -> None:
        """All codes; `done` is told how many were compared."""
        cut = await self._examiner.cut()
        about = (self._partition, self._workspace, *cut.at, None)
        async with aclosing(pages(self._examiner, "codes_in_order", about, self._there)) as some:
            async for buckets, rows in some:
                if self._there is not None:
                    self._there.update(buckets)  # codes may be put into those that the record alone has
                await self._page(buckets, rows, cut.config)
                done(len(rows))

    async def _page(self, buckets: list[int], rows: list[Any], config: int) -> None:
        w = self._w
        found = await self._looker.read([("HGETALL", key_names.directory(w, bucket)) for bucket in buckets])
        here = {
            bucket: dict(zip(flat[::2], flat[1::2], strict=True)) for bucket, flat in zip(buckets, found, strict=True)
        }
        suspects: list[str] = []
        rest: list[tuple[Any, str]] = []
        for row in rows:
            entry = here[row[0]].pop(row[1], None)
            if entry is None:
                if row[3] <= config:
                    suspects.append(row[1])
            elif not (row[8] == 1 == row[9] and not row[13] and row[6] is None and entry == f"{row[2]}!{row[10]}"):
                rest.append((row, entry))  # all but what is by far the most in the end: one whose only use is spent
        for strange in here.values():
            suspects += strange
        suspects += await self._unlike(rest)
        if suspects:
            await self._examiner.examine(self, suspects)
            self._books.clear()

    async def _unlike(self, rows: list[tuple[Any, str]]) -> list[str]:
        """Of codes that may have a record, those whose differs."""
        w = self._w
        names = [key_names.coupon(w, row[1]) for row, _ in rows]
        runs = [("MGET", *names[at : at + 500]) for at in range(0, len(names), 500)]
        records = [text for reply in await self._looker.read(runs) for text in reply]
        suspects: list[str] = []
        several: list[Said] = []
        ending: list[Said] = []
        for (row, entry), text in zip(rows, records, strict=True):
            if text is None and not row[8] and not row[13] and row[9] is row[6] is None and entry == str(row[2]):
                continue
            said = Said(*row)
            if unlike(said, entry, text, locked=False):
                suspects.append(said.code)
            elif said.stand and said.max != 1:
                several.append(said)
            elif said.waits_for_end and not is_locked(text):
                ending.append(said)
        asked = [("ZRANGE", key_names.standing(w, one.code), 0, MAX_STANDING - 1, "WITHSCORES") for one in several]
        for said, flat in zip(several, await self._looker.read(asked), strict=True):
            if not _stand_alike(said, dict(zip(flat[::2], flat[1::2], strict=True))):
                suspects.append(said.code)
        asked = [("ZSCORE", key_names.set_of_codes(w, one.book, "x"), f"{one.bucket} {one.code}") for one in ending]
        for said, score in zip(ending, await self._looker.read(asked), strict=True):
            if score != str(said.expires_ms):
                suspects.append(said.code)
        return suspects

    async def strays(self, codes: list[str]) -> list[str]:
        """Codes that have a record or standing redemptions: suspected, and returned, are those that the directory
        doesn't know, or says to have none."""
        entries = await self._looker.read(
            [("HGET", key_names.directory(self._w, key_names.bucket(code)), code) for code in codes]
        )
        if suspects := [code for code, entry in zip(codes, entries, strict=True) if _has_none(entry)]:
            await self._examiner.examine(self, suspects)
            self._books.clear()
        return suspects

    async def pools(self) -> None:
        """The counts of free codes by bucket."""
        looker, examiner = self._looker, self._examiner
        there = range(key_names.BUCKETS) if self._there is None else sorted(self._there)
        for first in range(0, len(there), BUCKETS_A_RUN):
            some = there[first : first + BUCKETS_A_RUN]
            self._call("free_missing", await looker.pools(self._workspace, "", some, examiner.repair))
        for book in await record.books_numbers(examiner.pool, self._workspace):
            async for buckets in looker.fields(key_names.pool(self._w, book)):
                self._call("free_surplus", await looker.pools(self._workspace, str(book), buckets, examiner.repair))

    def _call(self, class_: Class, found: list[str]) -> None:
        state = "mended" if self._examiner.repair else "found"
        for told in found:
            bucket, book = told.split(" ")
            self._examiner.call(Difference((class_,), f"book {book}, bucket {bucket}"), state)

    def items(self, thing: str) -> Sequence[Item]:
        """See Kind: its entry, record, standing redemptions, locks of its own, and the sets that it may be in."""
        w, bucket = self._w, key_names.bucket(thing)
        book = self._books.get(thing)
        items = [
            Item("h", key_names.directory(w, bucket), thing),
            Item("s", key_names.coupon(w, thing)),
            Item("Z", key_names.standing(w, thing)),
            Item("n", key_names.deadlines(w, thing)),
        ]
        if book is not None:
            items += [Item("z", key_names.set_of_codes(w, book, kind), f"{bucket} {thing}") for kind in _SETS]
        return items

    async def said(self, at: EventId, things: Sequence[str]) -> dict[str, Said]:
        """See Kind."""
        found = await record.codes(self._examiner.pool, self._partition, self._workspace, at, things)
        for code, said in found.items():
            self._books[code] = str(said.book)
        return found

    def judge(self, thing: str, said: dict[str, Said], seen: Seen, values: Sequence[Any]) -> Difference | Later | None:
        """See Kind."""
        entry, text, flat, locks = values[:4]
        one, name, about = said.get(thing), f"code {mask(thing)}", (About("code", thing),)
        stands = dict(zip(flat[::2], flat[1::2], strict=True))
        if one is None:
            if entry is None and text is None and not flat:
                return None
            return Difference(
                ("code_surplus",), name, self._remove(thing, entry, text, stands), _unsafe(text, locks), about
            )
        if one.version > seen.config:
            return LATER
        if entry is None:
            return Difference(
                ("code_missing",), name, self._write(one, None, text, stands, values[4:]), _unsafe(text, locks), about
            )
        classes = unlike(one, entry, text, locked=locks > 0)
        if not _stand_alike(one, stands):
            classes.append("redemptions")
        # Its book's sets are read from the second look on.
        if (
            one.waits_for_end
            and not locks
            and not is_locked(text)
            and values[4 + _SETS.index("x") :] != [str(one.expires_ms)]
        ):
            classes.append("free_missing")
        if not classes:
            return None
        writes = self._write(one, entry, text, stands, values[4:])
        return Difference(tuple(dict.fromkeys(classes)), name, writes, _unsafe(text, locks), about)

    def _write(
        self, one: Said, entry: str | None, text: str | None, stands: dict[str, str], sets: Sequence[Any]
    ) -> list[Write]:
        w, code, at = self._w, one.code, f"{one.bucket} {one.code}"
        wanted, told = entry_of(one)
        writes = [
            Write("h", key_names.directory(w, one.bucket), code, entry, wanted),
            Write("s", key_names.coupon(w, code), "", text, told),
        ]
        standing = one.standing_redemptions if one.tells_standing else stands
        writes += [
            Write("z", key_names.standing(w, code), event, None, ms)
            for event, ms in standing.items()
            if event not in stands
        ]
        writes += [
            Write("z", key_names.standing(w, code), event, ms, standing.get(event)) for event, ms in stands.items()
        ]
        for kind, score in zip(_SETS, sets, strict=False):
            to = str(one.expires_ms) if kind == "x" and one.waits_for_end else None
            writes.append(Write("z", key_names.set_of_codes(w, one.book, kind), at, score, to))
        return [write for write in writes if write.seen != write.to or write.kind in "hs"]

    def _remove(self, code: str, entry: str | None, text: str | None, stands: dict[str, str]) -> list[Write]:
        w, bucket = self._w, key_names.bucket(code)
        writes = [
            Write("h", key_names.directory(w, bucket), code, entry, None),
            Write("s", key_names.coupon(w, code), "", text, None),
        ]
        return writes + [Write("z", key_names.standing(w, code), event, ms, None) for event, ms in stands.items()]


def _stand_alike(said: Said, stands: dict[str, str]) -> bool:
    """Whether these are the standing redemptions of a code with several uses, as far as they are told."""
    return not said.tells_standing or stands == said.standing_redemptions


def _has_none(entry: str | None) -> bool:
    """Whether the directory says that a code has no record, or doesn't know it."""
    listed = None if entry is None else parse_directory_entry(entry)
    return entry is None or (listed is not None and listed.last != "")


def _unsafe(text: str | None, locks: int) -> str:
    return "it is locked" if locks or is_locked(text) else ""
