"""Reading what an open Redis holds, and setting right what isn't as recorded, with the worker's rights."""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, NamedTuple

import hiredis

from service.formats import key_names
from service.formats.coupon_state import Write
from service.formats.event_id import NO_EVENT, EventId, parse_event_id
from service.formats.gate_text import parse_gate
from service.formats.key_names import Key
from service.hot.connection import Broken, Connection
from service.hot.decider import is_wrong_type
from service.hot.redis_server import Server
from service.hot.scripts import RECONCILING, Scripts

ITEMS_A_LOOK = 480
"""So that no look keeps the server for more than about half a millisecond."""
BUCKETS_A_RUN = 200
WRONG = ["wrong type"]
"""What a look answers for a key of another type than it was asked for."""


class Item(NamedTuple):
    """One thing to read, as lua/look.lua has it."""

    kind: str
    key: str
    member: str = ""


class Seen(NamedTuple):
    """Some things at one moment: after the event `at`, with the configuration up to `config`, and some of it up to
    `newest`."""

    at: EventId
    config: int
    newest: int
    values: list[Any]


class Looker:
    """One open partition. Everything raises Fenced where the epoch is over, Broken where the connection is."""

    def __init__(self, connection: Connection, partition: int, epoch: int, nonce: str) -> None:
        self._connection = connection
        self._server = Server(connection, partition)
        self._scripts = Scripts(partition, epoch, nonce, RECONCILING)
        self.partition = partition

    async def start(self) -> None:
        """Make the scripts known."""
        await self._server.load(self._scripts)

    async def look(self, items: Sequence[Item]) -> Seen:
        """Read some things, at most ITEMS_A_LOOK."""
        gate, outbox = self._server.gate, self._server.outbox
        names = (gate, outbox, key_names.config(self.partition), key_names.newest(self.partition))
        flat = [part for item in items for part in item]
        _, last, config, newest, *values = await self._server.run(self._scripts, "look", names, flat)
        # A reply of Lua's ends nowhere early: what isn't there is null.
        return Seen(parse_event_id(last) if last else NO_EVENT, int(config), int(newest), values)

    async def repair(self, writes: Sequence[Write]) -> bool:
        """Write all of it, where all is still as it was seen; else nothing."""
        flat = [part for w in writes for part in (w.kind, w.key, w.member, _told(w.seen), _told(w.to))]
        reply = await self._server.run(self._scripts, "repair", (self._server.gate,), flat)
        return reply[1] == 1

    async def pools(self, workspace: int, book: str, buckets: Sequence[int | str], repair: bool) -> list[str]:
        """Where the free codes of a bucket are counted too low, or, where a book is named, its too high."""
        names = (self._server.gate, key_names.settings(key_names.prefix(self.partition, workspace)))
        found: list[str] = []
        while buckets:
            args = ("1" if repair else "", book, *buckets)
            _, done, *some = await self._server.run(self._scripts, "pools", names, args)
            found += some
            buckets = buckets[done:]
        return found

    async def read(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Replies to many commands, sent together; each of its own moment. One on a key of the wrong type finds nothing
        ([]): whoever looks closer gets WRONG."""
        replies: list[Any] = []
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        wanted = len(commands)
        if not wanted:
            return replies

        def take(reply: Any) -> None:
            replies.append(reply)
            if len(replies) == wanted and not done.done():
                done.set_result(None)

        if self._connection.lost:
            raise Broken
        for command in commands:
            self._connection.send(take, command)
        await done
        for place, reply in enumerate(replies):
            if is_wrong_type(reply):
                replies[place] = []
            elif isinstance(reply, Broken | hiredis.ReplyError):
                raise reply
        return replies

    async def gate_is_ours(self) -> bool:
        """Whether the gate still says this epoch, and lets scripts run."""
        return parse_gate(await self._server.read_gate()).serves(self._scripts.epoch)

    def walk_keys(self, kinds: Collection[str]) -> AsyncIterator[list[Key]]:
        """As Server.walk_keys."""
        return self._server.walk_keys(kinds)

    async def fields(self, key: str) -> AsyncIterator[list[str]]:
        """A hash's fields, some at a time."""
        at = "0"
        while True:
            (found,) = await self.read([("HSCAN", key, at, "COUNT", BUCKETS_A_RUN)])
            at, flat = found or ("0", [])
            page = flat[::2]
            for start in range(0, len(page), BUCKETS_A_RUN):
                yield page[start : start + BUCKETS_A_RUN]
            if int(at) == 0:
                return


def _told(value: str | None) -> str:
    return "-" if value is None else f"={value}"
