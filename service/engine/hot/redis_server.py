"""The worker's operations on a Redis server: check its fitness, fence it, load scripts, open its gate.

`scrip doctor`, `recover` and `reconcile` use it, too; doctor only reads.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, Literal

import hiredis
import structlog

from service.common.byte_runs import RUN_BYTES
from service.common.tracebacks import find_missing_right
from service.engine.domain.errors import Refusal
from service.engine.domain.outcomes import OK
from service.engine.formats import key_names
from service.engine.formats.event_id import EventId, parse_event_id
from service.engine.formats.events import Parts, split_entry
from service.engine.formats.key_names import Key, parse_key
from service.engine.hot.cluster import Report
from service.engine.hot.connection import Connection, ask_report
from service.engine.hot.decider import REDIRECTIONS, Reply, interpret_reply, is_wrong_type, kind_of, script_line
from service.engine.hot.fitness import Fitness, Replication, UnfitRedis, ask_replication, check_server, read_info
from service.engine.hot.scripts import Scripts, compose

PAGE_KEYS, SCAN_KEYS = 500, 4000
FIRST_ENTRIES, MOST_ENTRIES = 16, 1000
"""Bounds of a page of the outbox. Between them its size is about RUN_BYTES, estimated from the previous page."""
LOADS_AT_ONCE = 8
"""Scripts that go out together to a server that serves others: it compiles each for a millisecond or two."""
REWRITE_S = 600.0
"""The longest that rewriting the append-only file may take."""
FIELDS_A_READ = 1000
LOOK_S, BUSY_S = 0.05, 0.01
"""Between two looks at a rewrite that is under way, and before asking again for one."""
log = structlog.get_logger()
_epoch = re.compile(r"[0-9]{1,15}(?=[ -])").match


class Fenced(Exception):
    """The gate has this or a later epoch, or an unexpected state: another worker is active."""


class ScriptFailed(hiredis.ReplyError):
    """A script failed, perhaps after its first write. The text has script, kind of error and line, but no data."""

    def __init__(self, script: str, kind: str, line: str) -> None:
        super().__init__(" ".join(filter(None, (script, kind, line))))
        self.script, self.kind = script, kind

    @property
    def is_own(self) -> bool:
        """Whether the error is permanent, in the script, and not a full or slow server."""
        return self.kind == "ERR"

    @property
    def is_wrong_type(self) -> bool:
        """Whether a key has another type than its kind's; a rebuild removes it."""
        return self.kind == "WRONGTYPE"


_NOT_OURS = REDIRECTIONS | frozenset("NOSCRIPT READONLY LOADING MASTERDOWN NOREPLICAS NOAUTH".split())
"""Errors of a server that this worker must not use, or not now."""


