"""Reading what an open Redis holds, and setting right what isn't as recorded, with the worker's rights."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import hiredis

from service.domain import keys
from service.domain.drift import Write
from service.hot.connection import Broken, Connection
from service.hot.scripts import RECONCILING, Scripts
from service.hot.server import Server

ITEMS_A_LOOK = 480
"""So that no look keeps the server for more than about half a millisecond."""
BUCKETS_A_RUN = 200
SCAN_KEYS = 2000


class Item(NamedTuple):
    """One thing to read, as lua/look.lua has it."""

    kind: str
    key: str
    member: str = ""


class Seen(NamedTuple):
    """Some things at one moment: after the event `at`, with the configuration up to `config`, and some of it up to
    `newest`."""

    at: tuple[int, int]
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
        names = (gate, outbox, keys.config(self.partition), keys.newest(self.partition))
        flat = [part for item in items for part in item]
        _, last, config, newest, *values = await self._server.run(self._scripts, "look", names, flat)
        epoch, _, seq = last.partition("-")
        # A reply of Lua's ends nowhere early: what isn't there is null.
        return Seen((int(epoch or 0), int(seq or 0)), int(config), int(newest), values)

    async def repair(self, writes: Sequence[Write]) -> bool:
        """Write all of it, where all is still as it was seen; else nothing."""
        flat = [part for w in writes for part in (w.kind, w.key, w.member, _told(w.seen), _told(w.to))]
        reply = await self._server.run(self._scripts, "repair", (self._server.gate,), flat)
        return reply[1] == 1

    async def pools(self, workspace: int, book: str, buckets: Sequence[int | str], repair: bool) -> list[str]:
        """Where the free codes of a bucket are counted too low, or, where a book is named, its too high."""
        names = (self._server.gate, f"{keys.prefix(self.partition, workspace)}w")
        found: list[str] = []
        while buckets:
            args = ("1" if repair else "", book, *buckets)
            _, done, *some = await self._server.run(self._scripts, "pools", names, args)
            found += some
            buckets = buckets[done:]
        return found

    async def read(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Replies to many commands, sent together; each of its own moment."""
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
        for reply in replies:
            if isinstance(reply, Broken | hiredis.ReplyError):
                raise reply
        return replies

    async def gate_is_ours(self) -> bool:
        """Whether the gate still says this epoch, and lets scripts run."""
        epoch, _, state = (await self._server.read_gate()).partition(" ")
        return epoch == str(self._scripts.epoch) and state in ("open", "full", "behind")

    async def names(self, kinds: str) -> AsyncIterator[dict[tuple[int, str], list[str]]]:
        """The rest of the names of the workspaces' keys of some kinds (one letter each), some at a time, by workspace
        and kind; those that are made or removed meanwhile may be left out."""
        read = re.compile(rf"\{{p{self.partition}\}}:w(\d+):([{kinds}]):(.+)").fullmatch
        pattern = f"{{p{self.partition}}}:w*:[{kinds}]:*"
        at = "0"
        while True:
            at, page = await self._server.command("SCAN", at, "MATCH", pattern, "COUNT", SCAN_KEYS)
            found: dict[tuple[int, str], list[str]] = {}
            for name in filter(None, map(read, page)):
                found.setdefault((int(name[1]), name[2]), []).append(name[3])
            yield found
            if at == "0":
                return

    async def fields(self, key: str) -> AsyncIterator[list[str]]:
        """A hash's fields, some at a time."""
        at = "0"
        while True:
            at, flat = await self._server.command("HSCAN", key, at, "COUNT", BUCKETS_A_RUN)
            page = flat[::2]
            for start in range(0, len(page), BUCKETS_A_RUN):
                yield page[start : start + BUCKETS_A_RUN]
            if at == "0":
                return


def _told(value: str | None) -> str:
    return "-" if value is None else f"={value}"
