"""Compare users: their coupons by book, how many of them have an expiry of their own, and caps: a part of a comparison
(comparison.py). Rows come in the order of users. Names of fields are those of a user's hash in Redis
(lua/includes/coupon_counts.lua, assignment.lua and lua/put_user.lua). The expiries are compared code by code
(coupon_differences.py); a set of them that has too many is removed, and that comparison writes it again."""

from collections.abc import Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Any, NamedTuple

from service.engine.domain.field_types import decode_id
from service.engine.formats import key_names
from service.engine.formats.coupon_state import About, Class, Difference, Write
from service.engine.formats.event_id import EventId
from service.engine.hot.inspection import ITEMS_A_RUN, Item, Snapshot
from service.engine.record.actor import mask
from service.server.in_postgres import comparisons as record
from service.server.in_postgres.bulk_reads import USERS_A_PAGE
from service.server.reconcile.examination import UNDECIDABLE_NOW, Examiner, Subject, UndecidableNow, pair_up


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
        self._suspected: dict[str, list[str]] = {}
        """By suspected user, fields that may differ."""

    async def compare(self) -> None:
        cut = await self._examiner.cut()
        async with aclosing(self._examiner.bulk.users(self._workspace, cut.at)) as pages:
            async for rows in pages:
                await self._page(rows)

    async def _page(self, rows: list[Any]) -> None:
        expected = _group_by_user([tuple(row) for row in rows])
        hashes = await self._inspector.read_hashes([key_names.user(self._w, user) for user in expected])
        for (user, recorded), flat in zip(expected.items(), hashes, strict=True):
            here, wanted = _without_zeros(pair_up(flat)), _without_zeros(recorded.fields)
            if unlike := sorted({name for name, _ in here.items() ^ wanted.items()}):
                self._suspected[user] = unlike
        dated = [(user, name) for user, one in expected.items() for name in one.fields if name[0] == "x"]
        reads = [("ZCARD", self._ends(user, name)) for user, name in dated]
        for (user, name), count in zip(dated, await self._inspector.read(reads), strict=True):
            if count != int(expected[user].fields[name]):
                self._suspected.setdefault(user, []).append(name)
        await self._examine(list(self._suspected))

    async def _examine(self, users: list[str]) -> None:
        await self._examiner.examine(self, users)
        self._suspected.clear()

    async def strays(self, users: list[str]) -> list[str]:
        """Examine and return those of Redis's users that the record doesn't know."""
        suspects: list[str] = []
        for start in range(0, len(users), USERS_A_PAGE):
            some = users[start : start + USERS_A_PAGE]
            known = await self._examiner.bulk.known_users(self._workspace, [decode_id(user) for user in some])
            unknown = [user for user in some if decode_id(user) not in known]
            hashes = await self._inspector.read_hashes([key_names.user(self._w, user) for user in unknown])
            self._suspected = {user: list(pair_up(flat)) for user, flat in zip(unknown, hashes, strict=True)}
            await self._examine(unknown)
            suspects += unknown
        return suspects

    def items(self, thing: str) -> Sequence[Item]:
        """Its suspected fields, and how many members the sets of ends have that some of these count."""
        fields = self._fields(thing)
        sets = [Item("n", self._ends(thing, name)) for name in fields if name[0] == "x"]
        return [*(Item("h", key_names.user(self._w, thing), name) for name in fields), *sets]

    def _fields(self, user: str) -> list[str]:
        return list(dict.fromkeys(self._suspected[user]))[: ITEMS_A_RUN // 2]

    def _ends(self, user: str, field: str) -> str:
        return key_names.ends_of_user(self._w, field[1:], user)

    async def fetch_expected(self, at: EventId, things: Sequence[str]) -> dict[str, RecordedUser]:
        users = [decode_id(thing) for thing in things]
        return _group_by_user(await record.users(self._pool, self._partition, self._workspace, at, users))

    def find_difference(
        self, thing: str, expected: dict[str, RecordedUser], snapshot: Snapshot, values: Sequence[Any]
    ) -> Difference | UndecidableNow | None:
        recorded, names = expected.get(thing, RecordedUser({}, 0)), self._fields(thing)
        if recorded.version > snapshot.config:
            return UNDECIDABLE_NOW
        stored = dict(zip(names, values, strict=False))
        wanted = {name: value for name in names if (value := recorded.fields.get(name, "0")) != "0"}
        unlike = [name for name in names if (stored[name] or "0") != wanted.get(name, "0")]
        counts = zip((name for name in names if name[0] == "x"), values[len(names) :], strict=True)
        surplus = [self._ends(thing, name) for name, count in counts if count > int(wanted.get(name, "0"))]
        if not unlike and not surplus:
            return None
        classes: list[Class] = []
        if surplus or unlike != ["cap"]:
            classes.append("user_counts")
        if "cap" in unlike:
            classes.append("user_cap")
        key = key_names.user(self._w, thing)
        writes = [Write("t", name, "", "zset", None) for name in surplus]
        writes += [Write("h", key, name, stored[name], wanted.get(name)) for name in unlike]
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