class Server:
    """One partition on one connection, without reconnecting. All methods raise Broken if it breaks."""

    def __init__(self, connection: Connection, partition: int) -> None:
        self._connection = connection
        self.partition = partition
        self.gate = key_names.gate(partition)
        self.outbox = key_names.outbox(partition)

    async def command(self, *command: Any) -> Any:
        """Run a command. Raises hiredis.ReplyError."""
        reply = await self._connection.call(*command)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    async def commands(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run commands together; hiredis's errors are among the replies."""
        return await self._connection.call_each(commands)

    async def read_hashes(self, names: Sequence[str]) -> list[list[str]]:
        """The fields and values of each of these hashes; nothing of a key of another type.

        A large one is read a part at a time, so that no full bucket blocks others: a field may come twice, and parts
        are of different moments.
        """
        hashes: list[list[str]] = [[] for _ in names]
        cursors = dict.fromkeys(range(len(names)), "0")
        while cursors:
            scans = [("HSCAN", names[index], at, "COUNT", FIELDS_A_READ) for index, at in cursors.items()]
            for index, reply in zip(list(cursors), await self.commands(scans), strict=True):
                if isinstance(reply, hiredis.ReplyError):
                    if kind_of(reply) != "WRONGTYPE":
                        raise reply
                    cursors[index] = "0"
                else:
                    cursors[index] = reply[0]
                    hashes[index] += reply[1]
            cursors = {index: at for index, at in cursors.items() if int(at)}
        return hashes

    async def fitness(self) -> Fitness:
        return await check_server(self._connection.call)

    async def check(self) -> Fitness:
        """As fitness. Raises UnfitRedis if the server is unfit."""
        fitness = await self.fitness()
        if fitness.unfit:
            raise UnfitRedis(fitness.unfit)
        return fitness

    async def wrong_types(self) -> list[Key]:
        """The partition's own keys with a wrong type; they require a new opening.

        Empty if Redis's user may not run TYPE (deploy/redis-acl).
        """
        own = [Key(self.partition, 0, kind) for kind in key_names.OWN]
        try:
            types = await self.types(own)
        except hiredis.ReplyError as error:
            if str(error).startswith("NOPERM"):
                return []
            raise
        return [key for key, type_ in zip(own, types, strict=True) if type_ not in (key.type, "none")]

    async def types(self, some: Sequence[Key]) -> list[str]:
        """The keys' types; `none` for a missing key. Raises hiredis.ReplyError."""
        return list(await asyncio.gather(*(self.command("TYPE", key.name) for key in some)))

    async def delete_wrong_types(self, epoch: int, wrong: Sequence[Key]) -> None:
        """Delete those of these keys that still have a wrong type. Raises Fenced."""
        await self._run_unloaded(
            "drop_wrong", epoch, 1, epoch, *(part for key in wrong for part in (key.name, key.type))
        )

    async def read_gate(self) -> str:
        return await self.command("GET", self.gate) or ""

    async def newest_epoch(self) -> int:
        """The newest epoch in gate and outbox; 0 if they are missing or of the wrong type."""
        texts = [(await self.command("MGET", self.gate))[0] or ""]
        try:
            texts.append(await self.tail())
        except hiredis.ReplyError as error:
            if not is_wrong_type(error):
                raise
        return max(int(match[0]) if (match := _epoch(text)) else 0 for text in texts)

    async def tail(self) -> str:
        """The id of the last event in the outbox; '' for none."""
        top = await self.command("XREVRANGE", self.outbox, "+", "-", "COUNT", 1)
        return top[0][0] if top else ""

    async def fence(self, epoch: int) -> str:
        """Close the gate for the epoch and begin it in the outbox. Returns the gate's old text. Raises Fenced."""
        return await self._run_unloaded("fence", epoch, 2, epoch)

    async def move_gate(self, was: str, becomes: str) -> None:
        """Change the gate's text. Raises Fenced if it isn't `was`."""
        await self._run_unloaded("set_gate", 0, 1, was, becomes)

    async def _run_unloaded(self, script: str, epoch: int, keys: int, *args: Any) -> Any:
        reply = await self.command("EVAL", compose(script, ""), keys, *(self.gate, self.outbox)[:keys], *args, epoch)
        if reply[0] != OK:
            raise Fenced(f"the gate is {reply[1]!r}")
        return reply[1]

    async def load(self, scripts: Scripts, at_once: int = LOADS_AT_ONCE) -> None:
        """Load those that are missing, so many at once."""
        loaded = await self.command("SCRIPT", "EXISTS", *scripts.digests.values())
        missing = [text for text, has in zip(scripts.texts.values(), loaded, strict=True) if not has]
        for start in range(0, len(missing), at_once):
            some = missing[start : start + at_once]
            await asyncio.gather(*(self.command("SCRIPT", "LOAD", text) for text in some))

    async def has(self, scripts: Scripts) -> bool:
        """Whether all scripts are loaded."""
        return all(await self.command("SCRIPT", "EXISTS", *scripts.digests.values()))

    async def run(self, scripts: Scripts, script: str, names: Sequence[str], args: Sequence[Any]) -> Reply:
        """Run a loaded script. Raises Fenced if gate or server no longer allow it, and ScriptFailed."""
        reply = await self._connection.call(*scripts.call(script, names, args))
        if isinstance(reply, hiredis.ReplyError):
            raise _failure(script, reply)
        try:
            return interpret_reply(reply)
        except Refusal as refusal:
            raise Fenced(refusal.code) from None

    async def run_all(
        self, scripts: Scripts, runs: Sequence[tuple[str, Sequence[str], Sequence[str]]]
    ) -> list[Reply | Refusal]:
        """Run (script, names, args) of requests, in one write. Returns refusals in place of replies: `internal` if the
        script failed. Raises Fenced and ScriptFailed as run."""
        replies = await asyncio.gather(*(self._connection.call(*scripts.call(*run)) for run in runs))
        return [_interpret_request(script, reply) for (script, _, _), reply in zip(runs, replies, strict=True)]

    async def must_log(self) -> bool:
        """Whether all writes must be logged: the server has an append-only file, or may have one, and does not let this
        user rewrite it, as managed servers don't. The only way to find out is to start a rewrite."""
        if not (await self.fitness()).shows_settings:
            return True
        has_file = (await self.info("persistence")).get("aof_enabled") != "0"
        return has_file and await self._start_rewrite() == "refused"

    async def _start_rewrite(self) -> Literal["started", "busy", "refused"]:
        """`busy`: another task is under way. It may be the rewrite of another partition's opening, which may lack what
        this one has written. Redis's errors of that kind name the background."""
        try:
            await self.command("BGREWRITEAOF")
        except hiredis.ReplyError as error:
            return "busy" if "background" in str(error).lower() else "refused"
        return "started"

    async def rewrite_file(self, *, joins: bool = False) -> bool:
        """Rewrite the server's append-only file, if it has one, and wait. False if the server refuses to. Raises
        UnfitRedis if that fails. If it `joins`, a rewrite that is under way counts, and nothing of this partition need
        be in it."""
        deadline = time.monotonic() + REWRITE_S
        asked = False
        while time.monotonic() < deadline:
            info = await self.info("persistence")
            if info.get("aof_enabled") == "0":
                return True
            if (info["aof_rewrite_in_progress"], info["aof_rewrite_scheduled"]) != ("0", "0"):
                asked = asked or joins
                await asyncio.sleep(LOOK_S)
            elif not asked:
                match await self._start_rewrite():
                    case "refused":
                        return False
                    case "busy":
                        await asyncio.sleep(BUSY_S)
                    case "started":
                        asked = True
            elif info["aof_last_bgrewrite_status"] == "ok":
                return True
            else:
                break
        raise UnfitRedis("Redis can't write its append-only file anew: see its log, and whether its disk is full.")

    async def info(self, section: str) -> dict[str, str]:
        return read_info(await self.command("INFO", section))

    async def read_mark(self) -> str:
        """The progress of a recovery (service/engine/formats/recovery_progress.py); '' if none is under way."""
        return await self.command("GET", key_names.mend(self.partition)) or ""

    async def is_of_this_layout(self) -> bool:
        """Whether the keys have this version's layout."""
        return (await self.command("MGET", key_names.layout(self.partition)))[0] == key_names.LAYOUT

    async def trim(self, epoch: int) -> None:
        """Remove all entries before an epoch from the outbox."""
        await self.command("XTRIM", self.outbox, "MINID", "=", f"{epoch}-0")

    async def replication(self) -> Replication:
        return await ask_replication(self._connection.call)

    async def report(self) -> Report | None:
        return await ask_report(self._connection)

    async def entries(self, *, newest_first: bool = False) -> AsyncIterator[tuple[EventId, Parts]]:
        """The outbox's entries, id and parts, by default the oldest first."""
        command, start, end = ("XREVRANGE", "+", "-") if newest_first else ("XRANGE", "-", "+")
        count = FIRST_ENTRIES
        while page := await self.command(command, self.outbox, start, end, "COUNT", count):
            for entry_id, flat in page:
                yield parse_event_id(entry_id), split_entry([text.encode() for text in flat])
            start = f"({page[-1][0]}"
            bytes_each = 1 + sum(len(text) for _, flat in page for text in flat) // len(page)
            count = max(1, min(MOST_ENTRIES, RUN_BYTES // bytes_each))

    async def owned_names(self) -> AsyncIterator[list[str]]:
        """Pages of the partition's key names of any layout, without gate, outbox and mark. A name may come twice."""
        kept = (self.gate, self.outbox, key_names.mend(self.partition))
        async for page in self.names(key_names.partition_prefix(self.partition)):
            yield [name for name in page if name not in kept]

    async def walk_keys(self, kinds: Collection[str]) -> AsyncIterator[list[Key]]:
        """Pages of the keys of some kinds, of all workspaces.

        A key may come twice; a key that is made or removed during it may be missing. Keys are matched by parse_key, not
        by pattern, because clients' texts are part of names.
        """
        async for page in self.names(key_names.partition_prefix(self.partition)):
            if matches := [key for key in map(parse_key, page) if key and key.workspace and key.kind in kinds]:
                yield matches

    async def walk_keys_of(self, workspace: int, kind: str) -> AsyncIterator[list[Key]]:
        """Pages of a workspace's keys of a kind, as walk_keys: Redis skips all other names."""
        async for page in self.names(f"{key_names.prefix(self.partition, workspace)}{kind}:"):
            if matches := [key for key in map(parse_key, page) if key]:
                yield matches

    async def names(self, prefix: str) -> AsyncIterator[list[Any]]:
        """Pages of the names that begin so, as the connection decodes them. A prefix has nothing of a client's text. A
        name may come twice; a key that is made or removed during it may be missing."""
        at: Any = 0
        while True:
            at, page = await self.command("SCAN", at, "MATCH", f"{prefix}*", "COUNT", SCAN_KEYS)
            for start in range(0, len(page), PAGE_KEYS):
                yield page[start : start + PAGE_KEYS]
            if int(at) == 0:
                return


def _interpret_request(script: str, reply: Any) -> Reply | Refusal:
    """The reply of a request's script, or its refusal. Raises Fenced and ScriptFailed for errors of the server."""
    if isinstance(reply, hiredis.ReplyError):
        if kind_of(reply) not in ("ERR", "WRONGTYPE"):
            raise _failure(script, reply)  # a full server, or one that is not ours
        return Refusal("internal")
    try:
        return interpret_reply(reply)
    except Refusal as refusal:
        return refusal


def _failure(script: str, error: hiredis.ReplyError) -> Exception:
    """The exception for an error of a script."""
    kind = kind_of(error)
    if kind in _NOT_OURS:
        return Fenced(kind)
    line = script_line(error)
    if command := find_missing_right(error):
        log.error("redis_right_missing", command=command)
        return ScriptFailed(script, f"NOPERM {command}", line)
    failed = ScriptFailed(script, kind if kind.isupper() else "ERR", line)
    is_ours = failed.is_own or failed.is_wrong_type  # else such as a full server
    log.error("script_failed" if is_ours else "redis_error", script=script, kind=failed.kind, line=line)
    return failed
