"""Compare the types of keys: the first part of a comparison (comparison.py). It returns the writes of a repair: one
script removes a key of a wrong type, and writes what the record expects. Descriptions of keys are texts for the log,
with names masked."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Any

from service.engine.domain.field_types import decode_id
from service.engine.formats import key_names
from service.engine.formats.coupon_state import Difference, RecordedCode, Write, entry_of
from service.engine.formats.directory_entry import FREE_WITH_RECORD, NOT_FREE, DirectoryEntry, is_locked
from service.engine.formats.discount_sum import split_into
from service.engine.formats.event_id import EventId
from service.engine.formats.key_names import Key
from service.engine.formats.stored_settings import book_settings, workspace_settings
from service.engine.hot.inspection import ITEMS_A_RUN, Item, Snapshot
from service.engine.record.actor import mask
from service.engine.record.recorded_codes import recorded_codes
from service.server.in_postgres import comparisons as record
from service.server.in_postgres.book_rows import read_books
from service.server.in_postgres.workspace_rows import read_workspace
from service.server.reconcile.counter_differences import SUMS
from service.server.reconcile.examination import UNDECIDABLE_NOW, Examiner, Subject, UndecidableNow

MAX_WRITES = 1000
MAX_WRONG = 10_000
"""Of one workspace in one comparison; the next comparison finds the rest."""
_REBUILD = "`scrip rebuild` sets it right"

Expected = dict[Key, list[Write]]
"""The writes that restore each key; none for a key that the record does not expect, or that is compared later."""


class WrongTypes(Subject):
    """One workspace's. Keys that follow from the record are written again, except pools and sets of free codes, which
    are compared later. Locks and counters by the minute are lost. A key with too many writes is left for a rebuild."""

    at_once = ITEMS_A_RUN // 2

    def __init__(self, examiner: Examiner) -> None:
        super().__init__(examiner)
        self._wrong: dict[Key, None] = {}

    async def suspect(self, page: Sequence[Key]) -> None:
        types = await self._examiner.inspector.read([("TYPE", key.name) for key in page])
        for key, type_ in zip(page, types, strict=True):
            if type_ not in (key.type, "none") and len(self._wrong) < MAX_WRONG:
                self._wrong[key] = None

    async def compare(self) -> None:
        await self._examiner.examine(self, list(self._wrong))

    def items(self, thing: Key) -> Sequence[Item]:
        """Locks by holder and by deadline are removed together, as neither is complete alone."""
        items = [Item("t", thing.name)]
        if other := {"k": key_names.deadlines, "kd": key_names.locks}.get(thing.kind):
            items.append(Item("t", other(self._w, thing.parts[0])))
        return items

    async def fetch_expected(self, at: EventId, things: Sequence[Key]) -> tuple[Expected, int]:
        """The writes by key, and the newest configuration version that they follow from."""
        by_kind: dict[str, list[Key]] = defaultdict(list)
        for thing in things:
            by_kind[thing.kind].append(thing)
        expected: Expected = {}
        codes = [key.parts[0] for kind in "cs" for key in by_kind[kind]]
        if in_buckets := [*by_kind["d"], *by_kind["m"]]:
            buckets = [int(key.parts[0]) for key in in_buckets]
            codes += await record.codes_in_buckets(self._pool, self._workspace, buckets)
        recorded = await recorded_codes(self._pool, self._partition, self._workspace, at, codes) if codes else {}
        newest = max((one.version for one in recorded.values()), default=0)
        for key in [*by_kind["c"], *by_kind["s"]]:
            if key.parts[0] in recorded:
                expected[key] = _write_code(key, recorded[key.parts[0]])
        expected |= await self._directory(by_kind["d"], recorded)
        expected |= await self._accounts(by_kind["m"], recorded)
        expected |= await self._uses(at, [*by_kind["o"], *by_kind["g"]])
        expected |= await self._users(at, by_kind["u"])
        expected |= await self._counters(at, by_kind["n"])
        expected |= await self._answers(at, by_kind["i"])
        settings, version = await self._settings([*by_kind["w"], *by_kind["b"], *by_kind["x"]])
        return expected | settings, max(newest, version)

    def find_difference(
        self, thing: Key, expected: tuple[Expected, int], snapshot: Snapshot, values: Sequence[Any]
    ) -> Difference | UndecidableNow | None:
        if values[0] in (thing.type, "none"):
            return None
        writes, version = expected[0].get(thing, []), expected[1]
        if version > snapshot.config:
            return UNDECIDABLE_NOW
        types = zip(self.items(thing), values, strict=True)
        removal = [Write("t", item.key, "", type_, None) for item, type_ in types if type_ != "none"]
        unsafe = _REBUILD if thing.kind in "er" or len(writes) >= MAX_WRITES else ""
        return Difference(("wrong_type",), _describe_key(thing, values[0]), [*removal, *writes], unsafe)

    async def _directory(self, things: Sequence[Key], recorded: dict[str, RecordedCode]) -> Expected:
        """Entries by bucket. No script can lock a code of such a bucket; a locked code is not free."""
        keys = {int(key.parts[0]): key for key in things}
        codes = [one for one in recorded.values() if one.bucket in keys]
        read = self._examiner.inspector.read
        names = [key_names.coupon(self._w, one.code) for one in codes]
        replies = await read([("MGET", *names[start : start + 500]) for start in range(0, len(names), 500)])
        texts = [text for reply in replies for text in reply]
        lock_counts = await read([("ZCARD", key_names.deadlines(self._w, one.code)) for one in codes])
        writes: Expected = defaultdict(list)
        for one, text, locks in zip(codes, texts, lock_counts, strict=True):
            entry, key = entry_of(one)[0], keys[one.bucket]
            if text is not None or locks:
                is_free = one.free and not locks and not is_locked(None, text)
                entry = str(DirectoryEntry(str(one.book), FREE_WITH_RECORD if is_free else NOT_FREE))
            writes[key].append(Write("h", key.name, one.code, None, entry))
        return writes

    async def _accounts(self, things: Sequence[Key], recorded: dict[str, RecordedCode]) -> Expected:
        """The accounts of cards by bucket. No script can lock a card of such a bucket."""
        keys = {int(key.parts[0]): key for key in things}
        cards = [(one, one.account) for one in recorded.values() if one.bucket in keys and one.account]
        items = [Item("H", key_names.locks(self._w, one.code)) for one, _ in cards]
        held = [
            value
            for start in range(0, len(items), ITEMS_A_RUN)
            for value in (await self._inspector.read_values(items[start : start + ITEMS_A_RUN])).values
        ]
        writes: Expected = {key: [] for key in things}
        for (one, account), held_e4 in zip(cards, held, strict=True):
            key = keys[one.bucket]
            text = str(account._replace(held_e4=held_e4 if isinstance(held_e4, int) else 0))
            writes[key].append(Write("h", key.name, one.code, None, text))
        return writes

    async def _uses(self, at: EventId, things: Sequence[Key]) -> Expected:
        writes: Expected = {key: [] for key in things}
        if not writes:
            return {}
        async with aclosing(self._examiner.primary.uses(self._workspace, at)) as rows:
            async for some in rows:
                for bucket, kind, field, value in some:
                    key = Key(self._partition, self._workspace, kind, (str(bucket),))
                    if key in writes:
                        writes[key].append(Write("h", key.name, field, None, value))
        return writes

    async def _users(self, at: EventId, things: Sequence[Key]) -> Expected:
        writes: Expected = {key: [] for key in things}
        users = {key.parts[0]: key for key in things}
        if not users:
            return {}
        rows = await record.users(self._pool, self._partition, self._workspace, at, [decode_id(user) for user in users])
        for user, field, value, _ in rows:
            writes[users[user]].append(Write("h", users[user].name, field, None, value))
        return writes

    async def _counters(self, at: EventId, things: Sequence[Key]) -> Expected:
        if not things:
            return {}
        books = [int(key.parts[0]) for key in things]
        counts, _ = await self._examiner.primary.counts(self._workspace, at, books)
        writes: Expected = {}
        for key in things:
            counters = counts.get(int(key.parts[0]), {})
            for name in SUMS:
                counters |= split_into(name, int(counters.pop(name, 0)))
            if counters.get("redemptions") or counters.get("rolledBack"):
                counters |= {"touched": 1}
            writes[key] = [Write("h", key.name, counter, None, str(count)) for counter, count in counters.items()]
        return writes

    async def _answers(self, at: EventId, things: Sequence[Key]) -> Expected:
        if not things:
            return {}
        recorded = await record.recorded_keys(self._pool, self._workspace, at, [key.parts[0] for key in things])
        return {
            key: [Write("i", key.name, str(recorded[key.parts[0]][1]), None, recorded[key.parts[0]][0])]
            for key in things
            if key.parts[0] in recorded
        }

    async def _settings(self, things: Sequence[Key]) -> tuple[Expected, int]:
        """The writes of the workspace's settings, its books' settings and numbers, and the newest version of these."""
        if not things:
            return {}, 0
        row = await read_workspace(self._pool, self._workspace)
        every = any(key.kind == "x" for key in things)
        numbers = [int(key.parts[0]) for key in things if key.kind == "b"]
        if every:
            numbers = await record.books_numbers(self._pool, self._workspace)
        books = {book.book: book for book in await read_books(self._pool, self._workspace, numbers)}
        writes: Expected = {}
        for key in things:
            match key.kind:
                case "w":
                    writes[key] = [Write("s", key.name, "", None, f"{row.version} {workspace_settings(row)}")]
                case "x":
                    writes[key] = [Write("h", key.name, str(b.book_id), None, str(b.book)) for b in books.values()]
                case _:
                    book = books.get(int(key.parts[0]))
                    text = f"{book.version} {book_settings(book)}" if book else ""
                    writes[key] = [Write("s", key.name, "", None, text)] if text else []
        return writes, max([row.version, *(book.version for book in books.values())])


def _write_code(key: Key, recorded: RecordedCode) -> list[Write]:
    """The writes of a code's record (`c`), or of its standing redemptions (`s`)."""
    if key.kind == "s":
        return [Write("z", key.name, event, None, score) for event, score in recorded.standing_redemptions.items()]
    text = entry_of(recorded)[1]
    return [Write("s", key.name, "", None, text)] if text else []


