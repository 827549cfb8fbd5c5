"""Compare users: their coupons by book, how many of them have an expiry of their own, and caps: a part of a comparison
(comparison.py). Rows come in the order of users. Names of fields are those of a user's hash in Redis
(lua/includes/holding.lua, assignment.lua and lua/put_user.lua). The expiries are compared code by code
(coupon_differences.py); a set of them that has too many is removed, and that comparison writes it anew."""

from collections.abc import Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Any, NamedTuple

from service.engine.domain.field_types import decode_id
from service.engine.formats import key_names
from service.engine.formats.coupon_state import About, Class, Difference, Write
from service.engine.formats.event_id import EventId
from service.engine.hot.inspection import ITEMS_A_LOOK, Item, Seen
from service.engine.record.actor import mask
from service.server.reconcile.examination import UNDECIDABLE_NOW, Examiner, Subject, UndecidableNow, pair_up
from service.server.record import comparisons as record
from service.server.record.bulk_reads import USERS_A_PAGE


class RecordedUser(NamedTuple):
    """The fields of a user's hash as the record expects them, and the version of its cap."""

    fields: dict[str, str]
    version: int


class Users(Subject):
    """One workspace's. The record's users come in order, at one cut, and are compared with their hashes page by
    page. Those that only Redis has are `strays`."""

    at_once = 1
    """One user may have coupons of thousands of books."""

    def __init__(self, examiner: Examiner) -> None:
        super().__init__(examiner)
        self._dated: dict[str, list[str]] = {}
        """By suspected user, books of which it holds coupons with an expiry of their own."""

    async def compare(self) -> None:
        cut = await self._examiner.cut()
        async with aclosing(self._examiner.bulk.users(self._workspace, cut.at)) as pages:
            async for rows in pages:
                await self._page(rows)

    async def _page(self, rows: list[Any]) -> None:
        expected = _group_by_user([tuple(row) for row in rows])
        replies = await self._inspector.read([("HGETALL", key_names.user(self._w, user)) for user in expected])
        suspects = [
            user
            for (user, recorded), flat in zip(expected.items(), replies, strict=True)
            if _without_zeros(recorded.fields) != _without_zeros(pair_up(flat))
        ]
        dated = [(user, name[1:]) for user, one in expected.items() for name in one.fields if name[0] == "x"]
        reads = [("ZCARD", key_names.ends_of_user(self._w, book, user)) for user, book in dated]
        for (user, book), count in zip(dated, await self._inspector.read(reads), strict=True):
            if count != int(expected[user].fields[f"x{book}"]):
                self._dated.setdefault(user, []).append(book)
        suspects += [user for user in self._dated if user not in suspects]
        await self._examiner.examine(self, suspects)
        self._dated.clear()

    async def strays(self, users: list[str]) -> list[str]:
        """Examine and return those of Redis's users that the record doesn't know."""
        suspects: list[str] = []
        for start in range(0, len(users), USERS_A_PAGE):
            some = users[start : start + USERS_A_PAGE]
            known = await self._examiner.bulk.known_users(self._workspace, [decode_id(user) for user in some])
            if unknown := [user for user in some if decode_id(user) not in known]:
                await self._examiner.examine(self, unknown)
                suspects += unknown
        return suspects

    def items(self, thing: str) -> Sequence[Item]:
        return [Item("H", key_names.user(self._w, thing)), *(Item("n", key) for key in self._sets(thing).values())]

    def _sets(self, user: str) -> dict[str, str]:
        """The keys of the suspected sets, by the field that has the count of each."""
        books = self._dated.get(user, [])[: ITEMS_A_LOOK - 1]
        return {f"x{book}": key_names.ends_of_user(self._w, book, user) for book in books}

    async def fetch_expected(self, at: EventId, things: Sequence[str]) -> dict[str, RecordedUser]:
        users = [decode_id(thing) for thing in things]
        return _group_by_user(await record.users(self._pool, self._partition, self._workspace, at, users))

    def find_difference(
        self, thing: str, expected: dict[str, RecordedUser], seen: Seen, values: Sequence[Any]
    ) -> Difference | UndecidableNow | None:
        recorded, fields = expected.get(thing, RecordedUser({}, 0)), pair_up(values[0])
        if recorded.version > seen.config:
            return UNDECIDABLE_NOW
        here, wanted = _without_zeros(fields), _without_zeros(recorded.fields)
        unlike = [name for name in sorted(here.keys() | wanted.keys()) if here.get(name) != wanted.get(name)]
        counts = zip(self._sets(thing).items(), values[1:], strict=True)
        removals = [Write("t", key, "", "zset", None) for (name, key), n in counts if n > int(wanted.get(name, "0"))]
        if not unlike and not removals:
            return None
        classes: list[Class] = []
        if removals or unlike != ["cap"]:
            classes.append("user_counts")
        if "cap" in unlike:
            classes.append("user_cap")
        writes = removals + [
            Write("h", key_names.user(self._w, thing), name, fields.get(name), wanted.get(name)) for name in unlike
        ]
        unsafe = "" if len(writes) <= 100 else "too much of it differs"
        return Difference(tuple(classes), f"user {mask(thing)}", writes, unsafe, (About("user", thing),))


def _group_by_user(rows: list[tuple[str, str, str, int]]) -> dict[str, RecordedUser]:
    """Rows are in order of the users."""
    grouped: dict[str, RecordedUser] = {}
    for user, some in groupby(rows, key=lambda row: row[0]):
        own = list(some)
        grouped[user] = RecordedUser({row[1]: row[2] for row in own}, max(row[3] for row in own))
    return grouped


def _without_zeros(fields: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value != "0"}
