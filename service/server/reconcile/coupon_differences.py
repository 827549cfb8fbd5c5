"""Compare codes: directory entries, records, standing redemptions, and whether they are offered: a part of a
comparison (comparison.py). The first pass reads rows of the query `codes_in_order` by position. examination.py
makes the writes."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from service.engine.domain.field_types import encode_field
from service.engine.formats import key_names
from service.engine.formats.card_account import parse_account
from service.engine.formats.coupon_record import is_blocked
from service.engine.formats.coupon_state import (
    About,
    Class,
    Difference,
    RecordedCode,
    Write,
    differing_classes,
    entry_of,
    has_same_account,
)
from service.engine.formats.directory_entry import is_locked, parse_directory_entry
from service.engine.formats.event_id import EventId
from service.engine.formats.key_names import SETS_OF_CODES
from service.engine.hot.inspection import BUCKETS_A_RUN, Item, Snapshot
from service.engine.record.actor import mask
from service.engine.record.recorded_codes import recorded_codes
from service.server.in_postgres import comparisons as record
from service.server.reconcile.bucket_walk import pages
from service.server.reconcile.examination import UNDECIDABLE_NOW, Examiner, Subject, UndecidableNow, pair_up

_STATE_ITEMS = 6
"""The items of a code before the sets in which it may be."""
MAX_STANDING = 1000
"""Standing redemptions of a code that was used more often are not compared one by one."""
_State = tuple[str | None, str | None, dict[str, str]]
"""A code's directory entry, record and standing redemptions."""


