"""What users have: coupons by book, those that end by themselves, and caps."""

from collections.abc import Callable, Sequence
from contextlib import aclosing
from itertools import groupby
from typing import Any, NamedTuple

from service.access.actor import mask
from service.domain.field_types import decode_id
from service.formats import key_names
from service.formats.coupon_state import About, Class, Difference, Write
from service.formats.event_id import EventId
from service.hot.inspection import Item, Seen
from service.reconcile.examination import LATER, Examiner, Later
from service.record.partitions import comparisons as record

USERS_A_PAGE = 500


class Told(NamedTuple):
    """What the record says of a user: its hash's fields, and the version of its cap."""

    fields: dict[str, str]
    version: int


_NOTHING = Told({}, 0)


class Users:
    """One workspace's. The record's users come in order, as of one cut, and their hashes are read some hundred at a
    time beside them; those that Redis alone has are `strays`."""

    at_once = 1
    """One user may have coupons of thousands of books."""

    def __init__(self, examiner: Examiner) -> None:
        self._examiner, self._looker = examiner, examiner.looker
        self._workspace, self._partition = examiner.workspace, examiner.partition
        self._w = key_names.prefix(self._partition, self._workspace)

    async def compare(self, done: Callable[[int], None]) -> None:
        """All of them; `done`, which counts codes and orders, hears nothing."""
        del done
        cut = await self._examiner.cut()
        about = (self._partition, self._workspace, *cut.at)
        async with (
            self._examiner.pool.acquire() as connection,
            aclosing(record.stream(connection, "users_in_order", *about, None, None)) as rows,
        ):
            page: list[Any] = []
            async for some in rows:
                page += some
                owners = sorted({row[0] for row in page})
                # The last one may go on in the next rows.
                while len(owners) > USERS_A_PAGE:
                    end = owners[USERS_A_PAGE]
                    at = next(place for place, row in enumerate(page) if row[0] == end)
                    await self._page(page[:at])
                    page, owners = page[at:], owners[USERS_A_PAGE:]
            await self._page(page)

    async def _page(self, rows: list[Any]) -> None:
        said = _told([tuple(row) for row in rows])
        found = await self._looker.read([("HGETALL", key_names.user(self._w, user)) for user in said])
        suspects = [
            user
            for (user, told), flat in zip(said.items(), found, strict=True)
            if _counted(told.fields) != _counted(dict(zip(flat[::2], flat[1::2], strict=True)))
        ]
        if suspects:
            await self._examiner.examine(self, suspects)

    async def strays(self, users: list[str]) -> list[str]:
        """Users of whom Redis keeps something: those that the record doesn't know are suspected, and returned."""
        suspects: list[str] = []
        for start in range(0, len(users), USERS_A_PAGE):
            some = users[start : start + USERS_A_PAGE]
            known = await record.known_users(self._examiner.pool, self._workspace, [decode_id(user) for user in some])
            if strange := [user for user in some if decode_id(user) not in known]:
                await self._examiner.examine(self, strange)
                suspects += strange
        return suspects

    def items(self, thing: str) -> Sequence[Item]:
        """See Kind."""
        return [Item("H", key_names.user(self._w, thing))]

    async def said(self, at: EventId, things: Sequence[str]) -> dict[str, Told]:
        """See Kind."""
        users = [decode_id(thing) for thing in things]
        return _told(await record.users(self._examiner.pool, self._partition, self._workspace, at, users))

    def judge(self, thing: str, said: dict[str, Told], seen: Seen, values: Sequence[Any]) -> Difference | Later | None:
        """See Kind."""
        told, flat = said.get(thing, _NOTHING), values[0]
        if told.version > seen.config:
            return LATER
        found = dict(zip(flat[::2], flat[1::2], strict=True))
        here, expected = _counted(found), _counted(told.fields)
        unlike = [name for name in sorted(here.keys() | expected.keys()) if here.get(name) != expected.get(name)]
        if not unlike:
            return None
        classes: list[Class] = []
        if unlike != ["cap"]:
            classes.append("user_counts")
        if "cap" in unlike:
            classes.append("user_cap")
        writes = [
            Write("h", key_names.user(self._w, thing), name, found.get(name), expected.get(name)) for name in unlike
        ]
        unsafe = "" if len(writes) <= 100 else "too much of it differs"
        return Difference(tuple(classes), f"user {mask(thing)}", writes, unsafe, (About("user", thing),))


def _told(rows: list[tuple[str, str, str, int]]) -> dict[str, Told]:
    """What is said of each, from rows in order of the users."""
    found: dict[str, Told] = {}
    for user, some in groupby(rows, key=lambda row: row[0]):
        mine = list(some)
        found[user] = Told({row[1]: row[2] for row in mine}, max(row[3] for row in mine))
    return found


def _counted(fields: dict[str, str]) -> dict[str, str]:
    """Without counts of nothing."""
    return {name: said for name, said in fields.items() if said != "0"}
