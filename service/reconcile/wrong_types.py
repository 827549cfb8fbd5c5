"""Keys that hold another type than their kind's: nothing that decides can read them. Each is removed and, in the same
script, written as the record has it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from typing import Any

from service.access.actor import mask
from service.domain.field_types import decode_id
from service.formats import key_names
from service.formats.coupon_record import is_locked
from service.formats.coupon_state import Difference, Said, Write, entry_of
from service.formats.event_id import EventId
from service.formats.key_names import Key
from service.formats.stored_settings import book_settings, workspace_settings
from service.hot.inspection import ITEMS_A_LOOK, Item, Seen
from service.reconcile.examination import LATER, Examiner, Later
from service.record.config.book_rows import read_books
from service.record.config.workspace_rows import read_workspace
from service.record.partitions import comparisons as record

MAX_WRITES = 1000
MAX_WRONG = 10_000
"""Of one workspace in one comparison; the next finds the rest."""
_REBUILD = "`scrip rebuild` sets it right"

Expected = dict[Key, list[Write] | Later]
"""What a key's things should say, each seen as nothing; LATER where Redis may not have seen all of that yet."""


class WrongTypes:
    """One workspace's. Keys of kinds that follow from the record are written anew, with all that they should say; pools
    and sets of free codes are left out, which are compared later; locks, and what is counted of a minute, are Redis's
    own, and lost. What can't be written at once is left, for a rebuild."""

    at_once = ITEMS_A_LOOK // 2

    def __init__(self, examiner: Examiner) -> None:
        self._examiner, self._pool = examiner, examiner.pool
        self._workspace, self._partition = examiner.workspace, examiner.partition
        self._w = key_names.prefix(self._partition, self._workspace)
        self._wrong: dict[Key, None] = {}

    async def suspect(self, page: Sequence[Key]) -> None:
        """Look at the types of some of the workspace's keys."""
        types = await self._examiner.looker.read([("TYPE", key.name) for key in page])
        for key, found in zip(page, types, strict=True):
            if found not in (key.type, "none") and len(self._wrong) < MAX_WRONG:
                self._wrong[key] = None

    async def compare(self) -> None:
        """All that were suspected."""
        await self._examiner.examine(self, list(self._wrong))

    def items(self, thing: Key) -> Sequence[Item]:
        """See Kind. Locks by holder and by deadline tell of each other: neither is worth anything alone."""
        items = [Item("t", thing.name)]
        if other := {"k": key_names.deadlines, "kd": key_names.locks}.get(thing.kind):
            items.append(Item("t", other(self._w, thing.parts[0])))
        return items

    async def said(self, at: EventId, things: Sequence[Key]) -> tuple[Expected, int]:
        """See Kind; and the newest version of the configuration that it goes by."""
        by_kind: dict[str, list[Key]] = defaultdict(list)
        for thing in things:
            by_kind[thing.kind].append(thing)
        expected: Expected = {}
        codes = [key.parts[0] for kind in "cs" for key in by_kind[kind]]
        if by_kind["d"]:
            buckets = [int(key.parts[0]) for key in by_kind["d"]]
            codes += await record.codes_in_buckets(self._pool, self._workspace, buckets)
        told = await record.codes(self._pool, self._partition, self._workspace, at, codes) if codes else {}
        newest = max((one.version for one in told.values()), default=0)
        for key in by_kind["c"]:
            text = entry_of(told[key.parts[0]])[1] if key.parts[0] in told else None
            expected[key] = [Write("s", key.name, "", None, text)] if text else []
        for key in by_kind["s"]:
            expected[key] = _standing(key, told.get(key.parts[0]))
        expected |= {key: [] for key in by_kind["d"]} | await self._directory(by_kind["d"], told)
        expected |= await self._uses(at, [*by_kind["o"], *by_kind["g"]])
        expected |= await self._users(at, by_kind["u"])
        expected |= await self._counters(at, by_kind["n"])
        expected |= await self._answers(at, by_kind["i"])
        settings, version = await self._settings([*by_kind["w"], *by_kind["b"], *by_kind["x"]])
        return expected | settings, max(newest, version)

    def judge(
        self, thing: Key, said: tuple[Expected, int], seen: Seen, values: Sequence[Any]
    ) -> Difference | Later | None:
        """See Kind."""
        expected, version = said
        if values[0] in (thing.type, "none"):
            return None
        writes = expected.get(thing, [])
        if version > seen.config or writes == LATER:
            return LATER
        gone = zip(self.items(thing), values, strict=True)
        removal = [Write("t", item.key, "", found, None) for item, found in gone if found != "none"]
        unsafe = _REBUILD if thing.kind == "e" or len(writes) >= MAX_WRITES else ""
        return Difference(("wrong_type",), _shown(thing, values[0]), [*removal, *writes], unsafe)

    async def _directory(self, things: Sequence[Key], told: dict[str, Said]) -> Expected:
        """Entries by bucket. Nobody can lock a code of such a bucket; what is locked already is not free."""
        wanted = {int(key.parts[0]): key for key in things}
        inside = [one for one in told.values() if one.bucket in wanted]
        read = self._examiner.looker.read
        texts = [
            text
            for start in range(0, len(inside), 500)
            for text in (
                await read([("MGET", *(key_names.coupon(self._w, one.code) for one in inside[start : start + 500]))])
            )[0]
        ]
        several = await read([("ZCARD", key_names.deadlines(self._w, one.code)) for one in inside])
        found: dict[Key, list[Write]] = defaultdict(list)
        for one, text, locks in zip(inside, texts, several, strict=True):
            entry, key = entry_of(one)[0], wanted[one.bucket]
            if (is_locked(text) or locks) and "!" not in entry:
                entry += "!"
            found[key].append(Write("h", key.name, one.code, None, entry))
        return {**found}

    async def _uses(self, at: EventId, things: Sequence[Key]) -> Expected:
        found: dict[Key, list[Write]] = {key: [] for key in things}
        if not found:
            return {}
        about = (self._partition, self._workspace, *at, None, None, None)
        async with (
            self._pool.acquire() as connection,
            aclosing(record.stream(connection, "uses_in_order", *about)) as rows,
        ):
            async for some in rows:
                for bucket, kind, field, said in some:
                    key = Key(self._partition, self._workspace, kind, (str(bucket),))
                    if key in found:
                        found[key].append(Write("h", key.name, field, None, said))
        return {**found}

    async def _users(self, at: EventId, things: Sequence[Key]) -> Expected:
        found: dict[Key, list[Write]] = {key: [] for key in things}
        users = {key.parts[0]: key for key in things}
        if not users:
            return {}
        rows = await record.users(self._pool, self._partition, self._workspace, at, [decode_id(user) for user in users])
        for user, field, said, _ in rows:
            found[users[user]].append(Write("h", users[user].name, field, None, said))
        return {**found}

    async def _counters(self, at: EventId, things: Sequence[Key]) -> Expected:
        if not things:
            return {}
        async with self._pool.acquire() as connection:
            books = [int(key.parts[0]) for key in things]
            counts = await record.counts(connection, self._partition, self._workspace, at, books)
        found: Expected = {}
        for key in things:
            said = counts.get(int(key.parts[0]), {})
            if said.get("redemptions") or said.get("rolledBack"):
                said |= {"touched": 1}
            found[key] = [Write("h", key.name, counter, None, str(count)) for counter, count in said.items()]
        return found

    async def _answers(self, at: EventId, things: Sequence[Key]) -> Expected:
        if not things:
            return {}
        told = await record.recorded_keys(self._pool, self._workspace, at, [key.parts[0] for key in things])
        return {
            key: [Write("i", key.name, str(told[key.parts[0]][1]), None, told[key.parts[0]][0])]
            for key in things
            if key.parts[0] in told
        }

    async def _settings(self, things: Sequence[Key]) -> tuple[Expected, int]:
        """The workspace's settings, its books' and their numbers; and the newest version of these."""
        if not things:
            return {}, 0
        row = await read_workspace(self._pool, self._workspace)
        every = any(key.kind == "x" for key in things)
        numbers = [int(key.parts[0]) for key in things if key.kind == "b"]
        if every:
            numbers = await record.books_numbers(self._pool, self._workspace)
        books = {book.book: book for book in await read_books(self._pool, self._workspace, numbers)}
        found: Expected = {}
        for key in things:
            match key.kind:
                case "w":
                    found[key] = [Write("s", key.name, "", None, f"{row.version} {workspace_settings(row)}")]
                case "x":
                    found[key] = [Write("h", key.name, str(b.book_id), None, str(b.book)) for b in books.values()]
                case _:
                    book = books.get(int(key.parts[0]))
                    text = book and f"{book.version} {book_settings(book)}"
                    found[key] = [Write("s", key.name, "", None, text)] if text else []
        return found, max([row.version, *(book.version for book in books.values())])