class Coupons(Subject):
    """One workspace's.

    1. The record's codes come in the order of their buckets, at one cut. They are compared page by page with the
       directory and the records. Pages are read after the cut, so differences are only suspected, and the examiner
       reads them again.
    2. Records of codes that the directory doesn't know (`strays`) are suspected, too.
    3. One script a page compares the counts of free codes by bucket with the directory, in Redis itself.
    """

    at_once = 12

    def __init__(self, examiner: Examiner, existing: set[int] | None) -> None:
        """`existing`: the directory's existing buckets; None to read all."""
        super().__init__(examiner)
        self._existing = existing
        self._recorded: dict[str, RecordedCode] = {}
        """Suspected codes as the record last had them."""
        self._ends_read: dict[str, Item | None] = {}
        """Where the end of a suspected code was last read among those that its owner holds."""

    async def compare(self) -> None:
        cut = await self._examiner.cut()
        recorded = self._examiner.bulk.codes(self._workspace, cut.at)
        async with aclosing(pages(recorded, self._existing)) as buckets_of_run:
            async for buckets, rows in buckets_of_run:
                if self._existing is not None:
                    self._existing.update(buckets)  # codes may be added to buckets that only the record has
                await self._page(buckets, rows, cut.config)
                self._examiner.count(len(rows))

    async def _page(self, buckets: list[int], rows: list[Any], config: int) -> None:
        replies = await self._inspector.read_hashes([key_names.directory(self._w, bucket) for bucket in buckets])
        here = {bucket: pair_up(flat) for bucket, flat in zip(buckets, replies, strict=True)}
        suspects: list[str] = []
        rest: list[tuple[Any, str]] = []
        for row in rows:  # RecordedCode's fields by position: making one of each takes too long
            entry = here[row[0]].pop(row[1], None)
            if entry is None:
                if row[3] <= config:
                    suspects.append(row[1])
            elif not (row[8] == 1 == row[9] and not row[13] and row[6] is None and entry == f"{row[2]}!{row[10]}"):
                rest.append((row, entry))  # all but the most frequent: a code whose only use is spent
        for surplus in here.values():
            suspects += surplus
        suspects += await self._find_unlike(rest)
        await self._examine(suspects)

    async def _examine(self, suspects: list[str]) -> None:
        await self._examiner.examine(self, suspects)
        self._recorded.clear()
        self._ends_read.clear()

    async def _find_unlike(self, rows: list[tuple[Any, str]]) -> list[str]:
        w = self._w
        names = [key_names.coupon(w, row[1]) for row, _ in rows]
        runs = [("MGET", *names[at : at + 500]) for at in range(0, len(names), 500)]
        records = [text for reply in await self._inspector.read(runs) for text in reply]
        suspects: list[str] = []
        several: list[RecordedCode] = []
        cards: list[RecordedCode] = []
        ending: list[tuple[RecordedCode, Item]] = []
        for (row, entry), text in zip(rows, records, strict=True):
            is_idle = text is None and not row[8] and not row[13] and row[9] is row[6] is None and entry == str(row[2])
            if is_idle and row[14] is None:
                continue
            recorded = RecordedCode(*row)
            if recorded.account:
                cards.append(recorded)
            if differing_classes(recorded, entry, text, locked=False):
                suspects.append(recorded.code)
                continue
            if recorded.stand and recorded.max != 1:
                several.append(recorded)
            elif recorded.waits_for_end and not is_locked(entry, text):
                key = key_names.set_of_codes(w, recorded.book, "x")
                ending.append((recorded, Item("z", key, f"{recorded.bucket} {recorded.code}")))
            if end := self._held_end(recorded):
                ending.append((recorded, end))
        suspects += await self._find_unlike_accounts(cards)
        return list(dict.fromkeys([*suspects, *await self._find_unlike_sets(several, ending)]))

    async def _find_unlike_accounts(self, cards: list[RecordedCode]) -> list[str]:
        """Cards with another account, and those of which locks hold a part: what these hold is read with it."""
        accounts = [("HGET", key_names.accounts(self._w, one.bucket), one.code) for one in cards]
        texts = await self._inspector.read(accounts)
        return [
            one.code
            for one, text in zip(cards, texts, strict=True)
            if text != [] and not has_same_account(one, text, 0)  # []: of the wrong type, which is named as such
        ]

    async def _find_unlike_sets(
        self, several: list[RecordedCode], ending: list[tuple[RecordedCode, Item]]
    ) -> list[str]:
        """Codes with other standing redemptions, and those whose end is not where it belongs."""
        suspects, w = list[str](), self._w
        reads = [("ZRANGE", key_names.standing(w, one.code), 0, MAX_STANDING - 1, "WITHSCORES") for one in several]
        for recorded, flat in zip(several, await self._inspector.read(reads), strict=True):
            if not _have_same_standing(recorded, pair_up(flat)):
                suspects.append(recorded.code)
        reads = [("ZSCORE", end.key, end.member) for _, end in ending]
        for (recorded, _), score in zip(ending, await self._inspector.read(reads), strict=True):
            if score != str(recorded.expires_ms):
                suspects.append(recorded.code)
        return suspects

    async def strays(self, codes: list[str]) -> list[str]:
        """Examine and return those of Redis's codes that the directory doesn't know, or lists without a record."""
        reads = [("HGET", key_names.directory(self._w, key_names.bucket(code)), code) for code in codes]
        entries = await self._inspector.read(reads)
        if suspects := [code for code, entry in zip(codes, entries, strict=True) if _is_without_record(entry)]:
            await self._examine(suspects)
        return suspects

    async def pools(self) -> None:
        """Compare the counts of free codes by bucket."""
        existing = range(key_names.BUCKETS) if self._existing is None else sorted(self._existing)
        for first in range(0, len(existing), BUCKETS_A_RUN):
            await self._compare_pools("free_missing", "", existing[first : first + BUCKETS_A_RUN])
        for book in await record.books_numbers(self._pool, self._workspace):
            async for buckets in self._inspector.read_fields(key_names.pool(self._w, book)):
                await self._compare_pools("free_surplus", str(book), buckets)

    async def _compare_pools(self, class_: Class, book: str, buckets: Sequence[int | str]) -> None:
        repair = self._examiner.repair
        await self._examiner.raise_if_void()
        for difference in await self._inspector.correct_free_counts(self._workspace, book, buckets, repair):
            bucket, book_number = difference.split(" ")
            thing = f"book {book_number}, bucket {bucket}"
            self._examiner.count_and_report(Difference((class_,), thing), "mended" if repair else "found")

    def items(self, thing: str) -> Sequence[Item]:
        """Its entry, record, standing redemptions, locks, account and what the locks hold, and the sets in which it may
        be."""
        w, bucket = self._w, key_names.bucket(thing)
        recorded = self._recorded.get(thing)
        end = self._ends_read[thing] = self._held_end(recorded) if recorded else None
        items = [
            Item("h", key_names.directory(w, bucket), thing),
            Item("s", key_names.coupon(w, thing)),
            Item("Z", key_names.standing(w, thing)),
            Item("n", key_names.deadlines(w, thing)),
            Item("h", key_names.accounts(w, bucket), thing),
            Item("H", key_names.locks(w, thing)),
        ]
        if recorded:
            keys = [key_names.set_of_codes(w, recorded.book, kind) for kind in SETS_OF_CODES]
            items += [Item("z", key, f"{bucket} {thing}") for key in keys]
        return [*items, end] if end else items

    def _held_end(self, one: RecordedCode) -> Item | None:
        """Its end among those that its owner holds; None if it doesn't belong there."""
        if not one.is_held_till_end:
            return None
        return Item("z", key_names.ends_of_user(self._w, one.book, encode_field(one.owner)), one.code)

    async def fetch_expected(self, at: EventId, things: Sequence[str]) -> dict[str, RecordedCode]:
        await self._examiner.quarantine.read_on()
        expected = await recorded_codes(self._pool, self._partition, self._workspace, at, things)
        self._recorded |= expected
        return expected

    def find_difference(
        self, thing: str, expected: dict[str, RecordedCode], snapshot: Snapshot, values: Sequence[Any]
    ) -> Difference | UndecidableNow | None:
        (entry, text, flat, locks, account, held_e4), sets = values[:_STATE_ITEMS], values[_STATE_ITEMS:]
        one, name, about = expected.get(thing), f"code {mask(thing)}", (About("code", thing),)
        stands, unsafe = pair_up(flat), "it is locked" if locks or is_locked(entry, text) else ""
        if one is None:
            if entry is text is account is None and not flat:
                return None
            removal = self._write_code(thing, (entry, text, stands), (None, None, {}))
            if account is not None:
                removal.append(Write("h", key_names.accounts(self._w, key_names.bucket(thing)), thing, account, None))
            return Difference(("code_surplus",), name, removal, unsafe, about)
        if one.version > snapshot.config or self._held_end(one) != self._ends_read.get(thing):
            return UNDECIDABLE_NOW  # its end is read from the second time on
        if is_blocked(text) and self._examiner.quarantine.names(about):
            one = one._replace(is_blocked=True)
        classes = self._find_classes(one, values, bool(unsafe))
        writes = self._write_account(one, account, held_e4)
        if not classes:  # the card's locks hold as much as they did
            return Difference(("balance",), name, writes, "", about) if writes else None
        if writes:
            classes.append("balance")
        writes += self._write(one, entry, text, stands, sets)
        return Difference(tuple(dict.fromkeys(classes)), name, writes, unsafe, about)

    def _find_classes(self, one: RecordedCode, values: Sequence[Any], has_locks: bool) -> list[Class]:
        """The differences of a code that Postgres has, apart from a card's account."""
        (entry, text, flat, locks, *_), sets = values[:_STATE_ITEMS], values[_STATE_ITEMS:]
        if entry is None:
            return ["code_missing"]
        classes = differing_classes(one, entry, text, locked=locks > 0)
        if not _have_same_standing(one, pair_up(flat)):
            classes.append("redemptions")
        # The sets of its book are read from the second time on.
        if one.waits_for_end and not has_locks and sets[SETS_OF_CODES.index("x") :] != [str(one.expires_ms)]:
            classes.append("free_missing")
        if one.is_held_till_end and values[-1] != str(one.expires_ms):
            classes.append("user_counts")
        return classes

    def _write(
        self, one: RecordedCode, entry: str | None, text: str | None, stands: dict[str, str], sets: Sequence[Any]
    ) -> list[Write]:
        standing = one.standing_redemptions if one.has_all_standing else stands
        writes = self._write_code(one.code, (entry, text, stands), (*entry_of(one), standing))
        for kind, score in zip(SETS_OF_CODES, sets, strict=False):
            to = str(one.expires_ms) if kind == "x" and one.waits_for_end else None
            key = key_names.set_of_codes(self._w, one.book, kind)
            writes.append(Write("z", key, f"{one.bucket} {one.code}", score, to))
        if (end := self._held_end(one)) and len(sets) > len(SETS_OF_CODES):
            writes.append(end.change(sets[-1], str(one.expires_ms)))
        return [write for write in writes if write.seen != write.to or write.kind in "hs"]

    def _write_account(self, one: RecordedCode, account: str | None, held_e4: int | None) -> list[Write]:
        """The write to the account of a card."""
        if has_same_account(one, account, held_e4):
            return []
        if held_e4 is None:
            stored = parse_account(account) if account else None
            held_e4 = stored.held_e4 if stored else 0
        expected = str(one.account._replace(held_e4=held_e4)) if one.account else None
        return [Write("h", key_names.accounts(self._w, one.bucket), one.code, account, expected)]

    def _write_code(self, code: str, stored: _State, wanted: _State) -> list[Write]:
        """The writes to the directory entry, the record and the standing redemptions of a code."""
        w, (entry, text, stands), (wanted_entry, wanted_text, standing) = self._w, stored, wanted
        events = [event for event in standing if event not in stands] + list(stands)
        return [
            Write("h", key_names.directory(w, key_names.bucket(code)), code, entry, wanted_entry),
            Write("s", key_names.coupon(w, code), "", text, wanted_text),
            *(Write("z", key_names.standing(w, code), one, stands.get(one), standing.get(one)) for one in events),
        ]


def _have_same_standing(recorded: RecordedCode, stands: dict[str, str]) -> bool:
    """Whether these are the standing redemptions of a code with several uses, if the record lists them."""
    return not recorded.has_all_standing or stands == recorded.standing_redemptions


def _is_without_record(entry: str | None) -> bool:
    """Whether the directory lists the code as having no record, or doesn't know it."""
    listed = None if entry is None else parse_directory_entry(entry)
    return entry is None or (listed is not None and not listed.has_record)
