"""Messages among API processes about changes of keys and limits, on a channel of Redis (decision 0073): for
configuration_writes.py and wiring.py. CHANNEL is also in deploy/redis-acl and deploy/aws/servers.yaml."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any

import structlog

from service.common.redis_address import parse_redis_address
from service.engine.domain.errors import Refusal
from service.engine.hot.decider import Decider
from service.engine.hot.discovery import CONNECT_S, ask, locate, open_client

CHANNEL = "scrip:keys"
PAUSE_S = 0.5
"""Before a new connection."""
POLL_S = 0.2
"""Between two comparisons of the subscription with the process's other connection."""

log = structlog.get_logger()


class KeyMessages:
    """One for each API process.

    1. A process that has changed keys in Postgres sends an empty message. `changed` is then set in every process.
    2. Each process reads the keys and sends its id and the version that it has read.
    3. The first process waits until every living process has read its version.

    All messages may get lost: processes also read the keys five times a second, and waiting has a bound. They go
    through the server of partition 0; a cluster's nodes pass messages on to each other.
    """

    def __init__(self, redis_url: str, decider: Decider) -> None:
        self.changed = asyncio.Event()
        self._address, self._decider = parse_redis_address(redis_url), decider
        self._versions: dict[str, int] = {}
        """By process, the version that it has read."""
        self._received = asyncio.Event()

    def announce_change(self) -> None:
        """Make every process read the keys."""
        self.changed.set()
        self._publish("")

    def announce_reading(self, process: str, version: int) -> None:
        """Report that this process has read the keys of this version."""
        report = f"{process} {version}"
        self._take_message(report)  # this process does not need Redis to learn it
        self._publish(report)

    async def wait_until_read(self, version: int, processes: Collection[str], timeout_s: float) -> bool:
        """Wait until these processes have read this version, or a later one. Returns whether they have."""
        living = {*processes}
        self._versions = {process: read for process, read in self._versions.items() if process in living}
        try:
            async with asyncio.timeout(timeout_s):
                while any(self._versions.get(process, -1) < version for process in living):
                    self._received.clear()
                    await self._received.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Follow the channel."""
        last = ""
        while True:
            try:
                await self._follow()
            except OSError as error:
                if last != (last := type(error.__cause__ or error).__name__):
                    log.warning("key_messages_unavailable", error=last)
            await asyncio.sleep(PAUSE_S)

    async def _follow(self) -> None:
        """Subscribe until the connection breaks, or the process's other connection leads to another server: a server
        that no longer replies, or was replaced, may keep a subscription open."""
        generation = self._decider.link(0).generation
        host = await locate(self._address)
        async with open_client(self._address, host, "scrip-api") as client:
            async with asyncio.timeout(CONNECT_S):
                await ask(client, "SUBSCRIBE", CHANNEL)
            while self._decider.link(0).generation == generation:
                if message := await client.read_response(timeout=POLL_S):  # None: no message came in time
                    self._take_message(message[2])

    def _take_message(self, message: str) -> None:
        process, _, version = message.partition(" ")
        if version.isdecimal():
            self._versions[process] = int(version)
            self._received.set()
        else:
            self.changed.set()

    def _publish(self, message: str) -> None:
        with contextlib.suppress(Refusal):  # without a connection, other processes read the keys by themselves
            self._decider.link(0).send(_ignore, ("PUBLISH", CHANNEL, message))


def _ignore(reply: Any) -> None:
    """The number of subscribers, which a cluster's node does not know, or an error, which the link reports."""