def _standing(key: Key, said: Said | None) -> list[Write]:
    standing = said.standing_redemptions if said else {}
    return [Write("z", key.name, event, None, score) for event, score in standing.items()]


_WORDS = {
    "w": "the settings of the workspace", "x": "the numbers of its books", "b": "the settings of book {}",
    "n": "the counters of book {}", "f": "the pool of book {}", "l": "the set {1} of book {0}",
    "lb": "the locks of book {}", "d": "the directory's bucket {}", "o": "the orders' bucket {}",
    "g": "the gifts' bucket {}", "e": "what was moved of deleted users", "q": "a counter of a minute",
    "lk": "the locks of an API key",
}  # fmt: skip
_MASKED = {
    "c": "the record of code {}", "k": "the locks of code {}", "kd": "the deadlines of code {}",
    "s": "the standing redemptions of code {}", "u": "user {}", "lu": "the locks of user {}", "i": "key {}",
}  # fmt: skip


def _shown(key: Key, found: str) -> str:
    """Where it is, as may be logged: codes, users and keys masked."""
    what = _MASKED[key.kind].format(mask(key.parts[-1])) if key.kind in _MASKED else _WORDS[key.kind].format(*key.parts)
    return f"{what}: a {found}, not a {key.type}"


def by_workspace(page: Iterable[Key]) -> dict[int, list[Key]]:
    """Keys by their workspace, each once."""
    found: dict[int, dict[Key, None]] = defaultdict(dict)
    for key in page:
        found[key.workspace][key] = None
    return {number: list(some) for number, some in found.items()}
