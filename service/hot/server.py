"""What the worker does to a Redis server as a whole: check that it is fit, fence it, load scripts, open its gate."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import hiredis
import structlog

from service.domain import keys
from service.domain.errors import Refusal
from service.domain.outcomes import OK
from service.hot.connection import Connection
from service.hot.deciding import Reply, judged
from service.hot.scripts import Scripts, compose

MIN_VERSION = (7, 0)
"""The first with `<epoch>-*` as an id for XADD."""
SCAN_KEYS = 500

log = structlog.get_logger()


class UnfitRedis(Exception):
    """This server may lose or forget what it answered; the message says what to change."""


class Fenced(Exception):
    """The gate has this epoch or a later one, or another state than it was thought to have: someone else is at work."""


class Server:
    """One partition on one connection that doesn't reconnect. Calls raise Broken when it breaks."""

    def __init__(self, connection: Connection, partition: int) -> None:
        self._connection = connection
        self.partition = partition
        self.gate = keys.gate(partition)
        self.outbox = keys.outbox(partition)

    async def command(self, *command: Any) -> Any:
        """A command's reply; raises hiredis.ReplyError."""
        reply = await self._connection.call(*command)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    async def check(self) -> None:
        """Raise UnfitRedis where the server is too old, evicts, or skips syncs while it rewrites its file."""
        info = await self.command("INFO", "server")
        found = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        version = found.get("redis_version", "0.0")
        if tuple(map(int, version.split(".")[:2])) < MIN_VERSION:
            raise UnfitRedis(f"Redis {version} is too old: 7.0 or newer is needed, or any Valkey.")
        settings = await self._settings()
        if settings.get("maxmemory", "0") != "0" and settings.get("maxmemory-policy") != "noeviction":
            raise UnfitRedis("Redis may evict coupons: set maxmemory-policy to noeviction.")
        if settings.get("appendonly") == "yes" and settings.get("no-appendfsync-on-rewrite") == "yes":
            raise UnfitRedis("Redis doesn't sync while it rewrites its file: set no-appendfsync-on-rewrite to no.")

    async def _settings(self) -> dict[str, str]:
        try:
            flat: list[str] = []
            for pattern in ("maxmemory*", "*append*"):
                flat += await self.command("CONFIG", "GET", pattern)
        except hiredis.ReplyError:
            log.warning("redis_settings_hidden", partition=self.partition)
            return {}
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def read_gate(self) -> str:
        """The gate's text; '' for none."""
        return await self.command("GET", self.gate) or ""

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
        """Run a loaded script. Raises Fenced where the gate no longer lets it."""
        reply = await self._connection.call("EVALSHA", scripts.digests[script], len(names), *names, *args)
        try:
            return judged(reply)
        except Refusal as refusal:
            raise Fenced(refusal.code) from None

    async def entries(self) -> AsyncIterator[tuple[str, list[str]]]:
        """All of the outbox, oldest first: id, and fields with their values by turns."""
        start = "-"
        while page := await self.command("XRANGE", self.outbox, start, "+", "COUNT", 1000):
            for entry in page:
                yield entry[0], entry[1]
            start = f"({page[-1][0]}"

    async def owned_keys(self) -> AsyncIterator[list[str]]:
        """All of the partition's keys but gate and outbox, some hundred at a time."""
        at = "0"
        while True:
            at, page = await self.command("SCAN", at, "MATCH", f"{{p{self.partition}}}:*", "COUNT", SCAN_KEYS)
            page = [name for name in page if name not in (self.gate, self.outbox)]
            for start in range(0, len(page), SCAN_KEYS):
                yield page[start : start + SCAN_KEYS]
            if at == "0":
                return
