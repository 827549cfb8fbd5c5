"""A second Redis, built from the record alone, and compared with the live one by kind of key."""

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import asyncpg
import hiredis
import msgspec

from service.formats.coupon_record import IDLE, UNLOCKED, parse_coupon_record
from service.formats.directory_entry import NOT_FREE
from service.formats.event_id import START
from service.formats.idempotency_entry import parse_entry
from service.formats.key_names import Key
from service.formats.mending_mark import WHOLE
from service.formats.order_entries import is_nothing
from service.hot.connection import Connection
from service.hot.decider import is_wrong_type
from service.hot.redis_server import Server
from service.hot.scripts import MENDING, Scripts
from service.record.config.retirements import read_step
from service.record.partitions.partition_rows import Partition, read_partition, read_partitions
from service.worker.restorer import Restorer
from service.worker.server_watch import SharedRedis

EPOCH = 10**12
"""The built Redis's epoch, which no partition has. A service that uses it rebuilds it whole."""
ROUNDS, PAUSE_S = 20, 0.2
MAX_UNLIKE = 100_000
_READ: dict[str, tuple[Any, ...]] = {"s": ("ZRANGE", 0, -1, "WITHSCORES")}
_READ["i"] = ("GETRANGE", 0, 4095)  # an answer that refers to events is shorter; of others nothing is compared
_READ |= dict.fromkeys("wbc", ("GET",)) | dict.fromkeys("xdogun", ("HGETALL",))
KINDS = {
    "w": "settings", "b": "settings", "x": "settings", "d": "directory", "c": "coupons", "s": "standing redemptions",
    "o": "orders and counts of users", "g": "gifts", "u": "users", "n": "counters", "i": "idempotency keys",
}  # fmt: skip
"""Kinds of keys that follow from the record. Locks are Redis's own; pools follow from the directory."""
WRONG_TYPE = "wrong type"
"""The value of a key of a wrong type."""


class BuildRejected(Exception):
    """The target can't be used; the message begins with a stable code."""


class Side(msgspec.Struct):
    """The number of a kind's keys in one Redis, and a digest that does not depend on their order."""

    keys: int = 0
    digest: int = 0

    def add(self, name: str, value: Any) -> None:
        key_digest = blake2b(repr((name, value)).encode(), digest_size=8).digest()
        self.keys, self.digest = self.keys + 1, (self.digest + int.from_bytes(key_digest)) % 2**64


class Compared(msgspec.Struct):
    """Both sides by kind, and the number of different keys by kind. The `moved` keys changed at every comparison."""

    live: dict[str, Side]
    built: dict[str, Side]
    unlike: dict[str, int]
    moved: int


async def build(target_url: str, live_url: str, pool: asyncpg.Pool) -> list[Compared]:
    """Build all partitions into an empty Redis with the recovery's code, and compare each with the live one. Raises
    BuildRejected."""
    live, target = SharedRedis(live_url, "scrip-rebuild"), SharedRedis(target_url, "scrip-rebuild")
    try:
        rows = await read_partitions(pool)
        here = [(await live.watch(row.id)).connection for row in rows]
        there = [(await target.watch(row.id)).connection for row in rows]
        if {await _run_id(one) for one in set(here)} & {await _run_id(one) for one in set(there)}:
            raise BuildRejected("target_is_live: this is the Redis that decides.")
        if any([await Server(one, 0).command("DBSIZE") for one in set(there)]):
            raise BuildRejected("target_not_empty: there is something in it.")
        steps = [await read_step(pool, row.id) for row in rows]
        twins = [_Twin(here[at], there[at], pool, row) for at, row in enumerate(rows)]
        for twin in twins:
            await twin.build()
        compared = [await twin.compare() for twin in twins]
        if any(is_moving for _, is_moving in steps) or steps != [await read_step(pool, row.id) for row in rows]:
            raise BuildRejected("book_moved: a book left Redis or returned meanwhile. Try again.")
        return compared
    finally:
        live.close()
        target.close()


async def _run_id(connection: Connection) -> str:
    return (await Server(connection, 0).info("server"))["run_id"]


