"""Asking a primary's replica whether it still follows: then decisions need no Postgres (docs/decisions/0047)."""

import asyncio
import time

import hiredis
import structlog

from service.hot.connection import Broken, Connection, connect
from service.hot.decider import Decider
from service.hot.fitness import Replication, read_replication

POLL_S = 0.2
WAIT_MS = 300
"""How long the primary waits for the replica's reply."""
PAUSE_S = 0.5
"""Before a new connection."""

CHANNEL = "scrip:follow"
"""Replicas get messages of any channel, and they are not in the append-only file."""

log = structlog.get_logger()


async def ask_replica(connection: Connection) -> tuple[Replication, Replication]:
    """Send a message to the server's replicas. Returns its replication after that, and once a replica has acknowledged
    the message or WAIT_MS are over. Raises Broken and hiredis.ReplyError.

    WAIT makes the primary ask its replicas for acknowledgements, which come once a second otherwise.
    """
    replies = await asyncio.gather(
        connection.call("PUBLISH", CHANNEL, ""),
        connection.call("INFO", "replication"),
        connection.call("WAIT", 1, WAIT_MS),
        connection.call("INFO", "replication"),
    )
    for reply in replies:
        if isinstance(reply, hiredis.ReplyError):
            raise reply
    return read_replication(replies[1]), read_replication(replies[3])


class ReplicaPoll:
    """Asks the replica five times a second, while it may confirm some epoch.

    It has a connection of its own, because WAIT blocks one, and connects again if that leads to a server of no epoch.
    """

    def __init__(self, redis_url: str, decider: Decider) -> None:
        self._url, self._decider = redis_url, decider

    async def run(self) -> None:
        while True:
            try:
                if self._decider.has_replica_to_ask:
                    await self._poll()
            except (OSError, Broken, hiredis.ReplyError) as error:
                log.warning("replica_not_asked", error=type(error).__name__)
            await asyncio.sleep(PAUSE_S)

    async def _poll(self) -> None:
        connection = await connect(self._url, "scrip-api")
        try:
            while self._decider.has_replica_to_ask:
                sent_at = time.monotonic()
                if not self._decider.confirm(sent_at, *await ask_replica(connection)):
                    return
                await asyncio.sleep(POLL_S)
        finally:
            connection.close()
