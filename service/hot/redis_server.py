"""What the worker does to a Redis server as a whole: check that it is fit, fence it, load scripts, open its gate."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import hiredis
import structlog

from service.common.byte_runs import RUN_BYTES
from service.domain.errors import Refusal
from service.domain.outcomes import OK
from service.formats import key_names
from service.formats.key_names import Key, parse_key
from service.hot.connection import Connection
from service.hot.decider import Reply, is_wrong_type, judged
from service.hot.fitness import Fitness, UnfitRedis, ask_history, check_server, read_info
from service.hot.scripts import Scripts, compose

PAGE_KEYS, SCAN_KEYS = 500, 4000
FIRST_ENTRIES, MOST_ENTRIES = 16, 1000
"""Of the outbox, at once; between them as many as take RUN_BYTES, by those before."""
REWRITE_S = 600.0
LOOK_S = 0.05
log = structlog.get_logger()
_epoch = re.compile(r"[0-9]{1,15}(?=[ -])").match


class Fenced(Exception):
    """The gate has this epoch or a later one, or another state than it was thought to have: someone else is at work."""


class ScriptFailed(hiredis.ReplyError):
    """A script failed on its way, perhaps after its first write. The text names script, kind of error and line, and
    nothing of what it was about."""

    def __init__(self, script: str, kind: str, line: str = "") -> None:
        super().__init__(" ".join(filter(None, (script, kind, line))))
        self.script, self.kind = script, kind

    @property
    def is_own(self) -> bool:
        """Whether the error comes again however often it is tried: it is not that the server is full, or slow."""
        return self.kind == "ERR"

    @property
    def is_wrong_type(self) -> bool:
        """Whether a key that the script needs holds another type than its kind's: a rebuild removes it."""
        return self.kind == "WRONGTYPE"


_NOT_OURS = frozenset("NOSCRIPT READONLY LOADING MASTERDOWN MOVED ASK CLUSTERDOWN NOREPLICAS NOAUTH NOPERM".split())
"""Kinds of errors of a server that is not ours to use, or not now."""