class _Twin:
    """One partition.

    1. Build it as a whole rebuild does, under an unused epoch, with the gate closed.
    2. Apply what was recorded meanwhile, and compare key by key.
    3. Compare different keys again, each time after applying the new events. A key differs if the live one did not
       change meanwhile and the built one is still another.
    """

    def __init__(self, live: Connection, target: Connection, pool: asyncpg.Pool, row: Partition) -> None:
        self._pool, self._partition = pool, row.id
        self._live, self._built = Server(live, row.id), Server(target, row.id)
        self._restorer = Restorer(self._built, pool, Scripts(row.id, EPOCH, "built", MENDING, "closed"))
        self._at, self._version = START, 0

    async def build(self) -> None:
        await self._built.fence(EPOCH)
        await self._built.load(self._restorer.scripts)
        await self._restorer.mark(WHOLE)
        await self._apply_new(whole=True)
        await self._restorer.restore_retired()
        await self._restorer.fill_pools()

    async def _apply_new(self, *, whole: bool = False) -> None:
        """Apply the record after the last events that were applied; configuration first, up to a version after these
        events."""
        at = (await read_partition(self._pool, self._partition)).cursor
        version = (await read_partition(self._pool, self._partition)).config_version
        await self._restorer.configure(self._version, whole=whole)
        await self._restorer.redo(self._at, keep_mark=whole, until=at)
        await self._restorer.restore_keys(self._at)
        await self._restorer.mark("")
        self._at, self._version = at, version

    async def compare(self) -> Compared:
        await self._apply_new()
        sides = {kind: (Side(), Side()) for kind in KINDS.values()}
        unlike: set[Key] = set()
        async for keys in self._live.walk_keys(KINDS):
            for key, here, there in zip(keys, *await self._read(keys), strict=True):
                _add(sides, key, here, there)
                if here != there:
                    unlike.add(key)
        async for keys in self._built.walk_keys(KINDS):
            here = await _read(self._live, keys)
            missing = [key for key, value in zip(keys, here, strict=True) if value is None]
            for key, there in zip(missing, await _read(self._built, missing), strict=True):
                if there is not None:
                    _add(sides, key, None, there)
                    unlike.add(key)
            if len(unlike) > MAX_UNLIKE:
                raise BuildRejected(f"too_much_differs: more than {MAX_UNLIKE:,} keys.")
        still, moving = await self._compare_again(unlike)
        counted: dict[str, int] = {}
        for key in still:
            counted[KINDS[key.kind]] = counted.get(KINDS[key.kind], 0) + 1
        live, built = ({kind: pair[side] for kind, pair in sides.items()} for side in (0, 1))
        return Compared(live, built, counted, moving)

    async def _compare_again(self, unlike: set[Key]) -> tuple[set[Key], int]:
        """The keys that still differ, and how many moved each time."""
        still: set[Key] = set()
        for _ in range(ROUNDS):
            if not unlike:
                break
            keys = sorted(unlike)
            before, _ = await self._read(keys)
            await asyncio.sleep(PAUSE_S)
            await self._apply_new()
            after, there = await self._read(keys)
            values = list(zip(keys, before, after, there, strict=True))
            still |= {key for key, was, now, other in values if was == now != other}
            unlike = {key for key, was, now, _ in values if was != now}
        return still, len(unlike)

    async def _read(self, keys: Sequence[Key]) -> tuple[list[Any], list[Any]]:
        """Both sides' values."""
        return await _read(self._live, keys), await _read(self._built, keys)


def _add(sides: dict[str, tuple[Side, Side]], key: Key, *values: Any) -> None:
    for side, value in zip(sides[KINDS[key.kind]], values, strict=True):
        if value is not None:
            side.add(key.name, value)


async def _read(server: Server, keys: Sequence[Key]) -> list[Any]:
    """The keys' values, reduced to what follows from the record."""
    values: list[Any] = []
    for start in range(0, len(keys), 500):
        page = keys[start : start + 500]
        replies = await server.commands([_reading(key) for key in page])
        values += [_reduce(key.kind, _check(reply)) for key, reply in zip(page, replies, strict=True)]
    return values


def _reading(key: Key) -> tuple[Any, ...]:
    verb, *more = _READ[key.kind]
    return verb, key.name, *more


def _check(reply: Any) -> Any:
    if not isinstance(reply, hiredis.ReplyError):
        return reply
    if not is_wrong_type(reply):
        raise reply
    return WRONG_TYPE


def _reduce(kind: str, value: Any) -> Any:
    """Remove what the record can't tell: locks, the limit of a code that was locked and never used, zero counts,
    keys of requests without an event. None if nothing remains."""
    if not value:
        return None
    if kind in "wb" or value == WRONG_TYPE:
        return value
    if kind == "c":
        return _reduce_record(value)
    if kind == "i":
        return value if parse_entry(value).names_events else None
    pairs = zip(value[::2], value[1::2], strict=True)
    if kind == "d":
        return sorted((code, entry.removesuffix(NOT_FREE)) for code, entry in pairs)
    return sorted(pair for pair in pairs if pair[0] != "touched" and not is_nothing(pair[1])) or None


def _reduce_record(value: str) -> str | None:
    record = parse_coupon_record(value)
    if record is None:
        return value
    record = record._replace(lock=UNLOCKED, max_uses="-" if record.uses == "0" else record.max_uses)
    return None if record == IDLE else str(record)
