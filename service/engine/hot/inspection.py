"""Read and repair an open Redis, with the worker's rights: for comparisons, with lua/read_values.lua, repair.lua,
compare_pools.lua and sweep_locks.lua."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple, Self

import hiredis

from service.engine.formats import key_names
from service.engine.formats.coupon_state import Write
from service.engine.formats.event_id import NO_EVENT, EventId, parse_event_id
from service.engine.formats.gate_text import parse_gate
from service.engine.formats.stored_settings import parse_versions
from service.engine.hot.connection import Connection
from service.engine.hot.decider import is_wrong_type
from service.engine.hot.expired_locks import Contain, sweep_locks
from service.engine.hot.redis_server import Server
from service.engine.hot.scripts import RECONCILING, Scripts

ITEMS_A_RUN = 480
"""Bounds a run of lua/read_values.lua to about half a millisecond."""
BUCKETS_A_RUN = 200
"""Of a run of lua/compare_pools.lua, and of a hash's fields."""
WRONG = ["wrong type"]
"""The value of a key of another type than the item's."""


class Item(NamedTuple):
    """A value to read with lua/read_values.lua. Kinds are that script's; some are also those of a Write."""

    kind: str
    key: str
    member: str = ""

    def change(self, seen: str | None, to: str | None) -> Write:
        return Write(self.kind, self.key, self.member, seen, to)  # type: ignore[arg-type]


class Snapshot(NamedTuple):
    """Values at one moment: after the event `at`, with all configuration up to `config`, and some up to `newest`, which
    is not less."""

    at: EventId
    config: int
    newest: int
    values: list[Any]


class RedisInspector(Server):
    """One open partition. All methods raise Fenced after the end of the epoch, Broken if the connection breaks."""

    def __init__(self, connection: Connection, partition: int, epoch: int, nonce: str) -> None:
        super().__init__(connection, partition)
        self._scripts = Scripts(partition, epoch, nonce, RECONCILING)

    @classmethod
    def of(cls, server: Server, scripts: Scripts) -> Self:
        """A worker's own, on the same connection and in the same epoch."""
        return cls(server._connection, server.partition, scripts.epoch, scripts.nonce)  # noqa: SLF001, of its base class

    async def start(self) -> None:
        """Load the scripts."""
        await self.load(self._scripts)

    async def read_values(self, items: Sequence[Item]) -> Snapshot:
        """Read at most ITEMS_A_RUN values."""
        names = (self.gate, self.outbox, key_names.config(self.partition), key_names.newest(self.partition))
        flat = [part for item in items for part in item]
        _, last, config, newest, *values = await self.run(self._scripts, "read_values", names, flat)
        return Snapshot(parse_event_id(last) if last else NO_EVENT, *parse_versions(config, newest), values)

    async def repair(self, writes: Sequence[Write]) -> bool:
        """Apply all writes if each value is still the one that its write replaces; else none."""
        reply = await self.run(self._scripts, "repair", (self.gate,), encode_writes(writes))
        return reply[1] == 1

    async def correct_free_counts(
        self, workspace: int, book: str, buckets: Sequence[int | str], repair: bool
    ) -> list[str]:
        """Return the wrong counts of free codes in these buckets, "bucket book"; with `repair` correct them.

        Without a book these are counts of any book that are too low, with one its counts that are too high.
        """
        names = (self.gate, key_names.settings(key_names.prefix(self.partition, workspace)))
        wrong: list[str] = []
        while buckets:
            args = ("1" if repair else "", book, *buckets)
            _, done, *some = await self.run(self._scripts, "compare_pools", names, args)
            wrong += some
            buckets = buckets[done:]
        return wrong

    async def read(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands together; each reply is of its own moment. A key of the wrong type reads as []."""
        replies = await self._connection.call_each(commands)
        for index, reply in enumerate(replies):
            if is_wrong_type(reply):
                replies[index] = []
            elif isinstance(reply, hiredis.ReplyError):
                raise reply
        return replies

    async def sweep_locks(self, contain: Contain) -> None:
        """Remove expired locks, which no repair changes."""
        await sweep_locks(self, lambda _, script, names, args: self.run(self._scripts, script, names, args), contain)

    async def gate_serves_epoch(self) -> bool:
        """Whether the gate lets scripts of this epoch run."""
        return parse_gate(await self.read_gate()).serves(self._scripts.epoch)

    async def read_fields(self, key: str) -> AsyncIterator[list[str]]:
        """A hash's fields, at most BUCKETS_A_RUN at a time."""
        at = "0"
        while True:
            (reply,) = await self.read([("HSCAN", key, at, "COUNT", BUCKETS_A_RUN)])
            at, flat = reply or ("0", [])
            page = flat[::2]
            for start in range(0, len(page), BUCKETS_A_RUN):
                yield page[start : start + BUCKETS_A_RUN]
            if int(at) == 0:
                return


def encode_writes(writes: Sequence[Write]) -> list[str]:
    """The arguments of lua/repair.lua."""
    return [part for w in writes for part in (w.kind, w.key, w.member, _encode(w.seen), _encode(w.to))]


def _encode(value: str | None) -> str:
    return "-" if value is None else f"={value}"