_DESCRIPTIONS = {
    "w": "the settings of the workspace", "x": "the numbers of its books", "b": "the settings of book {}",
    "n": "the counters of book {}", "f": "the pool of book {}", "l": "the set {1} of book {0}",
    "lb": "the locks of book {}", "d": "the directory's bucket {}", "o": "the orders' bucket {}",
    "g": "the gifts' bucket {}", "e": "the moved counts of deleted users", "q": "a counter of a minute",
    "lk": "the locks of an API key", "bl": "what locks hold of book {}", "bh": "the sums of what locks hold of book {}",
    "m": "the accounts' bucket {}",
}  # fmt: skip
_MASKED = {
    "c": "the record of code {}", "k": "the locks of code {}", "kd": "the deadlines of code {}",
    "s": "the standing redemptions of code {}", "u": "user {}", "lu": "the locks of user {}", "i": "key {}",
    "ue": "the ends of user {}", "bu": "what the locks of user {} hold",
}  # fmt: skip


def _describe_key(key: Key, type_: str) -> str:
    """The key's description for the log, with codes, users and idempotency keys masked."""
    is_masked = key.kind in _MASKED
    text = _MASKED[key.kind].format(mask(key.parts[-1])) if is_masked else _DESCRIPTIONS[key.kind].format(*key.parts)
    return f"{text}: a {type_}, not a {key.type}"


def group_by_workspace(page: Iterable[Key]) -> dict[int, list[Key]]:
    """Group keys by workspace, without duplicates."""
    grouped: dict[int, dict[Key, None]] = defaultdict(dict)
    for key in page:
        grouped[key.workspace][key] = None
    return {number: list(some) for number, some in grouped.items()}