class Server:
    """One partition on one connection that doesn't reconnect. Calls raise Broken when it breaks."""

    def __init__(self, connection: Connection, partition: int) -> None:
        self._connection = connection
        self.partition = partition
        self.gate = key_names.gate(partition)
        self.outbox = key_names.outbox(partition)

    async def command(self, *command: Any) -> Any:
        """A command's reply; raises hiredis.ReplyError."""
        reply = await self._connection.call(*command)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    async def fitness(self) -> Fitness:
        """What the server says of itself."""
        return await check_server(self._connection.call)

    async def check(self) -> Fitness:
        """As fitness. Raises UnfitRedis where the server may not decide."""
        found = await self.fitness()
        if found.unfit:
            raise UnfitRedis(found.unfit)
        return found

    async def wrong_types(self) -> list[Key]:
        """The partition's own keys that hold another type than theirs: nothing can read them, and it must be opened
        anew. None of them where Redis's user may not ask (deploy/redis-acl)."""
        own = [Key(self.partition, 0, kind) for kind in key_names.OWN]
        try:
            types = await self.types(own)
        except hiredis.ReplyError as error:
            if str(error).startswith("NOPERM"):
                return []
            raise
        return [key for key, found in zip(own, types, strict=True) if found not in (key.type, "none")]

    async def types(self, some: Sequence[Key]) -> list[str]:
        """What Redis holds each as; `none` for what isn't there. Raises hiredis.ReplyError."""
        return list(await asyncio.gather(*(self.command("TYPE", key.name) for key in some)))

    async def drop_wrong(self, epoch: int, wrong: Sequence[Key]) -> None:
        """Remove those of them that still do, for an epoch that is to be opened. Raises Fenced."""
        text = compose("drop_wrong", self.partition, epoch, "")
        words = [word for key in wrong for word in (key.name, key.type)]
        reply = await self.command("EVAL", text, 1, self.gate, epoch, *words)
        if reply[0] != OK:
            raise Fenced(f"the gate says {reply[1]!r}")

    async def read_gate(self) -> str:
        """The gate's text; '' for none."""
        return await self.command("GET", self.gate) or ""

    async def newest_epoch(self) -> int:
        """The newest epoch that gate or outbox know of; 0 where there is none, or they are of another type."""
        texts = [(await self.command("MGET", self.gate))[0] or ""]
        try:
            texts.append(await self.tail())
        except hiredis.ReplyError as error:
            if not is_wrong_type(error):
                raise
        return max(int(found[0]) if (found := _epoch(text)) else 0 for text in texts)

    async def tail(self) -> str:
        """The id of the last event in the outbox; '' for none."""
        top = await self.command("XREVRANGE", self.outbox, "+", "-", "COUNT", 1)
        return top[0][0] if top else ""

    async def fence(self, epoch: int) -> str:
        """Close the gate for the epoch and begin it in the outbox; what the gate said before. Raises Fenced."""
        text = compose("fence", self.partition, epoch, "")
        reply = await self.command("EVAL", text, 2, self.gate, self.outbox, epoch)
        if reply[0] != OK:
            raise Fenced(f"the gate says {reply[1]!r}")
        return reply[1]

    async def move_gate(self, was: str, becomes: str) -> None:
        """Change the gate's text. Raises Fenced where it isn't what it was thought to be."""
        text = compose("set_gate", self.partition, 0, "")
        reply = await self.command("EVAL", text, 1, self.gate, was, becomes)
        if reply[0] != OK:
            raise Fenced(f"the gate says {reply[1]!r}")

    async def load(self, scripts: Scripts) -> None:
        """Make the scripts known to the server."""
        for text in scripts.texts.values():
            await self.command("SCRIPT", "LOAD", text)

    async def has(self, scripts: Scripts) -> bool:
        """Whether the server knows all of the scripts."""
        return all(await self.command("SCRIPT", "EXISTS", *scripts.digests.values()))

    async def run(self, scripts: Scripts, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        """Run a loaded script. Raises Fenced where the gate no longer lets it, or the server is not ours; else
        ScriptFailed."""
        reply = await self._connection.call("EVALSHA", scripts.digests[script], len(names), *names, *args)
        if isinstance(reply, hiredis.ReplyError):
            raise _failure(script, reply)
        try:
            return judged(reply)
        except Refusal as refusal:
            raise Fenced(refusal.code) from None

    async def rewrite_file(self) -> None:
        """Have the server write its append-only file anew, where it has one, from what it has in memory, and wait for
        it. Raises UnfitRedis where it can't."""
        deadline = time.monotonic() + REWRITE_S
        asked = False
        while time.monotonic() < deadline:
            info = await self.info("persistence")
            if info["aof_enabled"] == "0":
                return
            if (info["aof_rewrite_in_progress"], info["aof_rewrite_scheduled"]) != ("0", "0"):
                await asyncio.sleep(LOOK_S)
            elif not asked:
                asked = True
                await self.command("BGREWRITEAOF")
            elif info["aof_last_bgrewrite_status"] == "ok":
                return
            else:
                break
        raise UnfitRedis("Redis can't write its append-only file anew: see its log, and whether its disk is full.")

    async def info(self, section: str) -> dict[str, str]:
        """What the server says of itself."""
        return read_info(await self.command("INFO", section))

    async def read_mark(self) -> str:
        """How far the mending is that somebody began; '' where nothing is to be mended."""
        return await self.command("GET", key_names.mend(self.partition)) or ""

    async def is_of_this_layout(self) -> bool:
        """Whether its keys are named and hold what this version of the service knows."""
        return (await self.command("MGET", key_names.layout(self.partition)))[0] == key_names.LAYOUT

    async def trim(self, epoch: int) -> None:
        """Drop from the outbox all that was before an epoch."""
        await self.command("XTRIM", self.outbox, "MINID", "=", f"{epoch}-0")

    async def history(self) -> tuple[str, bool]:
        """What tells this server's data from another's (`master_replid`), and whether that may change while it runs:
        there are replicas, or it was one."""
        return await ask_history(self._connection.call)

    async def entries(self) -> AsyncIterator[tuple[str, dict[str, str]]]:
        """All of the outbox, oldest first: id and fields."""
        start, count = "-", FIRST_ENTRIES
        while page := await self.command("XRANGE", self.outbox, start, "+", "COUNT", count):
            for entry_id, flat in page:
                yield entry_id, dict(zip(flat[::2], flat[1::2], strict=True))
            start = f"({page[-1][0]}"
            bytes_each = 1 + sum(len(text) for _, flat in page for text in flat) // len(page)
            count = max(1, min(MOST_ENTRIES, RUN_BYTES // bytes_each))

    async def entries_backwards(self) -> AsyncIterator[tuple[str, dict[str, str]]]:
        """All of the outbox, newest first: id and fields."""
        end = "+"
        while page := await self.command("XREVRANGE", self.outbox, end, "-", "COUNT", 100):
            for entry_id, flat in page:
                yield entry_id, dict(zip(flat[::2], flat[1::2], strict=True))
            end = f"({page[-1][0]}"

    async def owned_names(self) -> AsyncIterator[list[str]]:
        """The names of all of the partition's keys but gate, outbox and mark, whatever layout they are of, some hundred
        at a time; one may come twice."""
        kept = (self.gate, self.outbox, key_names.mend(self.partition))
        async for page in self._names():
            yield [name for name in page if name not in kept]

    async def walk_keys(self, kinds: Collection[str], workspace: int | None = None) -> AsyncIterator[list[Key]]:
        """The workspaces' keys of some kinds, or one workspace's, some hundred at a time; one may come twice, and one
        that is made or removed meanwhile may be left out. What a name is, its parser says: no pattern ends in what a
        client may have written."""
        async for page in self._names():
            found = [key for key in map(parse_key, page) if key and key.workspace and key.kind in kinds]
            if page := [key for key in found if workspace in (None, key.workspace)]:
                yield page

    async def _names(self) -> AsyncIterator[list[str]]:
        at, ours = "0", f"{key_names.partition_prefix(self.partition)}*"
        while True:
            at, page = await self.command("SCAN", at, "MATCH", ours, "COUNT", SCAN_KEYS)
            for start in range(0, len(page), PAGE_KEYS):
                yield page[start : start + PAGE_KEYS]
            if int(at) == 0:
                return


def _failure(script: str, error: hiredis.ReplyError) -> Exception:
    """What an error of a script's run means."""
    kind = str(error).partition(" ")[0]
    if kind in _NOT_OURS:
        return Fenced(kind)
    line = re.search(r"user_script:\d+", str(error))
    failed = ScriptFailed(script, kind if kind.isupper() else "ERR", line[0] if line else "")
    event = "script_failed" if failed.is_own or failed.is_wrong_type else "redis_error"  # full or slow: it comes back
    log.error(event, script=script, kind=failed.kind, line=line[0] if line else "")
    return failed
